"""What training steps are compiled with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mae_jax.train import compilation


@pytest.fixture(autouse=True)
def _asked_anew():
    compilation._has_onednn.cache_clear()
    yield
    compilation._has_onednn.cache_clear()


def test_only_wide_models_on_cpus_have_options():
    assert compilation.options("tpu", 1024) == compilation.options("cpu", 64) == {}


def test_products_are_those_of_other_libraries():
    options = compilation.options("cpu", 768)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((96, 96)), jnp.float32)
    compiled = jax.jit(lambda x: x @ x, compiler_options=options).lower(x).compile()
    assert ("onednn" in compiled.as_text()) == bool(options)
    np.testing.assert_allclose(compiled(x), np.asarray(x) @ np.asarray(x), rtol=1e-4, atol=1e-4)


def test_a_jaxlib_without_them_does_as_before(monkeypatch):
    monkeypatch.setattr(compilation, "_ONEDNN", {"xla_cpu_that_went_away": True})
    assert compilation.options("cpu", 768) == {}
