"""What saving costs a run: how long the loop stands still, and the share of hashing.

    .venv/bin/python benchmarks/checkpoint.py

The state has the shapes of ViT-B with its decoder and AdamW's moments, and numbers that hardly
compress. By turns it is saved as a run saves it, in the background and with a manifest, and by
Orbax alone: in the background too, which tells whose the standing still is, and while the loop
waits.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from mae_jax.config import default_config
from mae_jax.parallel import Layout, Split
from mae_jax.train import state
from mae_jax.train.checkpoints import checkpoint, manifest
from mae_jax.train.objectives import Reconstruct
from mae_jax.train.optimizer import Recipe


def made(depth: int) -> state.TrainState:
    """A state of a masked autoencoder whose encoder has `depth` blocks, with random numbers."""
    config = default_config()
    config.model.size, config.model.depth = "base", depth
    objective = Reconstruct.from_config(config)
    recipe = Recipe.from_config(
        config, steps=10_000, steps_per_epoch=100.0, undecayed=objective.undecayed, depth=depth
    )
    rng = np.random.default_rng(0)

    def fill(leaf):
        if leaf.dtype != np.float32:
            return jax.numpy.zeros(leaf.shape, leaf.dtype)
        return jax.device_put(rng.standard_normal(leaf.shape, np.float32), leaf.sharding)

    return jax.tree.map(fill, state.abstract(objective, recipe, Layout.of(Split())))


def timed(function, *arguments):
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def begin(manager, current):
    """Orbax's own save of the same arrays; returns when it is copied, or all is written."""
    items = {
        "model": {"params": current.params, "tables": current.tables},
        "optimizer": {"step": current.step, "opt_state": current.opt_state},
    }
    saved = {name: ocp.args.StandardSave(tree) for name, tree in items.items()}
    manager.save(int(current.step), args=ocp.args.Composite(**saved))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--depth", type=int, default=12)
    parser.add_argument(
        "--folder", help="on the file system to measure; a temporary one by default"
    )
    arguments = parser.parse_args()
    current, write, found = made(arguments.depth), manifest.write, {}
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(current))

    def note(name, seconds):
        found.setdefault(name, []).append(seconds)

    manifest.write = lambda folder: note("hash", timed(write, folder))

    def orbax(name, in_background):
        return ocp.CheckpointManager(
            Path(folder, name),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=1, enable_async_checkpointing=in_background
            ),
        )

    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        ours = checkpoint.open_manager(Path(folder, "ours"), keep=1)
        with ours, orbax("behind", True) as behind, orbax("waiting", False) as theirs:
            for step in range(1, arguments.rounds + 1):
                current = current._replace(step=jax.numpy.int32(step))
                note("stall", timed(checkpoint.save, ours, current, {}, {}))
                note("background", timed(ours.wait_until_finished))
                note("their stall", timed(begin, behind, current))
                behind.wait_until_finished()
                note("alone", timed(begin, theirs, current))
                note("verify", timed(manifest.damage, Path(folder, "ours", str(step))))
            last = Path(folder, "ours", str(step))
            written = sum(path.stat().st_size for path in last.rglob("*") if path.is_file())
    middle = {name: statistics.median(values) for name, values in found.items()}
    whole = middle["stall"] + middle["background"]
    print(
        f"state {size / 1e9:.2f} GB, on disk {written / 1e9:.2f} GB, {jax.devices()[0].device_kind}"
    )
    for name, values in found.items():
        print(f"  {name:12s} {middle[name]:7.3f} s   rounds {' '.join(f'{v:.3f}' for v in values)}")
    rates = {name: written / middle[name] / 1e9 for name in ("hash", "verify")}
    print(f"  stall over a synchronous save  {middle['stall'] / middle['alone']:.1%}")
    print(f"  hashing {rates['hash']:.2f} GB/s, {middle['hash'] / whole:.1%} of a save")
    print(f"  verifying {rates['verify']:.2f} GB/s, saving {written / whole / 1e9:.2f} GB/s")


if __name__ == "__main__":
    main()
