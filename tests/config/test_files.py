"""Config files are found here, in a checkout and in what a wheel installs."""

import subprocess
import sys
from pathlib import Path

import pytest

from mae_jax.commands import configs
from mae_jax.config import files
from mae_jax.errors import UsageError

TOP = Path(__file__).parents[2]


def test_those_that_come_along_are_found_from_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert files.found("configs/digits.py") == str(TOP / "configs/digits.py")
    found = files.found("configs/in1k/finetune.py:h14_448")
    assert found == f"{TOP}/configs/in1k/finetune.py:h14_448"
    assert configs.read("configs/digits.py").model.image_size == (8, 8)


def test_one_that_lies_here_comes_first(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/digits.py").write_text("def get_config(): ...")
    monkeypatch.chdir(tmp_path)
    assert files.found("configs/digits.py") == "configs/digits.py"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("configs/digit.py", "does not exist; .* as configs/digits.py"),
        ("digits.py", "'digits.py' does not exist"),
        ("../configs/digits.py", "does not exist"),
        ("configs", "'configs' is not Python"),
        ("configs/digits.yaml:b16", "'configs/digits.yaml:b16' is not Python"),
        ("", "'' is not Python"),
    ],
)
def test_what_is_not_there(tmp_path, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=said):
        files.found(name)


@pytest.mark.slow
def test_a_wheel_has_all_of_them(tmp_path):
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build", f"--build-base={tmp_path}"],
        cwd=TOP, check=True, capture_output=True,
    )  # fmt: skip
    package = tmp_path / "lib/mae_jax"
    assert (package / "py.typed").is_file() and (package / "reports/templates/page.html").is_file()
    built = subprocess.run(
        [sys.executable, "-c", "from mae_jax.config import files; print(*files.names())"],
        cwd=tmp_path / "lib", check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert built.stdout.split() == files.names()
    assert len(list(package.rglob("configs/**/*.py"))) == len(files.names())
