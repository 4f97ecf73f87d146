"""Reports of many runs: tables, plots, colours, and what differs between runs."""

import json
import re

import numpy as np
import pytest

from mae_jax.reports import features as features_lib
from mae_jax.reports import find, many, matching, plots
from mae_jax.reports.comparison import Comparison


def cell(*values, diverged=()):
    mean = sum(values) / len(values) if values else None
    spread = max(values) - min(values) if len(values) > 1 else None
    found = {"accuracies": list(values), "mean": mean, "deviation": spread}
    return found | ({"diverged": list(diverged)} if diverged else {})


FINETUNE = [
    {"method": method, "labels": labels, "blocks": None, **cell(value, value + 0.1)}
    for labels in (10, 50, "all")
    for method, value in (("pretrained", 0.6), ("scratch", 0.2), ("pixels", 0.3))
]
PROBE = [
    {"encoder": name, "source": f"/{name}", "parameters": size, "output": "token",
     "logistic": cell(0.5 + size / 100), "knn": cell(0.25)}
    for name, size in (("a", 10), ("b", 20))
]  # fmt: skip
SWEEP = [
    {"model.mask_ratio": ratio, "model.norm_pix": norm, "kNN": cell(ratio, ratio / 2),
     "finetune": cell(diverged=(0, 1)) if ratio > 0.8 else cell(0.9)}
    for ratio in (0.25, 0.5, 0.875) for norm in (True, False)
]  # fmt: skip

SEARCH = [
    {"trial": trial, "train.base_lr": rate, "model.norm_pix": norm, "kNN": cell(rate),
     "finetune": {"mean": None, "deviation": None, "accuracies": [], "pruned": [0]} if norm
     else cell(0.5)}
    for trial, (rate, norm) in enumerate([(1e-3, True), (3e-2, False), (1e-1, False)])
]  # fmt: skip


def text_of(table):
    return [[one if isinstance(one, str) else one.text for one in row] for row in table.rows]


@pytest.mark.parametrize(
    ("rows", "settings", "first", "figures"),
    [
        (
            FINETUNE,
            ["method", "labels"],
            ["from the pre-trained encoder", "10", "65.0 ± 10.0 %"],
            1,
        ),
        (PROBE, ["encoder", "source", "parameters"], ["a", "/a", "10", "60.0 %", "25.0 %"], 2),
        (
            SWEEP,
            ["model.mask_ratio", "model.norm_pix"],
            ["0.25", "True", "18.8 ± 12.5 %", "90.0 %"],
            2,
        ),
    ],
)
def test_every_study_has_its_table_and_plots(rows, settings, first, figures):
    comparison = Comparison(rows)
    assert list(comparison.settings) == settings
    table = comparison.table([None] * len(rows), [])
    assert text_of(table)[0] == first and len(table.rows) == len(rows)
    assert len(table.head) == len(first)
    made = plots.over_settings(comparison, "plot")
    assert len(made) == figures
    assert first[-1] in made[-1].markup  # in words, for those who do not see it


def test_numbers_go_along_an_axis_and_names_beside_rows():
    (figure,) = plots.over_settings(Comparison(FINETUNE), "plot")
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", figure.markup)
    assert {"10", "50", "all", "from scratch", "accuracy"} & set(shown) >= {"10", "50", "all"}
    assert "the same network from scratch" in shown
    figure, _ = plots.over_settings(Comparison(PROBE), "plot")
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", figure.markup)
    assert {"a", "b"} <= set(shown)


def test_of_a_search_every_setting_has_a_figure_with_a_mark_a_trial():
    made = plots.over_settings(Comparison(SEARCH), "plot")
    assert [figure.title for figure in made] == [
        f"{measure} over {key}"
        for measure in ("kNN", "Finetune")
        for key in ("train.base_lr", "model.norm_pix")
    ]
    assert all("trial 2, base_lr 0.1, norm_pix False" in figure.markup for figure in made)


def test_the_best_is_told_and_what_diverged():
    knn, finetune = Comparison(SWEEP).best()
    assert knn.startswith("kNN: best of 6 settings is mask_ratio 0.875, norm_pix True, with 65.6")
    assert finetune.endswith("Of its draws, 4 diverged.")
    assert "best of 4 settings" in finetune
    assert Comparison([{"labels": 5, **cell(diverged=[0])}]).best() == [
        "Accuracy: nothing was measured yet. Of its draws, 1 diverged."
    ]


@pytest.fixture
def sweep(new_run, tmp_path):
    folder = tmp_path / "sweep"
    for row in SWEEP:
        ratio, norm = row["model.mask_ratio"], row["model.norm_pix"]
        own = {"model.mask_ratio": ratio, "model.norm_pix": norm}
        where = folder / f"mask_ratio={ratio},norm_pix={norm}" / "seed=0"
        new_run(where / "pretrain", own, panels=1)
        new_run(where / "finetune", {"train.objective": "classify"}, panels=0, steps=5)
    (folder / "comparison.json").write_text(json.dumps(SWEEP))
    described = {"grid": {"model.mask_ratio": [0.25, 0.5, 0.875]}, "seeds": 1, "then": {"tune": {}}}
    (folder / "sweep.json").write_text(json.dumps(described))
    return folder


