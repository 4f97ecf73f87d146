"""Ours to every format and back, to the last bit; the golden files through a `.pth`."""

import dataclasses
import json
import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from made import ODD, SMALL, random_weights, same

import mae_jax
from mae_jax.errors import UsageError
from mae_jax.weights import export, formats, keymap, model, pth, read

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("arguments", [SMALL, ODD], ids=["small", "odd"])
@pytest.mark.parametrize("format", ["pth", "safetensors", "npz", "huggingface"])
def test_full_models(tmp_path, format, arguments):
    weights = random_weights(**arguments)
    export.export(weights, tmp_path / "out", format=format)
    found = read.read(tmp_path / "out")
    assert same(found.tensors, weights.tensors) and found.settings() == weights.settings()
    loaded = mae_jax.load(tmp_path / "out")
    assert same(model.tensors(loaded), weights.tensors)
    assert loaded.dimensions == weights.dimensions and loaded.norm_pix


@pytest.mark.parametrize("format", ["pth", "safetensors", "npz", "huggingface"])
def test_full_models_whose_decoder_looks_across(tmp_path, format):
    less = dict(decoder_attention="cross", decode_ratio=0.5)
    weights = dataclasses.replace(random_weights(), **less)
    if format in ("pth", "huggingface"):  # which others read, and compute otherwise
        with pytest.raises(UsageError, match="look at visible ones alone; give --part=encoder"):
            export.export(weights, tmp_path / "out", format=format)
        assert not any(tmp_path.iterdir())
        return
    export.export(weights, tmp_path / "out", format=format)
    assert read.read(tmp_path / "out").settings() == weights.settings()
    assert less.items() <= weights.settings().items()
    loaded, self = mae_jax.load(tmp_path / "out"), model.build(random_weights())
    images, noise = jnp.ones((1, 32, 32, 3)).at[0, :9].set(0), jnp.arange(16.0)[None]
    assert loaded.decode_ratio == 0.5
    assert abs(loaded(images, noise=noise).pred - self(images, noise=noise).pred).max() > 1e-3
    assert "hidden patches look at visible ones" in (tmp_path / "out/README.md").read_text()


@pytest.mark.parametrize("arguments", [SMALL, ODD], ids=["small", "odd"])
@pytest.mark.parametrize("format", ["pth", "safetensors", "npz", "huggingface", "timm"])
def test_encoders(tmp_path, format, arguments):
    weights = random_weights(**arguments)
    export.export(weights, tmp_path / "out", format=format, part="encoder")
    found = read.read(tmp_path / "out")
    assert same(found.tensors, weights.encoder().tensors)
    encoder = mae_jax.load_encoder(tmp_path / "out")
    got = {("encoder", *path): value for path, value in model.flat(tree(encoder.encoder)).items()}
    assert same(keymap.to_published(got), weights.encoder().tensors)


def tree(module):
    return nnx.to_pure_dict(nnx.state(module))


@pytest.mark.parametrize("pool", ["mean", "token"])
@pytest.mark.parametrize("format", ["pth", "safetensors", "npz", "timm", "huggingface"])
def test_classifiers(tmp_path, format, pool):
    weights = random_weights("classifier", pool=pool)
    if format == "huggingface" and pool == "mean":
        with pytest.raises(mae_jax.errors.UsageError, match="reads the class token"):
            export.export(weights, tmp_path / "out", format=format)
        assert not any(tmp_path.iterdir())
        return
    export.export(weights, tmp_path / "out", format=format)
    loaded = mae_jax.load(tmp_path / "out")
    assert same(model.tensors(loaded), weights.tensors) and loaded.pool == pool


@pytest.mark.slow
@pytest.mark.parametrize(("size", "depth"), [("base", 12), ("large", 2), ("huge", 2)])
@pytest.mark.parametrize("format", ["pth", "huggingface", "timm"])
def test_published_sizes(tmp_path, format, size, depth):
    """Blocks are alike, so that of the larger models two of them will do."""
    weights = random_weights(size=size, depth=depth)
    weights = weights.encoder() if format == "timm" else weights
    made = export.export(weights, tmp_path / "out", format=format)  # which compares every bit
    assert made["tensors"] == 6 + 12 * depth + (0 if format == "timm" else 104)


