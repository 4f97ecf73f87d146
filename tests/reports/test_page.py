"""Reports as pages: whole in themselves, of any folder, whatever is written there."""

import importlib.util
import json
import os
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from mae_jax import cli
from mae_jax.errors import UsageError
from mae_jax.reports import page

_VOID = {"meta", "link", "img"}


class Page(HTMLParser):
    """What a browser would find: elements, text, and whether they are closed in order."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.words, self._open = [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def report(folder, out):
    return Page(out) if page.write(folder, out)["report"] == str(out) else None


@pytest.fixture
def out(tmp_path):
    return tmp_path / "pages" / "page.html"


def test_a_page_has_all_of_it_inside(new_run, tmp_path, out):
    changes = {"model.mask_ratio": 0.5, "data.name": "flowers"}
    folder = new_run(tmp_path / "run", changes, panels=3)
    (folder / "features.png").write_bytes((folder / "panels/step_00000001.png").read_bytes())
    estimate = {"topology": "v3:8x8", "devices": 64, "fits": True, "step_seconds": 0.25}
    (folder / "plan.json").write_text(json.dumps(estimate) + "\n")
    found = report(folder, out)

    assert "://" not in found.source and not found.all("script")
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in found.elements:
        for name in ("src", "href"):
            url = attributes.get(name, "data:")
            assert url.startswith("data:") or url.removeprefix("#") in ids, (tag, url)
        assert not any(name.startswith("on") for name in attributes)
    assert len(found.all("h1")) == len(found.all("title")) == 1
    assert len(found.all("img")) == 4 and all(image["alt"] for image in found.all("img"))
    plots = found.all("svg")
    assert len(plots) == 4 and all(plot["role"] == "img" for plot in plots)
    assert "from 1.25 at step 1 to 0.0625 at step 20" in plots[0]["aria-label"]

    values = {float(attributes["value"]) for attributes in found.all("data")}
    assert {1.25, 0.0625, 0.02, 160.0, 0.75 - 20 / 128, 20 / 64} <= values
    assert "pre-trained on flowers" in found.text and "50% of the patches" in found.text
    assert "It is complete: all 20 steps were made." in found.text
    assert "kNN accuracy 31.2 % at step 20 (15.6 % at step 10)" in found.text
    for words in ("model.mask_ratio", "0.10.2", "v3:8x8", "250.0", "step 3", "TPU v3"):
        assert words in found.text


def test_the_same_folder_gives_the_same_page(new_run, tmp_path, capsys):
    folder = new_run(tmp_path / "run")
    for name in ("a.html", "b.html"):
        assert cli.main(["mae-jax", "report", str(folder), f"--out={tmp_path / name}"]) == 0
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert str(tmp_path / "b.html") in capsys.readouterr().out
    assert cli.main(["mae-jax", "report", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"report": str(folder / "report.html"), "runs": 1, "studies": 0}
    assert (folder / "report.html").read_bytes() == (tmp_path / "a.html").read_bytes()


def test_names_are_text_and_nothing_else(new_run, tmp_path, out):
    hostile = '<script>alert("1")</script>&amp;$\\frac{'
    name = os.fsdecode(b"\xff <b>bold<br>")
    changes = {"data.folder": f"{hostile}\u202e\x00", "data.name": None}
    folder = new_run(tmp_path / name, changes)
    with (folder / "metrics.jsonl").open("a") as lines:
        lines.write(json.dumps({"step": 20, hostile: 3.5}) + "\n")
    position = folder / "checkpoints" / "20" / "position"
    position.mkdir(parents=True)
    (position.parent / "manifest.json").write_text("")
    (position / "metadata").write_text(json.dumps({"step": 20, "classes": [hostile, "{{ 1 }}"]}))
    found = report(folder, out)
    assert not {"script", "b", "br"} & {tag for tag, _ in found.elements}
    assert found.text.count(hostile) >= 4 and "{{ 1 }}" in found.text
    assert "\\udcff <b>bold" in found.text and "\\u202e" in found.text

    study = tmp_path / "study"
    folder.rename(study / "run") if study.mkdir() is None else None
    cell = {"accuracies": [0.5], "mean": 0.5, "deviation": None}
    rows = [{"encoder": f"{hostile}{index}", hostile: cell} for index in range(2)]
    (study / "comparison.json").write_text(json.dumps(rows))
    found = report(study, out)
    assert not {"script", "b", "br"} & {tag for tag, _ in found.elements}
    assert f"{hostile}0" in found.text


def _torn(path):
    text = path.read_text()
    path.write_text(text[: len(text) - 9])


def _append(path, *lines):
    with path.open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


STATES = {
    "nothing but a config": (
        lambda f: (f / "metrics.jsonl").unlink(),
        "There is no metrics.jsonl yet",
    ),
    "an empty file": (lambda f: (f / "metrics.jsonl").write_text(""), "no step was recorded yet"),
    "a torn line": (lambda f: _torn(f / "metrics.jsonl"), "step 20 of 20|step 19 of 20|all 20"),
    "a loss that is null": (
        lambda f: _append(f / "metrics.jsonl", '{"step": 21, "loss": null}'),
        "The loss is no longer finite",
    ),
    "NaN as a number": (
        lambda f: _append(f / "metrics.jsonl", '{"step": 21, "loss": NaN, "lr": 1e999}'),
        "1 of 21 values were not finite",
    ),
    "lines of another kind": (
        lambda f: _append(
            f / "metrics.jsonl", "7", "[]", '{"step": "x"}', '{"step": 3, "loss": [1], "a": true}'
        ),
        "all 20 steps",
    ),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "a torn config": (lambda f: _torn(f / "config.json"), "config.json is missing, or cannot"),
    "a config of another version": (
        lambda f: (f / "config.json").write_text(
            '{"config": {"old": {"key": [1]}, "train": {"steps": "many"}}, "versions": 3,'
            ' "changed": [{"step": 5, "keys": ["log.knn: True -> False"]}, 7]}'
        ),
        "log.knn: True -> False",
    ),
    "a torn panel": (
        lambda f: (f / "panels/step_00000002.png").write_bytes(b"\x89PNG\r\n\x1a\n1234"),
        "step_00000002.png cannot be shown",
    ),
    "a plan that is none": (lambda f: (f / "plan.json").write_text("{}"), "plan.json is not what"),
}


@pytest.mark.parametrize("state", STATES)
def test_a_run_in_any_state_has_a_page(new_run, tmp_path, out, state):
    folder = new_run(tmp_path / "run")
    spoil, words = STATES[state]
    spoil(folder)
    text = report(folder, out).text
    assert any(one in text for one in words.split("|")), text


def test_a_long_run_is_a_small_page(new_run, tmp_path, out):
    folder = new_run(tmp_path / "run", panels=0)
    lines = (json.dumps({"step": s, "loss": 1 / s, "lr": 0.1}) for s in range(1, 20_001))
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    noise = np.random.default_rng(0).integers(0, 256, (700, 640, 3), np.uint8)
    Image.fromarray(noise).save(folder / "panels" / "step_00000000.png", compress_level=1)
    for step in range(1, 40):
        os.link(folder / "panels/step_00000000.png", folder / f"panels/step_{step:08d}.png")
    found = report(folder, out)
    assert len(found.source) < 5_000_000
    assert "the mean of about 50 records" in found.text
    assert "Of 40 pictures, 8 are on this page" in found.text
    titles = [image["alt"] for image in found.all("img")]
    assert len(titles) == 8 and titles[0] == "step 0" and titles[-1] == "step 39"


def test_what_cannot_be_is_one_sentence(new_run, tmp_path, monkeypatch):
    folder = new_run(tmp_path / "run")
    exported = tmp_path / "exported"
    exported.mkdir()
    (exported / "config.json").write_text('{"model_type": "vit_mae"}')
    for source, out, words in (
        (tmp_path / "none", None, "is not a folder"),
        (exported, None, "neither the work folder of a run nor of a study"),
        (folder, tmp_path / "page.pdf", "must end in .html"),
        (folder, folder / "config.json", "must end in .html"),
        (folder, folder / "config.json" / "page.html", "cannot be written"),
    ):
        with pytest.raises(UsageError, match=words):
            page.write(source, out)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs jinja2 and matplotlib; pip install"):
        page.write(folder)


def test_a_page_that_is_there_is_replaced_whole(new_run, tmp_path, monkeypatch):
    folder, out = new_run(tmp_path / "run"), tmp_path / "page.html"
    out.write_text("before")

    def full(*arguments, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UsageError, match="No space left"):
        page.write(folder, out)
    assert out.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["page.html"]
