"""A run with checkpoints, and copies of it that tests may damage."""

import shutil

import pytest

from mae_jax.train import loop


@pytest.fixture(scope="module")
def made(new_digits_config, tmp_path_factory):
    """The work folder of a run, with checkpoints of steps 6 and 8, and its config."""
    folder = tmp_path_factory.mktemp("made") / "run"
    config = new_digits_config()
    config.log.eval_every_epochs = config.log.panel_every_epochs = 10
    loop.run(config, folder, quiet=True)
    return folder, config


@pytest.fixture
def run(made, tmp_path):
    """A copy of it, which a test may damage."""
    folder = tmp_path / "run"
    shutil.copytree(made[0], folder)
    return folder