@pytest.mark.parametrize(
    ("size", "encoder", "full", "parameters"),
    [
        ("base", 150, 254, 111_907_840),
        ("large", 294, 398, 329_541_888),
        ("huge", 390, 494, 657_074_508),
    ],
)
def test_names_of_published_sizes(size, encoder, full, parameters):
    module = nnx.eval_shape(lambda: mae_jax.MaskedAutoencoder(size, rngs=nnx.Rngs(0)))
    shapes = {
        keymap.published_name(path): keymap.shape_there(path, value.shape)
        for path, value in nnx.to_flat_state(nnx.state(module))
    }
    depths = {"depth": module.dimensions.depth, "decoder_depth": module.dimensions.decoder_depth}
    assert shapes.keys() == set(keymap.expected("full", **depths)) and len(shapes) == full
    assert len(list(keymap.expected("encoder", depth=depths["depth"]))) == encoder
    assert sum(map(math.prod, shapes.values())) == parameters


@pytest.mark.parametrize("changes", [dict(mask_tokens_in_encoder=True), dict(class_token=False)])
def test_names_of_models_with_other_tokens(changes):
    dimensions = dict(depth=2, decoder_depth=1)
    module = nnx.eval_shape(
        lambda: mae_jax.MaskedAutoencoder("tiny", **dimensions, **changes, rngs=nnx.Rngs(0))
    )
    names = {keymap.published_name(path) for path, _ in nnx.to_flat_state(nnx.state(module))}
    assert names == set(keymap.expected("full", **dimensions, **changes))


