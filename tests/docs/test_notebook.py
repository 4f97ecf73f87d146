"""The notebooks run from top to bottom."""

import json
import os
import subprocess
import sys

import pytest
from page_commands import TOP

# What stands for the cell of parameters, and what the last cell but one leaves behind.
NOTEBOOKS = {
    "first_hour": (
        "PRETRAIN_EPOCHS, FINETUNE_STEPS, DRAWS = 1, 10, 2",
        "runs/first_hour/features.npz",
    ),
    "photographs": (
        "PHOTOS, EPOCHS = 'photographs', 1\n"
        "SMALL = {'model.size': 'tiny', 'model.image_size': (64, 64), 'model.patch_size': (16, 16),"
        " 'model.depth': 1, 'model.decoder_depth': 1, 'data.batch_size': 32}",
        "runs/vit/model.safetensors",
    ),
}


def path(name):
    return TOP / "docs" / f"{name}.ipynb"


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_cell_runs(tmp_path, tfds_dir, name):
    """In a process of its own, as a kernel is: one device, which any batch fits."""
    small, made = NOTEBOOKS[name]
    cells = json.loads(path(name).read_text())["cells"]
    cells = [cell for cell in cells if cell["cell_type"] == "code"]
    chosen = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", ())]
    assert len(chosen) == 1
    sources = [small if cell in chosen else "".join(cell["source"]) for cell in cells]
    # Workers of data are processes that import what began them.
    body = "\n\n".join(sources).replace("\n", "\n    ")
    (tmp_path / "cells.py").write_text(f"if __name__ == '__main__':\n    {body}\n")
    environment = os.environ | {
        "TFDS_DATA_DIR": tfds_dir,
        "PYTHONPATH": str(TOP),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    done = subprocess.run(
        [sys.executable, "cells.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / made).exists()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_is_small_shows_its_pictures_and_carries_no_errors(name):
    cells = json.loads(path(name).read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    assert not any(output["output_type"] == "error" for output in outputs)
    pictures = [
        output for output in outputs if set(output.get("data", ())) & {"image/png", "image/jpeg"}
    ]
    assert len(pictures) == 2
    assert path(name).stat().st_size < 500_000
