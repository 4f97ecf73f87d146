"""Work folders as runs and studies leave them, without any training."""

import json

import numpy as np
import pytest

from mae_jax.config import default_config
from mae_jax.train.metrics import Metrics
from mae_jax.visualize import reconstruction


def write_run(folder, changes=(), *, steps=20, panels=2):
    """A run of so many steps.

    Args:
      changes: of its config, as keys and values.
      panels: how many, of noise.
    """
    config = default_config()
    config.data.name, config.train.steps, config.data.batch_size = "pictures", 20, 8
    for key, value in dict(changes).items():
        config.update_from_flattened_dict({key: value})
    folder.mkdir(parents=True)
    record = {"config": config.to_dict(), "versions": {"jax": "0.10.2", "mae_jax": "0.1.0"}}
    record["hardware"] = {"devices": 8, "kind": "TPU v3", "processes": 2, "cores": 96}
    (folder / "config.json").write_text(json.dumps(record))
    written = Metrics(folder, tensorboard=False)
    for step in range(1, steps + 1):
        written.write(step, {"loss": 1.25 / step, "lr": 1e-3 * step, "images_per_second": 160.0})
        if step % 10 == 0:
            written.write(step, {"eval_loss": 0.75 - step / 128, "eval_knn_accuracy": step / 64})
    written.close()
    noise = np.random.default_rng(0).random((4, 16, 16, 3))
    (folder / "panels").mkdir()
    for step in range(1, panels + 1):
        sheet = reconstruction.panel({"masked": noise, "original": noise})
        sheet.save(folder / "panels" / f"step_{step:08d}.png")
    return folder


@pytest.fixture(scope="session")
def new_run():
    """Makes the work folder of a run."""
    return write_run
