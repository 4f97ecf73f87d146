"""Every file in configs/ is a valid config, and opens with its command."""

import importlib.util
from pathlib import Path

import pytest

from mae_jax import config as config_lib

FILES = sorted((Path(__file__).parents[2] / "configs").rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_config_file(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    variants = getattr(module, "VARIANTS", None) or getattr(module, "SIZES", None)
    for arguments in [(name,) for name in variants] if variants else [()]:
        check(module.get_config(*arguments), evaluates="mae-jax evaluate" in module.__doc__)
    where = path.relative_to(FILES[0].parents[1])
    assert f"--config={where.as_posix()}" in module.__doc__


def check(config, evaluates):
    if config.data.name is None:
        config.data.folder = "given on the command line"
    if config.init_part is not None:
        config.init_from = "given there, too"
    config_lib.validate(config, trains=not evaluates)
    if min(config.model.image_size or (224,)) < 96:  # of so few pixels none is cut away
        assert config.data.eval_crop == 1.0


def test_there_are_configs_for_the_papers_models():
    assert {"b16", "l16", "h14", "folder", "digits"} <= {path.stem for path in FILES}