def test_runs_belong_to_rows(sweep):
    found = find.find(sweep)
    assert len(found.runs) == 12 and len(found.studies) == 1
    rows = matching.rows_of(found.runs, SWEEP)
    assert len(rows) == 12
    for name, at in rows.items():
        row = SWEEP[at]
        assert f"={row['model.mask_ratio']},norm_pix={row['model.norm_pix']}/" in name
    steps = matching.step_seconds(found.runs, rows, len(SWEEP))
    assert steps == [8 / 160.0] * 6


def test_a_sweep_is_told_as_a_whole(sweep):
    about, sections = many.sections(find.find(sweep))
    assert about[0] == "sweep compares 6 settings of model.mask_ratio, model.norm_pix."
    assert about[-1] == "12 runs have work folders below it, 6 of them complete."
    by_name = {section.name: section for section in sections}
    assert list(by_name) == [
        "results0", "runs", "curves-reconstruct", "curves-classify", "panels", "differences",
        "versions",
    ]  # fmt: skip
    tables = [block for block in by_name["results0"].blocks if block.kind == "table"]
    assert text_of(tables[0])[0][-1] == "50" and tables[0].head[-1] == "ms a step"
    assert ["seeds", "1"] in text_of(tables[1]) and ["then", "tune"] in text_of(tables[1])
    figures = [
        f.title for b in by_name["results0"].blocks if b.kind == "figures" for f in b.figures
    ]
    assert figures == ["kNN", "Finetune", "kNN beside step time", "Finetune beside step time"]
    (differences,) = by_name["differences"].blocks
    assert differences.head == ("run", "model.mask_ratio", "model.norm_pix", "train.objective")


def test_a_folder_of_runs_needs_no_study(new_run, tmp_path):
    new_run(tmp_path / "a", {"model.mask_ratio": 0.25})
    new_run(tmp_path / "deep" / "b")
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    about, sections = many.sections(find.find(tmp_path))
    assert about == ["2 runs have work folders below it, 2 of them complete."]
    (table,) = next(s for s in sections if s.name == "runs").blocks
    assert [row[0] for row in text_of(table)] == ["a", "deep/b"]
    (table,) = next(s for s in sections if s.name == "differences").blocks
    assert table.head == ("key", "a", "deep/b")
    assert text_of(table) == [["model.mask_ratio", "0.25", "0.75"]]


def test_features_of_a_comparison_are_drawn(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 12 - 1
    features = rng.normal(size=(60, 8)) + 5 * np.eye(8)[labels % 3]
    classes = np.array([f"<{i}>" for i in range(11)])
    (tmp_path / "features").mkdir()
    broken = np.zeros(60, bool)
    kept = dict(features=features, labels=labels, classes=classes, broken=broken)
    np.savez(tmp_path / "features" / "a-held-out-mean.npz", **kept)
    np.savez(tmp_path / "features" / "a-train-mean.npz", **kept)
    np.savez(tmp_path / "features" / "b-held-out-mean.npz", **kept | {"features": features[0]})
    (tmp_path / "features" / "c-held-out-mean.npz").write_bytes(b"PK")
    (tmp_path / "features" / "d-held-out-mean.npz").write_bytes(b"")
    notes = []
    (figure,) = features_lib.of_study(tmp_path, "f", notes)
    assert figure.title == "Features of a, mean"
    assert figure.caption.startswith("55 held-out images; the two directions have ")
    assert figure.markup.count("<use ") > 55 and "&lt;9&gt;" in figure.markup
    assert [note.split()[0] for note in notes] == [f"{n}-held-out-mean.npz" for n in "bcd"]


def test_of_layers_the_last_is_drawn_and_patches_are_not(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "features").mkdir()
    kept = dict(labels=np.arange(20) % 2, classes=np.array(["a", "b"]), broken=np.zeros(20, bool))
    first, last, patches = np.zeros((20, 4)), rng.normal(size=(20, 4)), np.zeros((20, 3, 4))
    layers = kept | {"features_1": first, "features_2": last}
    np.savez(tmp_path / "features" / "x-held-out-token-1-2.npz", **layers)
    np.savez(tmp_path / "features" / "x-held-out-patches-2.npz", **kept, features_2=patches)
    notes = []
    (figure,) = features_lib.of_study(tmp_path, "f", notes)
    assert figure.title == "Features of x, token-1-2" and not notes
    shares = np.linalg.svd(last - last.mean(0))[1] ** 2
    assert f"have {shares[:2].sum() / shares.sum():.0%} of the variance" in figure.caption


def test_studies_in_any_state_are_told(new_run, tmp_path):
    for text, words in (
        ("[{", "comparison.json cannot be read"),
        ('{"a": 1}', "comparison.json cannot be read"),
        ("[]", "no trial has come to its end yet"),
        ('[{"labels": 3, "mean": "x", "deviation": [], "accuracies": null}]', "nothing was meas"),
        ('[{"a": {"mean": NaN}, "b": {}}, {"a": 3}, {}]', "nothing was measured yet"),
    ):
        (tmp_path / "comparison.json").write_text(text)
        about, sections = many.sections(find.find(tmp_path))
        told = [block.paragraphs for s in sections for block in s.blocks if block.kind == "text"]
        assert words in str(about) + str(told), text
