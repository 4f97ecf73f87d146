"""What `mae-jax bench` measures, on the digits."""

import json

import pytest

from mae_jax import cli
from mae_jax.commands import verbs
from mae_jax.errors import UsageError
from mae_jax.models import flops, sizes
from mae_jax.planning import bench

SMALL = [
    "model.width=16", "model.heads=2", "model.depth=1", "model.decoder_width=16",
    "model.decoder_depth=1", "model.decoder_heads=2", "data.batch_size=16",
    "data.split=train[:100]", "data.eval_split=test[:13]",
]  # fmt: skip


def test_the_verb(capsys, tfds_dir):
    changes = [f"--config.{setting}" for setting in [*SMALL, f"data.dir={tfds_dir}"]]
    command = ["mae-jax", "bench", "--config=configs/digits.py", *changes, "--steps=4"]
    assert cli.main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["batch_size"] == 16 and "cpu" in found["device"]
    assert 0 < found["step_seconds_from"] <= found["step_seconds"] <= found["step_seconds_to"]
    assert found["images_per_second"] == pytest.approx(16 / found["step_seconds"], rel=1e-3)
    d = sizes.resolve("tiny", image_size=8, patch_size=2, channels=1, width=16, heads=2, depth=1,
                      decoder_width=16, decoder_depth=1, decoder_heads=2)  # fmt: skip
    per_second = flops.training_flops(d, 0.75) * found["images_per_second"]
    assert found["flops_per_second"] == pytest.approx(per_second, rel=1e-2)
    assert 0 < found["peak_share"] < 1 and "measured" in found["peak"]
    assert found["input_images_per_second"] > 0 and found["training_images_per_second"] > 0
    assert 0 <= found["data_wait_share"] <= 1
    assert found["training_steps"] == round(300 * 100 / 16)
    seconds = found["training_steps"] * 16 / found["training_images_per_second"]
    assert found["training_seconds"] == pytest.approx(seconds, rel=1e-2)
    slower = found["input_images_per_second"] < found["images_per_second"]
    assert (
        found["limit"] == ("input" if slower else "step") and "the loader makes" in found["advice"]
    )


def test_how_long_all_of_training_takes():
    result = {"limit": "step", "training_steps": 12345, "training_seconds": 90061.2}
    said = verbs()["bench"].text(result).splitlines()
    assert said == [
        "limit        step",
        "all of training: 12345 steps in about 1 day, 1:01:01 on this machine, without evaluation "
        "and saving",
    ]


def test_a_classifier(digits_config):
    digits_config.train.objective = "classify"
    assert bench.bench(digits_config, steps=3)["peak_share"] > 0


def test_what_limits():
    slow, fast = 10.0, 100.0
    assert bench._limit({"images_per_second": fast, "input_images_per_second": slow})[0] == "input"
    assert bench._limit({"images_per_second": slow, "input_images_per_second": fast})[0] == "step"


def test_too_few_steps(digits_config):
    with pytest.raises(UsageError, match="--steps=2 must be at least 3"):
        bench.bench(digits_config, steps=2)
