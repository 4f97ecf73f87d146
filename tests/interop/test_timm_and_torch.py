"""timm, torch's own files, and ONNX in onnxruntime."""

import argparse
import dataclasses
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import timm
import torch
from made import ODD, SMALL, random_weights, same
from PIL import Image
from sklearn.datasets import load_sample_image

import mae_jax
from mae_jax.data.images import Pixels
from mae_jax.data.loader import Picture
from mae_jax.models import patches
from mae_jax.weights import adapt, export, keymap, load, read
from mae_jax.weights.pretrained import PretrainedClassifier

TOLERANCE = 1e-5


def images_of(weights, batch=3):
    d = weights.dimensions
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch, *d.image_size, d.channels), np.float32)
    return images, torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def close(theirs, ours, tolerance=TOLERANCE):
    theirs = theirs.numpy() if isinstance(theirs, torch.Tensor) else theirs
    np.testing.assert_allclose(theirs, np.asarray(ours), atol=tolerance, rtol=tolerance)


def in_timm(folder):
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


@pytest.mark.parametrize("arguments", [SMALL, ODD], ids=["small", "odd"])
def test_encoder(tmp_path, arguments):
    weights = random_weights(**arguments)
    export.export(weights, tmp_path / "out", format="timm", part="encoder")
    theirs = in_timm(tmp_path / "out")
    assert theirs.state_dict().keys() == weights.encoder().tensors.keys()
    images, pixels = images_of(weights)
    ours = mae_jax.load_encoder(tmp_path / "out")
    close(theirs.forward_features(pixels), ours.encoder(jnp.asarray(images)))
    config = timm.data.resolve_model_data_config(theirs)
    assert tuple(config["mean"]) == tuple(weights.pixels.mean)
    assert tuple(config["input_size"][1:]) == theirs.patch_embed.img_size


@pytest.mark.parametrize("crop", [None, 1.0])
def test_their_preprocessing_gives_our_evaluation_view(tmp_path, crop):
    weights = random_weights().encoder()
    weights = dataclasses.replace(weights, pixels=dataclasses.replace(weights.pixels, crop=crop))
    export.export(weights, tmp_path / "out", format="timm")
    about = timm.data.resolve_model_data_config(in_timm(tmp_path / "out"))
    picture = Image.fromarray(load_sample_image("flower.jpg")).crop((200, 100, 360, 213))
    theirs = timm.data.create_transform(**about)(picture).numpy().transpose(1, 2, 0)
    view = Picture(weights.pixels).plain(Pixels(np.asarray(picture)))
    difference = theirs - np.asarray(weights.pixels.standardise(view))
    assert (255 * abs(difference) * weights.pixels.std).mean() < 0.3


@pytest.mark.parametrize("pool", ["mean", "token"])
def test_classifier(tmp_path, pool):
    weights = random_weights("classifier", pool=pool)
    export.export(weights, tmp_path / "out", format="timm")
    images, pixels = images_of(weights)
    close(in_timm(tmp_path / "out")(pixels), mae_jax.load(tmp_path / "out")(jnp.asarray(images)))


@pytest.mark.parametrize("kind", ["full", "classifier"])
def test_features_of_an_encoder_are_the_means_that_embed_gives(tmp_path, kind):
    weights = random_weights(kind)
    export.export(weights, tmp_path / "out", format="timm", part="encoder")
    encoder = mae_jax.load_encoder(tmp_path / "out")
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    standard = (images - np.array(weights.pixels.mean)) / np.array(weights.pixels.std)
    pixels = torch.from_numpy(standard.transpose(0, 3, 1, 2).astype(np.float32))
    close(in_timm(tmp_path / "out")(pixels), encoder(images))


def test_what_timm_saves_loads_here(tmp_path):
    for name, options in (("a", {}), ("b", {"num_classes": 5, "global_pool": "avg"})):
        theirs = timm.create_model(
            "vit_base_patch16_224", img_size=(32, 48), patch_size=8, embed_dim=64, depth=2,
            num_heads=4, **{"num_classes": 0} | options,
        ).eval()  # fmt: skip
        arguments = dict(img_size=(32, 48), patch_size=8, embed_dim=64, depth=2, num_heads=4)
        timm.models.save_for_hf(
            theirs, tmp_path / name, model_args=arguments, safe_serialization=True
        )
        images = np.random.default_rng(0).standard_normal((2, 32, 48, 3), np.float32)
        pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        if options:
            ours = mae_jax.load(tmp_path / name)
            close(theirs(pixels), ours(jnp.asarray(images)))
        else:
            ours = mae_jax.load_encoder(tmp_path / name)
            close(theirs.forward_features(pixels), ours.encoder(jnp.asarray(images)))


@pytest.mark.parametrize(
    ("name", "depth", "tensors"),
    [
        ("vit_base_patch16_224", 12, 150),
        ("vit_large_patch16_224", 24, 294),
        ("vit_huge_patch14_224", 32, 390),
    ],
)
def test_keys_of_published_sizes(name, depth, tensors):
    with torch.device("meta"):
        encoder = timm.create_model(name, num_classes=0)
        classifier = timm.create_model(name, num_classes=1000, global_pool="avg")
    expected = list(keymap.expected("encoder", depth=depth))
    assert sorted(encoder.state_dict()) == sorted(expected) and len(expected) == tensors
    assert sorted(classifier.state_dict()) == sorted(
        keymap.expected("classifier", depth=depth, mean_pool=True)
    )


