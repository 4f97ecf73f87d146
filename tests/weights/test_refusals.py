"""What is refused, and what has to be said."""

import argparse
import json
import os
import pickle
import resource
import zipfile

import jax
import numpy as np
import pytest
from made import SMALL, random_weights

import mae_jax
from mae_jax.commands import sources
from mae_jax.errors import UsageError
from mae_jax.models import patches
from mae_jax.parallel import Layout
from mae_jax.weights import adapt, export, formats, keymap, pickles, pretrained, pth, read


@pytest.fixture
def file(tmp_path):
    """A full model in a bare `.pth` that says nothing."""
    pth.write(tmp_path / "model.pth", random_weights().tensors, "")
    return tmp_path / "model.pth"


SAID = dict(heads=4, decoder_heads=2, norm_pix=True)


@pytest.mark.parametrize("name", SAID)
def test_what_a_file_does_not_say_is_asked_for(file, name):
    assert mae_jax.load(file, **SAID).dimensions.heads == 4
    with pytest.raises(UsageError, match=f"does not say .*; give {name}"):
        mae_jax.load(file, **{k: v for k, v in SAID.items() if k != name})


def test_an_encoder_needs_no_word_about_its_decoder(file):
    assert mae_jax.load_encoder(file, heads=4).weights.kind == "encoder"


def test_known_widths_settle_their_heads(tmp_path):
    weights = random_weights(image_size=32, depth=1, decoder_width=512, decoder_depth=1)
    pth.write(tmp_path / "b.pth", weights.tensors, "")
    d = mae_jax.load(tmp_path / "b.pth", norm_pix=False).dimensions
    assert (d.heads, d.decoder_heads) == (12, 16)


def test_missing_and_unexpected_keys_are_listed(tmp_path):
    tensors = dict(random_weights().tensors)
    del tensors["blocks.1.norm1.bias"], tensors["decoder_norm.weight"]
    tensors["blocks.1.attn.extra"] = np.zeros(64, np.float32)
    pth.write(tmp_path / "x.pth", tensors, "")
    with pytest.raises(UsageError) as error:
        mae_jax.load(tmp_path / "x.pth", **SAID)
    for name in (
        "blocks.1.norm1.bias",
        "decoder_norm.weight",
        "unexpected are blocks.1.attn.extra",
    ):
        assert name in str(error.value)
    with pytest.raises(UsageError, match="is not there|holds an encoder alone"):
        pth.write(tmp_path / "e.pth", random_weights().encoder().tensors, "")
        mae_jax.load(tmp_path / "e.pth", heads=4)


def test_shapes_must_fit(tmp_path):
    tensors = dict(random_weights().tensors)
    tensors["blocks.0.mlp.fc1.bias"] = np.zeros(7, np.float32)
    pth.write(tmp_path / "x.pth", tensors, "")
    with pytest.raises(UsageError, match="fc1.bias is \\(7,\\), expected \\(256,\\)"):
        mae_jax.load(tmp_path / "x.pth", **SAID)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(heads=7), "width 64 is not divisible by heads 7"),
        (dict(patch_size=16), "patch_size .16, 16. does not fit"),
        (dict(image_size=33), "image_size 33 is not divisible"),
        (dict(step=3), "step 3 needs a work folder"),
    ],
)
def test_what_is_given_must_fit(file, given, message):
    with pytest.raises(UsageError, match=message):
        mae_jax.load(file, **SAID | given)


def test_contradictions(tmp_path):
    export.export(random_weights(), tmp_path / "out", format="huggingface")
    with pytest.raises(UsageError, match="heads 8 was given, but .* says 4"):
        mae_jax.load(tmp_path / "out", heads=8)


@pytest.mark.parametrize("name", ["no.pth", "no/folder"])
def test_nothing_there(tmp_path, name):
    with pytest.raises(UsageError, match="does not exist; known are a work folder"):
        mae_jax.load(tmp_path / name)


