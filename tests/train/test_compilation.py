"""What training steps are compiled with."""

import re
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mae_jax.train import compilation


@pytest.fixture(autouse=True)
def _asked_anew():
    compilation._takes.cache_clear()
    yield
    compilation._takes.cache_clear()


def test_accelerators_have_no_options():
    assert compilation.options("tpu", 1024) == compilation.options("cuda", 1024) == {}


def test_products_of_wide_models_are_those_of_other_libraries():
    options = compilation.options("cpu", 768)
    assert not compilation._ONEDNN.items() <= compilation.options("cpu", 64).items()
    x = jnp.asarray(np.random.default_rng(0).standard_normal((96, 96)), jnp.float32)
    compiled = jax.jit(lambda x: x @ x, compiler_options=options).lower(x).compile()
    has_onednn = compilation._ONEDNN.items() <= options.items()
    assert ("onednn" in compiled.as_text()) == has_onednn
    np.testing.assert_allclose(compiled(x), np.asarray(x) @ np.asarray(x), rtol=1e-4, atol=1e-4)


def test_parameters_are_updated_where_they_lie():
    """Though both layers' gradients need the kernels that they update."""

    def update(kernels, x):
        gradients = jax.grad(lambda ks: jnp.square(jnp.tanh(x @ ks[0]) @ ks[1]).sum())(kernels)
        return [kernel - 0.1 * g for kernel, g in zip(kernels, gradients, strict=True)]

    kernels = [jnp.eye(128) / 2, jnp.eye(128) / 4]
    x = jnp.asarray(np.random.default_rng(0).standard_normal((32, 128)), jnp.float32)
    expected = update(kernels, x)
    options = compilation.options("cpu", 64)
    jitted = jax.jit(update, donate_argnums=0, compiler_options=options)
    compiled = jitted.lower(kernels, x).compile()
    copies = re.findall(r"f32\[128,128\]\S* copy\(", compiled.as_text())
    assert not copies or not options
    for found, value in zip(compiled(kernels, x), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["_IN_PLACE", "_ONEDNN"])
def test_a_jaxlib_without_one_does_without_it_alone(monkeypatch, name):
    missing = getattr(compilation, name)
    others = {k: v for k, v in compilation.options("cpu", 768).items() if k not in missing}
    monkeypatch.setattr(compilation, name, {"xla_cpu_that_went_away": True})
    assert compilation.options("cpu", 768) == others


@pytest.fixture
def no_cache(monkeypatch, tmp_path):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setattr(compilation, "_chosen", set())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)
    compilation.compilation_cache.reset_cache()


def test_programs_are_kept_in_the_users_cache_or_a_sweeps(no_cache):
    compilation.keep()
    chosen = jax.config.jax_compilation_cache_dir
    assert chosen.startswith(str(no_cache / "cache/mae_jax/programs/cpu-"))
    compilation.keep(no_cache / "sweep")
    assert jax.config.jax_compilation_cache_dir.startswith(str(no_cache / "sweep/cpu-"))


def test_several_processes_keep_them_where_all_look(no_cache, monkeypatch):
    compilation.keep()
    at_home = jax.config.jax_compilation_cache_dir
    compilation.keep_for_all(no_cache / ".programs")
    assert jax.config.jax_compilation_cache_dir == at_home
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    compilation.keep_for_all(no_cache / ".programs")
    assert Path(jax.config.jax_compilation_cache_dir).parent == no_cache / ".programs"
    compilation.keep_for_all(no_cache / "run of a sweep" / ".programs")
    assert Path(jax.config.jax_compilation_cache_dir).parent == no_cache / ".programs"


def test_where_jax_was_told_to_keep_programs_they_stay(no_cache):
    jax.config.update("jax_compilation_cache_dir", str(no_cache / "told"))
    compilation.keep()
    compilation.keep(no_cache / "sweep")
    assert jax.config.jax_compilation_cache_dir == str(no_cache / "told")


def test_without_a_home_nothing_is_kept(no_cache, monkeypatch):
    (no_cache / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(no_cache / "file"))
    compilation.keep()
    assert jax.config.jax_compilation_cache_dir is None


def test_what_cannot_be_kept_is_said_before_and_not_by_a_warning(no_cache, request):
    compilation.keep()
    name = "jax_persistent_cache_min_compile_time_secs"
    before = jax.config.jax_persistent_cache_min_compile_time_secs
    request.addfinalizer(lambda: jax.config.update(name, before))
    jax.config.update(name, 0.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        options = compilation.options("cpu", 768)
        x = jnp.ones((96, 96))
        jax.jit(lambda x: jnp.tanh(x @ x), compiler_options=options)(x)
    assert not [str(one.message) for one in caught if "cache entry" in str(one.message)]
    has_onednn = compilation._ONEDNN.items() <= options.items()
    assert compilation.announced("cpu", 768).endswith("cannot be kept") == has_onednn
    assert compilation.announced("cpu", 64) == compilation.announced("gpu", 768)
