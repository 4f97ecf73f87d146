"""What a study says of the time that is left."""

import json
import time

import pytest

from mae_jax.studies import finetune, study
from mae_jax.studies.remaining import Remaining, Work, share_left
from mae_jax.train import loop


@pytest.fixture
def clock(monkeypatch):
    """The time, which a test sets."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_kinds_have_times_of_their_own(clock):
    remaining = Remaining([Work("trained"), Work("pixels")] * 3)
    clock[0] = 100.0
    remaining.ended()
    assert remaining.words() == "eta 0:03:20 or more"  # of pixels nothing is known yet
    clock[0] = 101.0
    remaining.ended()
    assert remaining.words() == "eta 0:03:22"


def test_what_was_done_before_takes_no_time_and_says_nothing(clock):
    work = [Work(share=0.0), Work(share=0.1), Work(share=1.0), Work(share=0.5), Work(share=0.0)]
    remaining = Remaining(work)
    for seconds in (1.0, 20.0):  # the start of a process is no speed
        clock[0] += seconds
        remaining.ended()
        assert remaining.words() == ""
    clock[0] += 60.0
    remaining.ended()
    assert remaining.words() == "eta 0:00:30"
    clock[0] += 30.0
    remaining.ended()
    assert remaining.words() == ""


def test_more_than_was_asked_for(clock):
    remaining = Remaining([Work()])
    remaining.ended()
    remaining.ended()
    assert remaining.words() == ""


def test_share_of_a_run(new_digits_config, tmp_path):
    assert share_left(tmp_path / "nowhere") == 1
    config = new_digits_config()
    config.train.steps, config.log.knn, config.data.eval_split = 4, False, None
    loop.run(config, tmp_path / "run", quiet=True)
    assert share_left(tmp_path / "run") == 0
    assert share_left(tmp_path / "run", 16) == 0.75
    for text in ("{", "[]", '{"steps": 0}', "{}"):
        (tmp_path / "run/checkpoints/4/position/metadata").write_text(text)
        assert share_left(tmp_path / "run") == 1


def test_a_comparison_s_work(new_digits_config, tmp_path, monkeypatch):
    """Runs of the same steps are alike for any number of labels; the rest is not."""
    config, given = new_digits_config(), []
    config.train.objective, config.train.steps = "classify", 6
    config.train.warmup_steps, config.init_from = 1, str(tmp_path / "encoder")
    monkeypatch.setattr(study, "run", lambda trials, total, folder, work: given.append(work) or [])
    monkeypatch.setattr(study, "save", lambda *given: None)
    options = {"labels": [1, 2], "draws": 1, "baselines": True}
    finetune.compare(config, tmp_path / "a", **options)
    config.train.steps, config.train.epochs = None, 2.0
    finetune.compare(config, tmp_path / "b", **options)
    assert all(work.share == 1 for work in given[0] + given[1])
    assert [len({work.kind for work in made}) for made in given] == [4, 6]
    methods = [json.loads(work.kind)["method"] for work in given[0]]
    assert methods == ["pretrained", "scratch", "pixels"] * 2
