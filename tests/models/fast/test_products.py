import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mae_jax.models.fast import products

CASES = {
    "project": (products.project, lambda x, w: jnp.einsum("bnd,df->bnf", x, w), (2, 5, 6), (6, 7)),
    "scores": (
        products.scores,
        lambda q, k: jnp.einsum("bhqd,bhkd->bhqk", q, k),
        (2, 3, 4, 6),
        (2, 3, 5, 6),
    ),
    "mix": (
        products.mix,
        lambda w, v: jnp.einsum("bhqk,bhkd->bhqd", w, v),
        (2, 3, 4, 5),
        (2, 3, 5, 6),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_values_and_gradients_are_those_of_the_plain_product(name, dtype):
    product, plain, left, right = CASES[name]
    rng = np.random.default_rng(0)
    a, b = (jnp.asarray(rng.normal(size=shape), dtype) for shape in (left, right))
    value, pull = jax.vjp(product, a, b)
    expected, expected_pull = jax.vjp(plain, a, b)
    assert value.dtype == dtype
    tolerance = 1e-5 if dtype == jnp.float32 else 5e-2
    np.testing.assert_allclose(
        np.float32(value), np.float32(expected), rtol=tolerance, atol=tolerance
    )
    ct = jnp.asarray(rng.normal(size=value.shape), dtype)
    for got, want in zip(pull(ct), expected_pull(ct), strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(
            np.float32(got), np.float32(want), rtol=tolerance, atol=tolerance
        )


def test_a_linear_layer_uses_them_with_and_without_leading_axes():
    kernel = jnp.eye(3)
    for shape in ((3,), (4, 3), (2, 4, 3)):
        x = jnp.ones(shape)
        gradient = jax.grad(lambda w, x=x: products.project(x, w).sum())(kernel)
        assert gradient.shape == (3, 3) and float(gradient[0, 0]) == x.size / 3