@pytest.mark.parametrize("name", ["shared_normpix", "shared_rawpix"])
def test_golden_files_as_pth(tmp_path, name):
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        golden = dict(arrays)
    tensors = {k.removeprefix("param/"): v for k, v in golden.items() if k.startswith("param/")}
    path = tmp_path / f"{name}.pth"
    pth.write(path, tensors, "{}")
    _, _, _, _, heads, _, _, decoder_heads, norm_pix, _ = (int(n) for n in golden["config"])
    loaded = mae_jax.load(path, heads=heads, decoder_heads=decoder_heads, norm_pix=bool(norm_pix))
    images = jnp.asarray(golden["image"].transpose(0, 2, 3, 1))
    output = loaded(images, noise=jnp.asarray(golden["noise"]))
    np.testing.assert_allclose(output.loss, golden["loss"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(output.pred, golden["pred"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(output.latent, golden["latent"], atol=1e-4, rtol=0)


def test_both_spellings_of_the_decoder(tmp_path):
    weights = random_weights()
    export.export(weights, tmp_path / "out", format="huggingface")
    file = tmp_path / "out" / "model.safetensors"
    tensors, _ = formats.read_safetensors(file)
    renamed = {
        name.replace("decoder.decoder_layers.", "decoder.decoder_encoder.layer."): value
        for name, value in tensors.items()
    }
    assert renamed.keys() != tensors.keys()
    formats.write_safetensors(file, renamed)
    (tmp_path / "out" / read.SUMS).unlink()
    assert same(read.read(tmp_path / "out").tensors, weights.tensors)


def test_a_linear_probe_becomes_one_linear(tmp_path):
    weights = random_weights("classifier", pool="token")
    rng = np.random.default_rng(1)
    mean, variance = rng.random((2, 64), np.float32)
    tensors = {k: v for k, v in weights.tensors.items() if not k.startswith("head.")} | {
        "head.0.running_mean": mean,
        "head.0.running_var": variance,
        "head.0.num_batches_tracked": np.float32(3).reshape(()),
        "head.1.weight": weights.tensors["head.weight"],
        "head.1.bias": weights.tensors["head.bias"],
    }
    pth.write(tmp_path / "probe.pth", tensors, "")
    loaded = mae_jax.load(tmp_path / "probe.pth", heads=4)
    images = jnp.asarray(rng.random((2, 32, 32, 3), np.float32))
    token = loaded.features(images)
    expected = (token - mean[None]) / np.sqrt(variance + 1e-6)[None]
    expected = expected @ tensors["head.1.weight"].T + tensors["head.1.bias"][None]
    np.testing.assert_allclose(loaded(images), expected, atol=1e-5)


def test_the_card_says_where_it_comes_from(tmp_path):
    weights = random_weights()
    weights.origin.update(
        source="runs/x", step=10, steps=10, data={"kind": "folder", "records": 3},
        metrics={"loss": 0.5}, config={"seed": 0}, license="cc-by-nc-4.0",
    )  # fmt: skip
    made = export.export(weights, tmp_path / "out", format="huggingface")
    card = (tmp_path / "out" / "README.md").read_text()
    for words in ("license: cc-by-nc-4.0", "10 of 10", '"records": 3', "0.5000", '"seed": 0'):
        assert words in card
    assert made["sha256"]["model.safetensors"] in card
    modes = {path.stat().st_mode for path in (tmp_path / "out").iterdir()}
    assert len(modes) == 1  # whoever may read the card may read the weights
    again = read.read(tmp_path / "out")
    assert again.origin["license"] == "cc-by-nc-4.0" and again.origin["step"] == 10
    assert json.loads((tmp_path / "out" / "config.json").read_text())["layer_norm_eps"] == 1e-6


def test_layouts_are_inverses():
    for layout, shape in (
        (keymap.LINEAR, (2, 3)),
        (keymap.PATCH, (2, 3, 5, 7)),
        (keymap.QKV, (3, 2, 4)),
        (keymap.QKV_BIAS, (3, 4)),
    ):
        x = np.arange(np.prod(shape)).reshape(shape)
        np.testing.assert_array_equal(layout.here(layout.there(x)), x)
    assert keymap.PATCH.there(np.zeros((2, 3, 5, 7))).shape == (7, 5, 2, 3)
    # Ours: a matrix (in, out) for queries, keys and values each; theirs: their rows below another.
    assert keymap.QKV.there(np.arange(12).reshape(3, 2, 2)).tolist() == [
        [0, 2], [1, 3], [4, 6], [5, 7], [8, 10], [9, 11]
    ]  # fmt: skip


def test_the_same_weights_make_the_same_files(tmp_path):
    sums = [
        export.export(random_weights(), tmp_path / str(i), format="pth")["sha256"] for i in (0, 1)
    ]
    assert sums[0] == sums[1]


@pytest.mark.parametrize("crop", [0.875, 1.0])
def test_class_names_and_crop_go_along(tmp_path, crop):
    weights = random_weights("classifier", classes=2, pool="token")
    weights = dataclasses.replace(
        weights, pixels=dataclasses.replace(weights.pixels, crop=crop, mean=(0.1, 0.2, 0.3))
    )
    weights.origin["classes"] = ["cat", "dog"]
    for format in ("huggingface", "timm"):
        export.export(weights, tmp_path / format, format=format)
        said = json.loads((tmp_path / format / "config.json").read_text())
        if format == "timm":
            assert said["label_names"] == ["cat", "dog"]
            assert said["pretrained_cfg"]["crop_pct"] == crop
        else:
            assert said["id2label"] == {"0": "cat", "1": "dog"}
            images = json.loads((tmp_path / format / "preprocessor_config.json").read_text())
            assert images["do_center_crop"]
            assert images["size"]["shortest_edge"] == int(32 / crop)
            assert images["crop_size"] == {"height": 32, "width": 32}
            assert images["image_mean"] == [0.1, 0.2, 0.3]
        # As others write such folders, without what this package adds.
        del said["mae_jax"]
        (tmp_path / format / "config.json").write_text(json.dumps(said))
        found = read.read(tmp_path / format)
        assert found.classes == ("cat", "dog")
        assert found.pixels.crop == pytest.approx(crop, abs=0.02)
        assert found.pixels.mean == (0.1, 0.2, 0.3)
