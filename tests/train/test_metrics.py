import json

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
