"""Models with random weights, perturbed so that nothing keeps its initial value."""

import jax
import numpy as np
from flax import nnx

from mae_jax.models.mae import MaskedAutoencoder
from mae_jax.models.vit import VisionTransformer
from mae_jax.weights import keymap
from mae_jax.weights.described import describe

ODD = dict(
    image_size=(48, 64), patch_size=8, channels=5, width=60, depth=2, heads=5,
    decoder_width=24, decoder_depth=1, decoder_heads=3,
)  # fmt: skip
SMALL = dict(
    image_size=32, patch_size=8, width=64, depth=3, heads=4,
    decoder_width=32, decoder_depth=2, decoder_heads=2,
)  # fmt: skip


def random_weights(kind="full", classes=7, pool="mean", seed=0, **arguments):
    """Weights of a random model, small unless told otherwise; positions stay as they are."""
    arguments = arguments or SMALL

    def create():
        if kind == "classifier":
            names = {k: v for k, v in arguments.items() if not k.startswith("decoder")}
            return VisionTransformer(classes=classes, pool=pool, **names, rngs=nnx.Rngs(0))
        return MaskedAutoencoder(**arguments, rngs=nnx.Rngs(0))

    rng = np.random.default_rng(seed)
    module = nnx.eval_shape(create)
    shapes = nnx.to_pure_dict(nnx.state(module))
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    # Made once, as a hundred million of them would take most of a test's time.
    numbers = rng.standard_normal(1_000_003, np.float32) * np.float32(0.05)
    ours = {}
    for path, leaf in leaves:
        path = tuple(entry.key for entry in path)
        noise = np.resize(numbers[rng.integers(len(numbers) // 2) :], leaf.shape)
        ours[path] = noise + np.float32(path[-1] == "scale")
    tensors = keymap.to_published(ours)
    heads = {name: arguments.get(name) for name in ("heads", "decoder_heads")}
    said = heads | {"norm_pix": True, "image_size": arguments.get("image_size", 224)}
    weights = describe(tensors, said, {}, "random")
    return weights if kind != "encoder" else weights.encoder()


def same(a, b):
    """Whether two sets of tensors are the same to the last bit."""
    assert a.keys() == b.keys()
    return all(a[k].dtype == b[k].dtype and a[k].tobytes() == b[k].tobytes() for k in a)
