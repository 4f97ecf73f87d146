"""Operations by arithmetic, against published numbers and against what XLA counts."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from mae_jax.models import flops, sizes
from mae_jax.models.mae import MaskedAutoencoder
from mae_jax.models.vit import VisionTransformer


@pytest.mark.parametrize(
    ("size", "changed", "giga"),
    [
        ("base", {}, 58.7),
        ("large", {}, 124.5),
        ("large", {"decoder_depth": 1}, 96.8),
        ("huge", {}, 291),
    ],
)
def test_operations_of_the_papers_models(size, changed, giga):
    d = sizes.resolve(size, image_size=224, **changed)
    # Published numbers have the last block work on visible tokens too, which no loss needs.
    tokens, visible, width = d.patches + 1, d.patches // 4 + 1, d.decoder_width
    whole = flops.training_flops(d, 0.75) + 6 * visible * (10 * width**2 + 2 * tokens * width)
    assert whole / 1e9 == pytest.approx(giga, rel=0.02)


SMALL = dict(width=128, depth=2, heads=2, decoder_width=64, decoder_depth=1, decoder_heads=2)


@pytest.mark.parametrize("mask_tokens", [False, True])
@pytest.mark.parametrize("class_token", [False, True])
@pytest.mark.parametrize(
    "decoding",
    [
        dict(loss_on="hidden"),
        dict(loss_on="all"),
        dict(decode_ratio=0.5),
        dict(decoder_attention="cross", decode_ratio=0.3),
        dict(decoder_attention="cross", loss_on="all"),
    ],
    ids=lambda given: "-".join(map(str, given.values())),
)
def test_agrees_with_the_products_in_the_forward_pass(mask_tokens, class_token, decoding):
    if mask_tokens and "decoder_attention" in decoding:
        pytest.skip("which do not go together")
    model = nnx.eval_shape(
        lambda: MaskedAutoencoder(
            image_size=64,
            patch_size=8,
            mask_tokens_in_encoder=mask_tokens,
            class_token=class_token,
            **decoding,
            rngs=nnx.Rngs(0),
            **SMALL,
        )
    )
    graphdef, state = nnx.split(model)
    traced = jax.make_jaxpr(lambda s, i, n: nnx.merge(graphdef, s).loss(i, noise=n))(
        state, jnp.zeros((1, 64, 64, 3)), jnp.zeros((1, 64))
    )
    count = flops.training_flops(
        model.dimensions,
        0.75,
        mask_tokens_in_encoder=mask_tokens,
        class_token=class_token,
        **decoding,
    )
    assert count == 3 * products_in(traced.jaxpr)


def test_agrees_with_the_products_of_a_classifier():
    widths = {name: SMALL[name] for name in ("width", "depth", "heads")}
    model = nnx.eval_shape(
        lambda: VisionTransformer(
            image_size=64, patch_size=8, classes=10, rngs=nnx.Rngs(0), **widths
        )
    )
    graphdef, state = nnx.split(model)
    traced = jax.make_jaxpr(lambda s, i: nnx.merge(graphdef, s)(i))(
        state, jnp.zeros((1, 64, 64, 3))
    )
    d = sizes.resolve("base", image_size=64, patch_size=8, **widths)
    assert flops.classifier_flops(d, 10) == 3 * products_in(traced.jaxpr)


def products_in(jaxpr) -> int:
    """Twice the multiplications of every matrix product of a traced function."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (lhs, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            contracted = 1
            for axis in lhs:
                contracted *= shape[axis]
            total += 2 * contracted * equation.outvars[0].aval.size
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                total += products_in(inner)
    return total
