"""Fresh parameters are those of `nnx.Rngs`, whoever gives the keys."""

import jax
import numpy as np
import pytest
from flax import nnx

from mae_jax.models.keys import Keys
from mae_jax.models.mae import MaskedAutoencoder
from mae_jax.models.vit import VisionTransformer

SMALL = dict(image_size=8, patch_size=2, channels=1, width=16, depth=2, heads=2)
DECODER = dict(decoder_width=16, decoder_depth=1, decoder_heads=2)


@pytest.mark.parametrize(
    "make",
    [
        lambda rngs: MaskedAutoencoder(**SMALL, **DECODER, rngs=rngs),
        lambda rngs: MaskedAutoencoder(
            **SMALL, **DECODER, mask_tokens_in_encoder=True, class_token=3, rngs=rngs
        ),
        lambda rngs: VisionTransformer(
            **SMALL, classes=5, pool="token", normalise_head=True, rngs=rngs
        ),
    ],
)
@pytest.mark.parametrize("seed", [7, "key"])
def test_parameters_are_those_of_rngs(make, seed):
    seed = jax.random.key(11) if seed == "key" else seed
    found, expected = (nnx.to_pure_dict(nnx.state(make(of(seed)))) for of in (Keys, nnx.Rngs))
    expected.pop("rngs", None)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
