"""Masks of one's own: a function that the config names."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_switches import PHOTO, changed, seen, tiny

import mae_jax
from mae_jax.errors import UsageError
from mae_jax.models.mae import MaskedAutoencoder
from mae_jax.train import own
from mae_jax.train.objectives import Reconstruct
from mae_jax.weights import export, read

MASKS = """
import jax
import jax.numpy as jnp

def left(key, batch, grid):
    \"\"\"Keeps the left, from row to row by chance.\"\"\"
    column = jnp.broadcast_to(jnp.arange(grid[1], dtype=jnp.float32)[None], tuple(grid))
    return column.reshape(1, -1) + 0.5 * jax.random.uniform(key, (batch, column.size))

def one(key, batch, grid):
    return jnp.zeros(grid)

def python(key, batch, grid):
    return jnp.zeros((batch, int(jax.random.uniform(key) * 100)))

def two(key, batch, grid):
    return key, key

number = 3
"""


@pytest.fixture
def masks(tmp_path):
    (tmp_path / "masks.py").write_text(MASKS)
    return lambda name: f"{tmp_path}/masks.py:{name}"


@pytest.mark.parametrize(("unit", "visible"), [(1, [0]), (2, [0, 1])])
def test_a_mask_of_ones_own_changes_the_mask_and_nothing_else(masks, unit, visible):
    usual = seen(tiny(model__mask_unit=unit))
    mine = seen(tiny(model__mask_unit=unit, model__sampling=masks("left")))
    assert changed(usual, mine) == {"noise"}
    kept = np.argsort(mine["noise"], axis=1)[:, :4] % 4  # columns of a quarter of 4 x 4
    if unit == 1:
        assert (kept == 0).all()
    else:
        assert {column for row in kept for column in row} == set(visible)


def test_it_is_drawn_inside_the_compiled_step(masks):
    objective = Reconstruct.from_config(tiny(model__sampling=masks("left")))
    assert objective == Reconstruct.from_config(tiny(model__sampling=masks("left")))
    batch = {"image": jnp.asarray(np.stack([PHOTO[:8, :8]] * 3))}
    drawn = jax.jit(objective.draw)(batch, jax.random.key(0))["noise"]
    np.testing.assert_array_equal(drawn, objective.draw(batch, jax.random.key(0))["noise"])
    assert len(np.unique(drawn, axis=0)) == 3  # samples have masks of their own


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("one", r"gives float32 \(4, 4\) for 2 images of 4 x 4 patches; .* numbers \(2, 16\)"),
        ("python", "cannot be compiled: ConcretizationTypeError"),
        ("two", "must give one array; it gives tuple"),
        ("number", "masks.py has no function 'number'"),
        ("absent", "masks.py has no function 'absent'"),
    ],
)
def test_what_is_no_mask_is_refused(masks, name, message):
    with pytest.raises(UsageError, match=f"^model.sampling '.*:{name}'.* ?{message}") as error:
        Reconstruct.from_config(tiny(model__sampling=masks(name)))
    assert "\n" not in str(error.value)


def test_what_cannot_be_found_is_refused(tmp_path):
    (tmp_path / "odd.py").write_text("import no_such_module")
    for name, message in {
        "no_such_file.py:f": "there is no file 'no_such_file.py', seen from",
        f"{tmp_path}/odd.py:f": "cannot be imported: ModuleNotFoundError: No module named 'no_such",
        "no_such_package.masks:f": "cannot be imported: ModuleNotFoundError",
        "spiral": "is unknown; known are random, block, grid, and FILE.py:NAME or",
    }.items():
        with pytest.raises(UsageError, match=f"^model.sampling '{name}'.* ?{message}"):
            own.sampling(name, (4, 4))
    with pytest.raises(UsageError, match="model.sampling is 'spiral'; it must be one of random, "):
        tiny(model__sampling="spiral")


def test_the_mask_of_the_docs(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "extend.md").read_text()
    (text,) = (t for t in re.findall(r"```python\n(.*?)```", page, re.S) if "def centre" in t)
    (tmp_path / "my_masks.py").write_text(text)
    found = seen(tiny(model__sampling=f"{tmp_path}/my_masks.py:centre"))["noise"]
    visible = np.argsort(found, axis=1)[:, :4]
    np.testing.assert_array_equal(np.sort(visible), [[0, 3, 12, 15]] * 2)  # the corners


def test_a_package_of_ones_own():
    found = own.sampling("mae_jax.models.masking:grid_noise", (4, 4))
    assert found is mae_jax.models.masking.grid_noise


def test_a_changed_file_is_read_again(masks, tmp_path):
    before = own.sampling(masks("left"), (4, 4))
    assert own.sampling(masks("left"), (4, 4)) is before
    (tmp_path / "masks.py").write_text(MASKS + "\n# another")
    assert own.sampling(masks("left"), (4, 4)) is not before


def test_models_load_without_the_function(tmp_path):
    model = MaskedAutoencoder(
        image_size=8, patch_size=4, width=8, depth=1, heads=2, decoder_width=8, decoder_depth=1,
        decoder_heads=2, sampling="gone.py:left", rngs=nnx.Rngs(0),
    )  # fmt: skip
    said = dict(sampling="gone.py:left", norm_pix=True, heads=2, decoder_heads=2, image_size=8)
    weights = mae_jax.weights.described.describe(
        mae_jax.weights.model.tensors(model), said, {}, "x"
    )
    export.export(weights, tmp_path / "out", format="safetensors", force=True)
    assert read.read(tmp_path / "out").sampling == "gone.py:left"
    loaded = mae_jax.load(tmp_path / "out")
    images = jnp.zeros((1, 8, 8, 3))
    assert loaded(images, noise=jnp.arange(4.0)[None]).mask.sum() == 3
    with pytest.raises(ValueError, match=r"sampling 'gone\.py:left' is unknown"):
        loaded(images, key=jax.random.key(0))
