"""What importing costs, and which way imports run."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mae_jax"
# A module may import from its own layer and from those below.
LAYERS = [
    {"beats", "errors", "leaving", "models", "pixels", "supervisor"},
    {"config", "data", "hosts", "parallel", "storage"},
    {"evaluation", "visualize"},
    {"train"},
    {"weights", "planning"},
    {"inference"},
    {"diagnosis"},
    {"studies"},
    {"reports"},
    {"commands"},
    {"api", "cli"},
]


def layer(module: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if module in names)


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    ours = {name.split(".")[1] for name in names if name.startswith("mae_jax.")}
    return ours - {"__version__"}


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_run_one_way(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part == "__init__":
        return
    for other in imported(path):
        assert layer(other) <= layer(part), f"{part} imports {other}"
        if part == "models":
            assert other == "models"


def loaded_by(statement: str) -> set[str]:
    program = f"{statement}; import sys; print(' '.join(sys.modules))"
    return set(subprocess.check_output([sys.executable, "-c", program], text=True).split())


def test_the_package_is_light_until_used():
    modules = loaded_by("import mae_jax")
    assert not modules & {"jax", "tensorflow", "tensorflow_datasets", "torch"}


def test_models_and_steps_need_neither_tensorflow_nor_tfds():
    modules = loaded_by("import mae_jax; mae_jax.MaskedAutoencoder; import mae_jax.train.step")
    assert "jax" in modules
    assert not modules & {"tensorflow", "tensorflow_datasets", "clu", "grain"}


def test_who_supervises_needs_nothing():
    modules = loaded_by("from mae_jax import cli, supervisor")
    assert not modules & {"jax", "numpy", "absl", "ml_collections", "ctypes", "threading"}


def test_help_needs_no_jax():
    modules = loaded_by("from mae_jax import cli; assert cli.main(['mae-jax', '--help']) == 0")
    assert not modules & {"jax", "tensorflow"}


def test_weights_need_no_hub():
    modules = loaded_by("from mae_jax.weights import hub, push, read; read.read")
    assert "mae_jax.weights.hub" in modules and "huggingface_hub" not in modules
