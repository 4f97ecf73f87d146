"""`mae-jax diagnose`, on runs and on weights."""

import io
import json
import shutil

import numpy as np
import pytest
from ml_collections import config_dict
from PIL import Image

import mae_jax
from mae_jax import cli
from mae_jax import config as config_lib
from mae_jax.config.key import Key
from mae_jax.config.schema import SCHEMA
from mae_jax.data import sources
from mae_jax.errors import UsageError
from mae_jax.models import sizes, transformer
from mae_jax.reports import page
from mae_jax.train import loop, workdir
from mae_jax.weights import export
from mae_jax.weights.read import read


@pytest.fixture(scope="module")
def run(new_digits_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("diagnosed") / "run"
    config = new_digits_config()
    config.log.panel_every_epochs = 10
    loop.run(config, folder, quiet=True)
    return folder


def test_a_run_that_has_only_begun(run, capsys, tmp_path):
    assert cli.main(["mae-jax", "diagnose", str(run), f"--out={tmp_path / 'd'}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"][0]["name"] == "only begun"
    losses = found["losses"]
    assert losses["free"].keys() == {
        "mean of the patch", "mean image", "nearest visible patch", "smooth interpolation",
    }  # fmt: skip
    assert losses["train"] > 0 and losses["held_out"] > 0 and losses["ratio"] == 0.75
    assert found["features"]["moved"] > 0 and found["features"]["like_start"] > 0.3
    assert found["images"]["held out"]["images"] == 13 and found["run"]["records"] == 100
    assert found == json.loads((tmp_path / "d" / "diagnosis.json").read_text()) | {
        "sheet": str(tmp_path / "d" / "neighbours.png")
    }
    with Image.open(tmp_path / "d" / "neighbours.png") as sheet:
        assert sheet.width > 300
    assert cli.main(["mae-jax", "diagnose", str(run)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("only begun: training has only begun\n") and "  -> train on" in text
    assert "smooth interpolation" in text


def test_the_run_itself_measures_some_of_it(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if "eval_train_loss" in line][-1]
    assert last["step"] == 8 and last["eval_train_loss"] > 0 and 1 <= last["eval_rank"] <= 13


def test_a_report_shows_it(run, tmp_path):
    mae_jax.diagnose(run, out=run / "diagnosis")
    page.write(run, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "Is it learning?" in text and "training has only begun" in text
    assert "smooth interpolation" in text
    (run / "diagnosis" / "diagnosis.json").write_text("{")
    page.write(run, tmp_path / "page.html")
    assert "diagnosis.json cannot be shown" in (tmp_path / "page.html").read_text()


def test_weights_alone(run, photos, tmp_path):
    for part in ("encoder", "full"):
        export.export(read(run), tmp_path / part, format="safetensors", part=part)
    with pytest.raises(UsageError, match="does not say what it was trained on; give --images"):
        mae_jax.diagnose(tmp_path / "full")
    found = mae_jax.diagnose(tmp_path / "encoder", images=photos, count=20)
    assert found.losses is None and found.run is None
    found = mae_jax.diagnose(tmp_path / "full", images=photos, count=20)
    assert found.losses["train"] is None and found.features["moved"] is None
    assert found.images["held out"]["images"] == 20


@pytest.mark.parametrize("target", ["pca", "raw"])
def test_other_targets(target, digits_config, tmp_path):
    if target == "pca":
        digits_config.model.target, digits_config.model.pca_components = "pca", 3
    else:
        digits_config.model.norm_pix, digits_config.data.eval_split = False, None
    digits_config.train.steps = 2
    loop.run(digits_config, tmp_path / "run", quiet=True)
    found = mae_jax.diagnose(tmp_path / "run", count=30)
    assert found.verdict[0]["name"] == "only begun"
    assert ("bands" in found.losses) is (target == "raw")
    assert (found.losses["train"] is None) is (target == "raw")


def test_a_decoder_of_no_depth(digits_config, tmp_path, monkeypatch):
    """Which is refused; where it is there all the same, it is told by what it predicts."""
    monkeypatch.setitem(SCHEMA["model"], "decoder_depth", Key(None, "", kind=int))
    monkeypatch.setattr(sizes, "_check", lambda dimensions: None)
    apply_blocks = transformer.apply_blocks

    def or_none(stack, x, *, queries=None, **how):
        return apply_blocks(stack, x, queries=queries, **how) if len(stack) else x[:, :queries]

    monkeypatch.setattr(transformer, "apply_blocks", or_none)
    digits_config.model.decoder_depth, digits_config.train.steps = 0, 150
    digits_config.log.eval_every_epochs = digits_config.log.panel_every_epochs = 1e6
    digits_config.checkpoint.every_epochs = 1e6
    loop.run(digits_config, tmp_path / "run", quiet=True)
    assert "no context" in [v["name"] for v in mae_jax.diagnose(tmp_path / "run").verdict]


def test_broken_and_blank_images(run, tmp_path):
    for number in range(8):
        path = tmp_path / "images" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), 20 * number, np.uint8)).save(path)
        if number % 2:
            path.write_bytes(path.read_bytes()[:40])
    found = mae_jax.diagnose(run, images=tmp_path / "images")
    assert {one["name"] for one in found.verdict} >= {"broken images", "blank images"}
    assert found.images["held out"]["broken"] == 0.5


@pytest.mark.parametrize("norm_pix", [True, False])
def test_values_without_data_do_not_count(norm_pix, digits_config, tmp_path):
    """Whatever stands for them, the loss is the run's own."""
    source = sources.open_source(digits_config.data, "train[:60]")
    for index in range(60):
        picture = np.array(Image.open(io.BytesIO(source[index].data)), np.float32)
        picture[:, :5] = np.nan
        folder = tmp_path / "images" / ("train" if index < 40 else "test")
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{index}.npy", picture)
    data = digits_config.data
    data.name, data.folder = None, str(tmp_path / "images")
    data.split, data.eval_split, data.pixels, data.nodata = "train", "test", "float32", "nan"
    data.mean, data.std, digits_config.model.norm_pix = (78.0,), (96.0,), norm_pix
    digits_config.train.steps = 2
    run = loop.run(digits_config, tmp_path / "run", quiet=True)
    found = mae_jax.diagnose(tmp_path / "run")
    assert found.losses["held_out"] == pytest.approx(run["measures"]["eval_loss"], rel=0.2)
    assert found.losses["train"] == pytest.approx(run["measures"]["eval_train_loss"], rel=0.2)
    assert "bands" not in found.losses
    assert all(np.isfinite(list(found.losses["free"].values())))


def test_a_run_that_went_on_may_stay_near(run, tmp_path):
    found = mae_jax.pretrain(_going_on(run), tmp_path / "on", quiet=True)
    diagnosed = mae_jax.diagnose(found.workdir)
    assert diagnosed.features["moved"] < 0.01 and diagnosed.features["like_start"] > 0.99
    assert "rate too low" not in [one["name"] for one in diagnosed.verdict]


def _going_on(run):
    config = config_lib.default_config()
    config.update(config_dict.ConfigDict(workdir.read_config(run)))
    config.init_from, config.train.base_lr, config.train.steps = str(run), 1e-7, 120
    config.log.eval_every_epochs = config.checkpoint.every_epochs = 1e6
    return config


def test_images_of_another_size_than_the_run_had(run):
    found = mae_jax.diagnose(run, image_size=16)
    assert found.features["like_start"] is not None


def test_one_folder_of_images_without_labels_is_no_single_class(run, photos, tmp_path):
    shutil.copytree(photos / "temple" / "0", tmp_path / "photos" / "camera")
    assert len(sources.open_images(tmp_path / "photos").classes) == 1
    found = mae_jax.diagnose(run, images=tmp_path / "photos")
    assert found.images["held out"]["images"] >= 20
    assert found.images["held out"]["classes"] is None
    assert "little content" not in [one["name"] for one in found.verdict]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--images=x", "--config=configs/digits.py"], "at most one of --images and --config"),
        (["--config=configs/folder.py", "--config.data.pixels=uint8"], "names no images"),
        (["--count=1"], "--count=1 must be at least 2"),
        (["--images=/nowhere"], "/nowhere"),
        (["--out=/proc/x"], "--out '/proc/x' cannot be written"),
    ],
)
def test_bad_input_is_one_sentence(flags, message, run, capsys):
    assert cli.main(["mae-jax", "diagnose", str(run), *flags]) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err
