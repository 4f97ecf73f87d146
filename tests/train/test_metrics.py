import json

import pytest

from mae_jax.train import metrics


def test_lines_of_steps_made_again_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "loss": 1.0}) for step in (1, 2, 3)]
    path.write_text("\n".join(lines) + '\n{"step": 4, "lo')
    writer = metrics.Metrics(tmp_path, tensorboard=False, resumed_at=2)
    writer.write(3, {"loss": 0.5})
    writer.close()
    assert [(line["step"], line["loss"]) for line in metrics.read(tmp_path)] == [
        (1, 1.0), (2, 1.0), (3, 0.5),
    ]  # fmt: skip


def test_what_is_not_finite_is_null(tmp_path):
    writer = metrics.Metrics(tmp_path, tensorboard=False)
    writer.write(1, {"loss": float("nan")})
    writer.close()
    assert metrics.read(tmp_path) == [{"step": 1, "loss": None}]


def test_progress_line(monkeypatch):
    clock = iter([0.0, 10.0])
    monkeypatch.setattr(metrics.time, "perf_counter", lambda: next(clock))
    progress = metrics.Progress(first=100, steps=400, steps_per_epoch=50, batch_size=32)
    progress.waited(2.0)
    progress.aside(2.0)
    numbers = progress.measure(200)
    assert numbers == {"images_per_second": pytest.approx(400), "data_wait_share": 0.25}
    assert progress.line(200, {"loss": 0.5, "lr": 1e-3} | numbers) == (
        "step 200/400 (50%)  epoch 4.0  loss 0.5000  lr 1.00e-03  400 images/s"
        "  data wait 25%  eta 0:00:16"
    )
