"""The model against outputs and gradients of the reference implementation."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mae_jax import MaskedAutoencoder

GOLDEN = Path(__file__).parents[1] / "golden"


def to_ours(name: str, value: np.ndarray) -> tuple[tuple, np.ndarray]:
    """A reference parameter's place in our tree, and its value in our layout."""
    parts = name.split(".")
    for there, here in (("decoder_", "decoder"), ("", "encoder")):
        if parts[0].startswith(there):
            path = [here, parts[0].removeprefix(there), *parts[1:]]
            break
    if path[1:3] == ["patch_embed", "proj"]:
        del path[2]
    if parts[0] == "mask_token":
        path = ["decoder", "mask_token"]
    if path[-1] == "weight":
        path[-1] = "scale" if "norm" in path[-2] else "kernel"
        if value.ndim == 2:
            value = value.T
        elif value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)
    if path[-2] == "qkv":  # ours are stacked
        value = value.reshape(-1, 3, value.shape[-1] // 3).swapaxes(0, 1)
        value = value[:, 0] if path[-1] == "bias" else value
    return tuple(int(p) if p.isdigit() else p for p in path), value


@pytest.fixture(params=["shared_normpix", "shared_rawpix"], scope="module")
def golden(request):
    with np.load(GOLDEN / f"{request.param}.npz") as arrays:
        return dict(arrays)


@pytest.fixture(params=[True, False], ids=["scanned", "unrolled"])
def model(request, golden):
    size, patch, width, depth, heads, *decoder, norm_pix, _ = (int(n) for n in golden["config"])
    model = MaskedAutoencoder(
        image_size=size,
        patch_size=patch,
        width=width,
        depth=depth,
        heads=heads,
        decoder_width=decoder[0],
        decoder_depth=decoder[1],
        decoder_heads=decoder[2],
        norm_pix=bool(norm_pix),
        mask_ratio=float(golden["mask_ratio"]),
        scan=request.param,
        rngs=nnx.Rngs(0),
    )
    given = dict(
        to_ours(name.removeprefix("param/"), value)
        for name, value in golden.items()
        if name.startswith("param/")
    )
    state = nnx.state(model)
    flat = dict(nnx.to_flat_state(state))
    assert given.keys() == flat.keys()
    for path, value in given.items():
        flat[path].set_value(jnp.asarray(value))
    nnx.update(model, nnx.from_flat_state(flat))
    return model


@pytest.fixture
def inputs(golden):
    return jnp.asarray(golden["image"].transpose(0, 2, 3, 1)), jnp.asarray(golden["noise"])


def test_outputs(golden, model, inputs):
    images, noise = inputs
    output = model(images, noise=noise)
    np.testing.assert_allclose(output.loss, golden["loss"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(output.pred, golden["pred"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(output.latent, golden["latent"], atol=1e-4, rtol=0)
    np.testing.assert_array_equal(output.mask, golden["mask"])


def test_nothing_masked(golden, model, inputs):
    images, noise = inputs
    masks = model.draw_masks(images, mask_ratio=0.0, noise=noise)
    latent = model.encode(images, masks)
    np.testing.assert_allclose(latent, golden["latent_full"], atol=1e-4, rtol=0)


def test_gradients(golden, model, inputs):
    images, noise = inputs
    graphdef, params, tables = nnx.split(model, nnx.Param, ...)

    def loss(params):
        return nnx.merge(graphdef, params, tables).loss(images, noise=noise)

    value, ours = jax.value_and_grad(loss)(params)
    np.testing.assert_allclose(value, golden["loss"], atol=1e-5, rtol=0)
    ours = nnx.to_pure_dict(ours)
    compared = 0
    for name, value in golden.items():
        if not name.startswith("grad/"):
            continue
        path, expected = to_ours(name.removeprefix("grad/"), value)
        got = ours
        for key in path:
            got = got[key]
        error = np.abs(got - expected).max() / np.abs(expected).max()
        assert error < 1e-4, f"{name}: {error}"
        compared += 1
    assert compared == len(jax.tree.leaves(ours))
