"""Labels from a table: what it may say, and what becomes of images that it does not name."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mae_jax.config import default_config
from mae_jax.data import describe, sources
from mae_jax.data.records import NO_LABEL
from mae_jax.errors import UsageError
from mae_jax.train.task import prepare


@pytest.fixture
def data(tmp_path):
    """Ten images in folders that are no classes, of which six are labelled."""
    rng = np.random.default_rng(0)
    for index in range(10):
        folder = tmp_path / "photos" / f"day {index % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(folder / f"{index}.png")
    rows = [f"day {i % 2}/{i}.png,{'cat' if i < 3 else 'dog'},0.9" for i in range(6)]
    rows += ["day 0/8.png,,"]  # not labelled yet
    (tmp_path / "labels.csv").write_text("\n".join(["name,class,probability", *rows]) + "\n")
    data = default_config().data
    data.folder, data.labels = str(tmp_path / "photos"), str(tmp_path / "labels.csv")
    return data


def test_labels_are_the_tables(data):
    source = sources.open_source(data, "all")
    assert list(source.classes) == ["cat", "dog"] and len(source) == 10
    names = [source.name(index) for index in range(10)]
    by_name = dict(zip(names, source.labels().tolist(), strict=True))
    assert by_name["day 0/0.png"] == 0 and by_name["day 1/5.png"] == 1
    assert by_name["day 0/8.png"] == by_name["day 1/9.png"] == NO_LABEL
    assert [source[i].label for i in range(10)] == source.labels().tolist()
    assert describe.describe(source).endswith("cat (3), dog (3); 4 have no label")
    some = sources.labelled(source)
    assert len(some) == 6 and (some.labels() != NO_LABEL).all()
    before = source.fingerprint()
    table = Path(data.labels)
    table.write_text(table.read_text().replace("day 0/0.png,cat", "day 0/0.png,dog"))
    assert sources.open_source(data, "all").fingerprint() != before


def test_pretraining_takes_all_images_and_classifiers_the_labelled(data):
    config = default_config()
    config.data.folder, config.data.labels, config.data.split = data.folder, data.labels, "all"
    config.data.batch_size, config.train.steps, config.train.warmup_steps = 8, 1, 0
    assert len(prepare(config, 8).train) == 10
    config.train.objective = "classify"
    assert len(prepare(config, 8).train) == 6
    config.data.labels_per_class = 2
    assert len(prepare(config, 8).train) == 4
    config.data.folder, config.data.name = None, "handwritten_digits"
    with pytest.raises(UsageError, match=r"data\.labels .* goes with data\.folder"):
        prepare(config, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column 'name'"),
        ("name,labelled\na,b\n", "has no column 'class'; its first line must name the columns, "),
        ("name;class\na;b\n", "columns, separated by commas, name and class among them, and is"),
        ("name,class\nday 0/0.png,\n", "gives no image a class"),
        ("name,class\n0.png,cat\n", "names '0.png' in line 2, which is no image of the data"),
        ("name,class\nday 0/0.png,cat\nday 0/0.png,dog\n", "'cat' and, in line 3, 'dog'"),
    ],
)
def test_tables_that_are_wrong(data, text, message):
    Path(data.labels).write_text(text)
    with pytest.raises(UsageError, match=re.escape(message)):
        sources.open_source(data, "all")


def test_a_table_that_is_not_there(data):
    data.labels = "nowhere.csv"
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        sources.open_source(data, "all")
