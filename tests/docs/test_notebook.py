"""docs/first_hour.ipynb runs from top to bottom."""

import json
import os
import subprocess
import sys

import pytest
from page_commands import TOP

PATH = TOP / "docs" / "first_hour.ipynb"
SMALL = "PRETRAIN_EPOCHS, FINETUNE_STEPS, DRAWS = 1, 10, 2"


@pytest.mark.slow
def test_every_cell_runs(tmp_path, tfds_dir):
    """In a process of its own, as a kernel is: one device, which any batch fits."""
    cells = [cell for cell in json.loads(PATH.read_text())["cells"] if cell["cell_type"] == "code"]
    chosen = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", ())]
    assert len(chosen) == 1
    sources = [SMALL if cell in chosen else "".join(cell["source"]) for cell in cells]
    (tmp_path / "cells.py").write_text("\n\n".join(sources))
    environment = os.environ | {
        "TFDS_DATA_DIR": tfds_dir,
        "PYTHONPATH": str(TOP),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    done = subprocess.run(
        [sys.executable, "cells.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "runs/first_hour/features.npz").exists()


def test_it_is_small_and_carries_no_errors():
    cells = json.loads(PATH.read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    assert not any(output["output_type"] == "error" for output in outputs)
    assert PATH.stat().st_size < 500_000