def test_folders_and_files_of_something_else(tmp_path):
    with pytest.raises(UsageError, match="holds no weights"):
        mae_jax.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UsageError, match="'bert' model"):
        mae_jax.load(tmp_path)
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(UsageError, match="is no weight file"):
        mae_jax.load(tmp_path / "x.txt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "resnet50"}, "holds timm's 'resnet50'; known are its ViTs"),
        ({"model_args": {"act_layer": "quick_gelu"}}, "whose activation is 'quick_gelu'; known"),
        ({"global_pool": "avg"}, "global_pool 'avg', and has the norm that goes with 'token'"),
        ({"global_pool": "map"}, "global_pool 'map', and has the norm that goes with 'token'"),
    ],
)
def test_what_timm_computes_otherwise(tmp_path, changes, message):
    """The tensors have the same names and shapes, and do not tell."""
    export.export(random_weights("classifier", pool="token"), tmp_path / "out", format="timm")
    path = tmp_path / "out" / "config.json"
    config = json.loads(path.read_text())
    del config["mae_jax"]
    path.write_text(json.dumps(config | changes))
    with pytest.raises(UsageError, match=message):
        mae_jax.load(tmp_path / "out")


class Evil:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def archive(path, content, protocol=2):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/data.pkl", pickle.dumps(content, protocol=protocol))
        file.writestr("x/version", "3\n")


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_does_not_run(tmp_path, protocol):
    archive(tmp_path / "evil.pth", {"model": Evil(tmp_path / "ran")}, protocol)
    with pytest.raises(UsageError, match="asks for (posix|nt|os).mkdir, which is not run"):
        mae_jax.load(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()
    with zipfile.ZipFile(tmp_path / "evil.pth") as file:
        pickle.loads(file.read("x/data.pkl"))  # it would have
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\neval\n(S'1+1'\ntR.",
        b"cbuiltins\ngetattr\n(cargparse\nNamespace\nS'__init__'\ntR.",
        b"(S'ran'\nios\nsystem\n.",  # INST
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.",  # STACK_GLOBAL
        b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
        b"ctorch\nFloatStorage\n(N}S'dtype'\nS'int32'\nstb.",  # BUILD on what is named
    ],
)
def test_other_ways_in(file, content):
    with pytest.raises(UsageError):
        pickles.read(content)
    assert mae_jax.load(file, **SAID)  # and what is read after it is not changed by it


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02Nr\xff\xff\xff\x0f.",  # room for 268 million things to remember
        b"\x80\x04\x8e\xff\xff\xff\xff\0\0\0\0.",  # four GB of bytes
        b"\x80\x04\x8d\xff\xff\xff\xff\0\0\0\0.",  # of text
        b"\x80\x02\x8b\xff\xff\xff\x7f.",  # a number of two GB
    ],
    ids=["memo", "bytes", "text", "number"],
)
def test_a_pickle_that_claims_more_than_it_holds_takes_no_memory(content):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UsageError, match="its pickle is broken"):
        pickles.read(content)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize("format", ["pth", "npz"])
def test_a_small_file_that_would_fill_the_memory_is_refused(tmp_path, format):
    path = tmp_path / f"x.{format}"
    if format == "npz":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (75000000,)}"
            content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
            file.writestr("pos_embed.npy", content + bytes(300_000_000))
    else:  # one number, again and again
        content = (
            b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage"
            b"ctorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQK\0J\xff\xff\xff\x7f\x85"
            b"K\0\x85\x89NtRs."
        )
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("x/data.pkl", content)
            file.writestr("x/data/0", bytes(4))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(UsageError, match="unpacks to .* bytes, which numbers do not"):
        mae_jax.load(path)


def test_a_benign_pickle_with_a_namespace(tmp_path):
    read_back = pickles.read(
        pickle.dumps({"args": argparse.Namespace(lr=1e-3, name="x", nested=[1, (2,)]), "epoch": 3})
    )
    assert pickles.as_dictionary(read_back["args"]) == {
        "lr": 1e-3,
        "name": "x",
        "nested": [1, (2,)],
    }
    assert read_back["epoch"] == 3


def test_tensors_beyond_their_storage(tmp_path):
    storage = pickles.Storage("0", "float32", 4)
    data = np.arange(4, dtype=np.float32).tobytes()
    for offset, shape, stride in (
        (0, (5,), (1,)),
        (2, (3,), (1,)),
        (0, (2,), (-1,)),
        (-1, (2,), (1,)),
    ):
        with pytest.raises(ValueError):
            pickles.Tensor(storage, offset, shape, stride).read(data, True)
    with pytest.raises(UsageError, match="is no tensor's|are no tensor's"):
        pickles.read(b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x00))tR.")
    assert pickles.Tensor(storage, 0, (2**40, 2), (0, 0)).bytes == 2**43
    x = pickles.Tensor(storage, 0, (2, 2), (1, 2)).read(data, True)
    np.testing.assert_array_equal(x, [[0, 2], [1, 3]])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("format", ["pth", "safetensors", "npz"])
