"""A classifier's head beside torch's BatchNorm and timm's initialisation."""

import jax.numpy as jnp
import numpy as np
import pytest
import timm
import torch
from flax import nnx

from mae_jax import VisionTransformer

SMALL = dict(image_size=8, patch_size=4, channels=1, width=64, depth=1, heads=2)


def test_batch_norm_is_torchs():
    ours = VisionTransformer(
        classes=2, pool="token", normalise_head=True, **SMALL, rngs=nnx.Rngs(0)
    ).head_norm
    theirs = torch.nn.BatchNorm1d(64, affine=False, eps=1e-6).train()
    rng = np.random.default_rng(0)
    for batch in (8, 8, 5):
        x = 3 * rng.standard_normal((batch, 64), np.float32) + 1
        made = ours(jnp.asarray(x), train=True)
        np.testing.assert_allclose(made, theirs(torch.from_numpy(x)).numpy(), atol=1e-5)
    np.testing.assert_allclose(ours.mean[...], theirs.running_mean.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.var[...], theirs.running_var.numpy(), rtol=1e-5)
    made = ours(jnp.asarray(x), train=False)
    np.testing.assert_allclose(made, theirs.eval()(torch.from_numpy(x)).numpy(), atol=1e-5)


def test_the_head_starts_as_timms():
    # The published code gives timm's truncated normal distribution a deviation of 2e-5.
    ours = VisionTransformer(classes=1000, **SMALL, rngs=nnx.Rngs(0)).head
    theirs = torch.empty(1000, 64)
    timm.layers.trunc_normal_(theirs, std=2e-5)
    ratio = float(ours.kernel[...].std()) / float(theirs.std())
    assert ratio == pytest.approx(1, abs=0.02)  # each of 64,000 values
    assert not np.asarray(ours.bias[...]).any()
