"""Many runs as one, with trials that take no time."""

import json

import pytest

from mae_jax.errors import Diverged, UsageError
from mae_jax.studies import finetune, probe, study
from mae_jax.visualize import curves


def trial(method, draw, value, **options):
    def measure(folder):
        if value is None:
            raise Diverged("step 3: loss nan")
        return {"accuracy": value, **options.get("more", {})}

    row = {"method": method, "labels": None, "blocks": None}
    return study.Trial(row, draw, f"{method}-{draw}", measure, options.get("column"))


def test_rows_are_of_trials_that_differ_in_the_draw(tmp_path, capsys):
    asked = []

    def made():
        for method, values in (("pretrained", (0.5, 0.7)), ("scratch", (0.25,))):
            for draw, value in enumerate(values):
                if asked:  # what was measured so far is in the file already
                    assert len(json.loads((tmp_path / study.JSON).read_text())) == asked[-1]
                asked.append(1 + (method == "scratch"))
                yield trial(method, draw, value)

    rows = study.run(made(), 3, tmp_path)
    assert [(row["method"], row["accuracies"]) for row in rows] == [
        ("pretrained", [0.5, 0.7]), ("scratch", [0.25]),
    ]  # fmt: skip
    assert rows[0]["mean"] == pytest.approx(0.6) and rows[0]["deviation"] == pytest.approx(
        0.1414, rel=1e-3
    )
    assert rows[1]["deviation"] is None
    assert rows == json.loads((tmp_path / study.JSON).read_text())
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("1 of 3  pretrained-0  50.0%  eta 0:00:00")
    assert lines[2] == "3 of 3  scratch-0  25.0%"


def test_columns_of_a_row(tmp_path):
    trials = [trial("a", d, 0.5, column=c, more={"extra": d}) for c in ("x", "y") for d in range(2)]
    (row,) = study.run(trials, 4, tmp_path)
    assert row["x"]["accuracies"] == row["y"]["accuracies"] == [0.5, 0.5]
    assert row["x"]["extra"] == [0, 1] and row["x"]["deviation"] == 0


def test_what_diverged_is_a_row_with_fewer_values(tmp_path, capsys):
    values = [("pretrained", 0, 0.5), ("pretrained", 1, None), ("pretrained", 2, 0.7)]
    values += [("scratch", draw, None) for draw in range(2)]
    rows = study.run([trial(*value) for value in values], 5, tmp_path)
    assert rows[0]["accuracies"] == [0.5, 0.7] and rows[0]["diverged"] == [1]
    assert rows[1]["accuracies"] == [] and rows[1]["mean"] is None
    assert "2 of 5  pretrained-1  diverged: step 3: loss nan  eta" in capsys.readouterr().err
    first, second = finetune.table(rows).splitlines()
    assert first.endswith("60.0 ± 14.1 % (1 of 3 diverged)") and second.endswith("diverged")
    assert "| 60.0 ± 14.1 % (1 of 3 diverged) |" in finetune.markdown(rows)
    if curves.available():
        for row, labels in zip(rows, (1, 2), strict=True):
            row["labels"] = labels
        assert curves.draw(rows, tmp_path / "curve.png").is_file()


def test_where_all_diverge_the_study_has(tmp_path):
    with pytest.raises(Diverged, match="all 2 trials in .* diverged; the last one: .* loss nan"):
        study.run([trial("a", draw, None, column="x") for draw in range(2)], 2, tmp_path)
    assert (tmp_path / study.JSON).is_file()


def test_other_mistakes_end_the_study(tmp_path):
    def measure(folder):
        raise UsageError("wrong")

    with pytest.raises(UsageError, match="wrong"):
        study.run([study.Trial({}, 0, "a", measure)], 1, tmp_path)


def test_tables_of_probes_show_it_too():
    row = dict(encoder="a", parameters=1e6, output="token", width=8)
    row["knn"] = dict(accuracies=[0.5], mean=0.5, deviation=None)
    row["linear"] = dict(accuracies=[], mean=None, deviation=None, diverged=[0])
    table = probe.markdown([row]).splitlines()
    assert table[0] == "| encoder | parameters | features | kNN | linear (LARS) |"
    assert table[2] == "| a | 1.00 M | token, 8 | 50.0 % | diverged |"