def test_truncated_files(tmp_path, format, share):
    export.export(random_weights(), tmp_path / "out", format=format)
    whole = (tmp_path / "out" / f"model.{format}").read_bytes()
    path = tmp_path / f"cut.{format}"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UsageError):
        mae_jax.load(path)


@pytest.mark.parametrize("format", ["pth", "npz", "safetensors", "huggingface"])
def test_flipped_bits(tmp_path, format):
    export.export(random_weights(), tmp_path / "out", format=format)
    (path,) = (f for f in (tmp_path / "out").iterdir() if f.stem == "model")
    data = bytearray(path.read_bytes())
    for place in (len(data) // 2, len(data) // 3):
        data[place] ^= 16
    path.write_bytes(data)
    with pytest.raises(UsageError, match="damaged"):
        mae_jax.load(tmp_path / "out")
    if format in ("pth", "npz"):  # whose archives have checksums of their own
        (tmp_path / "out" / read.SUMS).unlink()
        with pytest.raises(UsageError, match="damaged"):
            mae_jax.load(tmp_path / "out")
    if format == "safetensors":
        before = random_weights()
        (tmp_path / "out" / read.SUMS).unlink()
        assert read.read(tmp_path / "out").origin["sha256"] != before.origin.get("sha256")


def test_positions_tell_the_grid(tmp_path):
    arguments = SMALL | dict(image_size=(16, 64))
    tensors = random_weights(**arguments).tensors
    for name, width in (("pos_embed", 64), ("decoder_pos_embed", 32)):
        table = patches.sincos_positions((2, 8), width)
        tensors[name] = np.concatenate([np.zeros((1, width), np.float32), table])[None]
    pth.write(tmp_path / "x.pth", tensors, "")
    assert mae_jax.load(tmp_path / "x.pth", **SAID).dimensions.image_size == (16, 64)
    larger = mae_jax.load(tmp_path / "x.pth", **SAID, image_size=(32, 64))
    assert larger.decoder.pos_embed.shape == (1, 33, 32)


def test_how_many_images_go_through_at_a_time(file, monkeypatch):
    taken, put = [], Layout.put_batch
    monkeypatch.setattr(
        Layout, "put_batch", lambda self, batch, size: taken.append(size) or put(self, batch, size)
    )
    devices = jax.local_device_count()
    images = np.zeros((64 * devices + 1, 32, 32, 3), np.uint8)
    for batch_size, first in ((None, 64), (4 * devices, 4), (100 * devices, 64)):  # on CPUs
        taken.clear()
        features = mae_jax.load_encoder(file, heads=4, batch_size=batch_size)(images)
        assert features.shape == (len(images), 64)
        assert taken == [first * devices] * (64 // first) + [devices]
    for wrong in (0, -1, 2.5):
        with pytest.raises(UsageError, match=f"batch_size {wrong} must be a whole number at least"):
            mae_jax.load_encoder(file, heads=4, batch_size=wrong)
    tokens = (5, 197, 257, 1025, 10**6)
    assert [pretrained.images_at_a_time(count) for count in tokens] == [64, 64, 64, 16, 1]


def test_encoders_take_images_as_they_are(file):
    encoder = mae_jax.load_encoder(file, heads=4, batch_size=4)
    images = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)
    mean = encoder(images)
    assert mean.shape == (7, 64) and mean.dtype == np.float32
    np.testing.assert_allclose(mean, encoder(images / 255.0), atol=1e-5)
    np.testing.assert_allclose(mean[3], encoder(images[3]), atol=1e-5)
    np.testing.assert_allclose(mean, encoder(images, "patches").mean(1), atol=1e-5)
    assert encoder(images, "token").shape == (7, 64)
    attention = encoder.attention(images)
    assert attention.shape == (7, 4, 16) and (attention.sum(-1) < 1).all()
    for wrong, message in (
        (images.astype(np.float32), "must be pixels in 0 to 1"),
        (images[:, :16], "do not fit the model"),
        (images[:0], "do not fit the model"),
    ):
        with pytest.raises(UsageError, match=message):
            encoder(wrong)


def test_channels(file):
    images = np.random.default_rng(0).random((2, 32, 32, 1), np.float32)
    weights = read.read(file, **SAID).encoder()
    grey = adapt.with_channels(weights, 1)
    assert grey.pixels.mean == pytest.approx((np.mean(weights.pixels.mean),))
    kernel = weights.tensors["patch_embed.proj.weight"]
    np.testing.assert_allclose(
        mae_jax.load_encoder(file, heads=4, channels=1)(images),
        mae_jax.load_encoder(file, heads=4)(np.repeat(images, 3, -1)),
        atol=1e-5,
    )
    five = adapt.with_channels(weights, 5).tensors["patch_embed.proj.weight"]
    np.testing.assert_allclose(five[:, 3], kernel[:, 0] * 0.6, atol=1e-6)
    for channels in (1, 2, 5):
        encoder = mae_jax.load_encoder(file, heads=4, channels=channels)
        assert encoder(np.repeat(images, channels, -1)).shape == (2, 64)
    with pytest.raises(UsageError, match="channels 0 must be at least 1"):
        mae_jax.load_encoder(file, heads=4, channels=0)


def test_untrained_weights_stay(tmp_path, capsys):
    weights = random_weights()
    for name, tensor in weights.tensors.items():
        if "norm" in name or name.endswith("bias"):
            tensor[:] = float("norm" in name and name.endswith("weight"))
    with pytest.raises(UsageError, match="is not trained"):
        export.export(weights, tmp_path / "out", format="npz")
    half = random_weights()
    half.origin.update(step=3, steps=10)
    with pytest.raises(UsageError, match="trained for 3 of 10 steps"):
        export.export(half, tmp_path / "out", format="npz")
    assert not any(tmp_path.iterdir())
    export.export(half, tmp_path / "out", format="npz", force=True)
    capsys.readouterr()
    sources.weights_to_use(tmp_path / "out", step=None)
    assert "is trained for 3 of 10 steps" in capsys.readouterr().err
    with pytest.raises(UsageError, match="is there already"):
        export.export(random_weights(), tmp_path / "out", format="npz")
    for wrong, message in ((dict(format="tflite"), "format"), (dict(part="half"), "part")):
        with pytest.raises(UsageError, match=f"{message} .* is unknown"):
            export.export(random_weights(), tmp_path / "new", **{"format": "npz"} | wrong)


@pytest.mark.parametrize("name", ["../out/model.safetensors", "/etc/passwd", "a\0b", "sub/x", ".."])
def test_an_index_names_files_of_its_folder_alone(tmp_path, name):
    export.export(random_weights(), tmp_path / "out", format="huggingface")
    index = tmp_path / "out" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": name}}))
    with pytest.raises(UsageError, match="index.json' names (files of other folders|.* not there)"):
        mae_jax.load(tmp_path / "out")
    index.write_text(json.dumps({"weight_map": {"x": "model.safetensors"}}))
    assert mae_jax.load(tmp_path / "out").dimensions.depth == 3


def test_a_block_with_a_huge_number_takes_no_time(tmp_path):
    for name in (
        "blocks.99999999999.norm1.bias",
        "vit.encoder.layer.99999999999.output.dense.bias",
    ):
        pth.write(tmp_path / "x.pth", random_weights().tensors | {name: np.zeros(64, "f4")}, "")
        with pytest.raises(UsageError, match="beyond its .* tensors|unexpected are"):
            mae_jax.load(tmp_path / "x.pth", **SAID)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"heads": "4"}, "says heads '4'; it must be a whole number"),
        ({"image_size": [32, 32, 32]}, "says image_size .*; it must be a whole number, or two"),
        ({"std": [1, 0, 1]}, "says std .*; it must be a list of numbers above 0"),
        ({"mask_ratio": float("nan")}, "says mask_ratio nan; it must be a number in 0 to 1"),
        ({"mask_ratio": 0.99}, "mask_ratio 0.99 must leave at least one patch visible"),
        ({"origin": {"classes": "abc"}}, "says classes 'abc'; it must be a list of names"),
        ([], "is damaged: it holds no object"),
    ],
)
def test_what_a_file_says_of_itself_is_looked_at(tmp_path, said, message):
    said = random_weights().settings() | said if isinstance(said, dict) else said
    pth.write(tmp_path / "x.pth", random_weights().tensors, json.dumps(said))
    with pytest.raises(UsageError, match=message):
        mae_jax.load(tmp_path / "x.pth")


def test_safetensors_by_huggingface_names(tmp_path):
    weights = random_weights()
    formats.write_safetensors(tmp_path / "x.safetensors", keymap.to_huggingface(weights.tensors))
    assert mae_jax.load(tmp_path / "x.safetensors", **SAID).dimensions.depth == 3