def test_pth_both_ways(tmp_path):
    weights = random_weights()
    export.export(weights, tmp_path / "out", format="pth")
    content = torch.load(tmp_path / "out" / "model.pth", weights_only=True)
    assert same({k: v.numpy() for k, v in content["model"].items()}, weights.tensors)
    parameters = [torch.nn.Parameter(v.clone()) for v in content["model"].values()]
    optimizer = torch.optim.AdamW(parameters)
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.save(
        {
            "model": content["model"],
            "optimizer": optimizer.state_dict(),
            "epoch": 7,
            "scaler": {"scale": 65536.0, "_growth_tracker": 0},
            "args": argparse.Namespace(
                norm_pix_loss=True, mask_ratio=0.6, input_size=32, lr=None, device="cuda"
            ),
        },
        tmp_path / "checkpoint-7.pth",
    )
    found = read.read(tmp_path / "checkpoint-7.pth", heads=4, decoder_heads=2)
    assert same(found.tensors, weights.tensors)
    assert (found.norm_pix, found.mask_ratio) == (True, 0.6)
    half = {name: value.bfloat16() for name, value in content["model"].items()}
    torch.save({"model": half}, tmp_path / "half.pth")
    found = read.read(tmp_path / "half.pth", heads=4, decoder_heads=2, norm_pix=True)
    assert same(found.tensors, {name: value.float().numpy() for name, value in half.items()})


def test_a_transposed_view_and_an_old_file(tmp_path):
    weights = random_weights()
    views = {
        name: torch.from_numpy(np.asfortranarray(value)) for name, value in weights.tensors.items()
    }
    torch.save(views, tmp_path / "views.pth")
    said = dict(heads=4, decoder_heads=2, norm_pix=True)
    assert same(read.read(tmp_path / "views.pth", **said).tensors, weights.tensors)
    torch.save(views, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(mae_jax.errors.UsageError, match="converts an older one"):
        read.read(tmp_path / "old.pth", **said)


@pytest.mark.parametrize("new", [(24, 24), (7, 5), (14, 28)])
def test_positions_are_resized_as_torch_does(new):
    table = np.random.default_rng(0).standard_normal((1, 1 + 14 * 14, 8)).astype(np.float32)
    ours = patches.resize_positions(table, (14, 14), new)
    there = torch.from_numpy(table[:, 1:]).reshape(1, 14, 14, 8).permute(0, 3, 1, 2)
    theirs = torch.nn.functional.interpolate(there, size=new, mode="bicubic", align_corners=False)
    close(theirs.permute(0, 2, 3, 1).reshape(1, -1, 8), ours[:, 1:])
    np.testing.assert_array_equal(ours[:, 0], table[:, 0])


@pytest.mark.parametrize("new", [(64, 48), (16, 24)], ids=["larger", "smaller"])
def test_an_encoder_of_another_image_size_is_exported_at_it_for_timm(tmp_path, new):
    # timm's own resizing is another one, whichever way: see docs/weights.md.
    weights = random_weights().encoder()
    export.export(weights, tmp_path / "as_trained", format="timm")
    resized = timm.create_model(
        f"local-dir:{tmp_path / 'as_trained'}", pretrained=True, img_size=new
    )
    expected = adapt.fitted(weights, new)
    assert abs(resized.pos_embed.numpy() - expected.tensors["pos_embed"]).max() > 1e-3
    export.export(expected, tmp_path / "resized", format="timm")
    theirs, (images, pixels) = in_timm(tmp_path / "resized"), images_of(expected)
    assert theirs.patch_embed.img_size == new
    ours = mae_jax.load_encoder(tmp_path / "as_trained", image_size=new)
    close(theirs.forward_features(pixels), ours.encoder(jnp.asarray(images)))


@pytest.mark.parametrize(("new", "most"), [(24, 0.06), (15, 0.06), (7, 0.2)])
def test_how_far_timms_resizing_of_positions_is_from_the_published_one(new, most):
    table = patches.sincos_positions((14, 14), 64)[None]
    ours = patches.resize_positions(table, (14, 14), (new, new))
    theirs = timm.layers.resample_abs_pos_embed(
        torch.from_numpy(table), [new, new], num_prefix_tokens=0
    )
    assert most / 2 < abs(theirs.numpy() - ours).max() < most


@pytest.mark.parametrize("kind", ["full", "classifier"])
def test_onnx(tmp_path, kind):
    onnxruntime = pytest.importorskip("onnxruntime")
    weights = random_weights(kind, **ODD)
    part = "encoder" if kind == "classifier" else None
    made = export.export(weights, tmp_path / "out", format="onnx", part=part)
    assert made["sha256"].keys() == {"model.onnx"}
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    assert [value.name for value in session.get_inputs()] == ["images"]
    images = np.random.default_rng(0).random((5, 48, 64, 5), np.float32)
    encoder = load.encoder_of(weights)
    for value, output in zip(
        session.run(None, {"images": images}), session.get_outputs(), strict=True
    ):
        close(value, encoder(images, output.name), 1e-4)


def test_onnx_of_a_classifier_as_its_card_says(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    weights = random_weights("classifier", **ODD)
    export.export(weights, tmp_path / "out", format="onnx")
    monkeypatch.chdir(tmp_path / "out")
    code = re.search(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL).group(1)
    images = np.random.default_rng(0).random((5, 48, 64, 5), np.float32)
    found = {"given": images}
    exec(re.sub("images = .*", "images = given", code), found)
    (logits,) = found["values"].values()
    close(logits, PretrainedClassifier(weights).logits(images), 1e-4)
