import os
import subprocess
import sys

import pytest

# Its own kind of source, and no `if __name__ == "__main__"`.
SCRIPT = """
print("begins")
import numpy as np
from mae_jax.data import check, loader
from mae_jax.data.sources import ArraySource
from mae_jax.pixels import Pixels

class Mine(ArraySource):
    def name(self, index):
        return f"mine {index}"

source = Mine(np.full((80, 6, 6, 1), 51, np.uint8))
picture = loader.Picture(Pixels((4, 4), 1, crop=1.0), (0.5, 1.0))
batches = loader.TrainBatches(source, picture, batch_size=40, seed=0, steps=3)
print("batches", sum(int(batch["image"].sum()) == 40 * 16 * 51 for batch in batches.iterate(0, 2)))
print("mean", check.statistics(source, picture, 80, workers=2)["mean"])
"""


@pytest.mark.slow
def test_a_script_without_a_guard_works(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.stdout == "begins\nbatches 3\nmean [0.2]\n", done.stderr


def test_the_main_module_is_left_alone_only_for_as_long_as_asked(monkeypatch):
    from multiprocessing import spawn

    # As of a script, however the tests are started.
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", __file__, raising=False)

    from mae_jax.data import processes

    def parts():
        return {k for k in spawn.get_preparation_data("x") if k.startswith("init_main_from")}

    before = spawn.get_preparation_data
    assert parts()
    with processes.without_main():
        with processes.without_main():
            assert not parts()
        assert not parts()
    assert parts() and spawn.get_preparation_data is before
