"""Features of several layers, in float16, in shards, whitened: what `embed` writes of them."""

import json
import shutil

import numpy as np
import pytest
from made import random_weights
from PIL import Image

import mae_jax
from mae_jax import cli
from mae_jax.data import sources
from mae_jax.errors import BrokenRecord, UsageError
from mae_jax.evaluation.whitening import Moments
from mae_jax.inference import embed, embedded, shards, whiten
from mae_jax.weights import export
from mae_jax.weights.load import encoder_of

SMALL = dict(image_size=8, patch_size=4, width=16, depth=3, heads=2)
SMALL |= dict(decoder_width=8, decoder_depth=1, decoder_heads=1)


@pytest.fixture(scope="module")
def encoder():
    return encoder_of(random_weights(**SMALL))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven images."""
    root, rng = tmp_path_factory.mktemp("seven"), np.random.default_rng(0)
    for index in range(7):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(root / f"{index}.png")
    return root


@pytest.fixture
def images(folder):
    return sources.open_images(folder)


def test_an_array_of_each_layer(tmp_path, encoder, images):
    out = tmp_path / "f.npz"
    made = embed.embed(encoder, images, out, layers=(3, 1), output="patches")
    assert made["dimensions"] == 16
    embed.embed(encoder, images, tmp_path / "last.npz", output="patches")
    with np.load(out) as file, np.load(tmp_path / "last.npz") as last:
        assert [n for n in file.files if n.startswith("features")] == ["features_3", "features_1"]
        assert file["features_1"].shape == (7, 4, 16) and file["features_1"].dtype == np.float32
        np.testing.assert_allclose(file["features_3"], last["features"], atol=1e-5)
        assert np.abs(file["features_1"] - file["features_3"]).max() > 0.1
    rows = embedded.read(out)
    assert rows.layers == (3, 1) and rows.features.shape == (7, 2, 4, 16)
    assert embed.embed(encoder, images, out, layers=(3, 1), output="patches")["images"] == 7
    with pytest.raises(UsageError, match="is there already, of something else"):
        embed.embed(encoder, images, out, output="patches")


def test_float16(tmp_path, encoder, images):
    for dtype in embed.DTYPES:
        embed.embed(encoder, images, tmp_path / f"{dtype}.npz", dtype=dtype)
    whole, half = (embedded.read(tmp_path / f"{dtype}.npz").features for dtype in embed.DTYPES)
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, whole.astype(np.float16))
    weights = encoder.weights
    large = {"norm.weight": np.full(16, 1e5, np.float32)}
    large = encoder_of(type(weights)(**vars(weights) | {"tensors": weights.tensors | large}))
    with pytest.raises(UsageError, match="--dtype=float16 ends at 65504, and features go up to"):
        embed.embed(large, images, tmp_path / "large.npz", output="token", dtype="float16")


def test_shards_hold_what_one_file_does(tmp_path, encoder, images, folder, monkeypatch):
    embed.embed(encoder, images, tmp_path / "one.npz", output="patches")
    out = tmp_path / "shards"
    real, calls = embed.embed, []

    def killed(encoder, source, path, **options):
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(path)
        return real(encoder, source, path, **options)

    monkeypatch.setattr(embed, "embed", killed)
    with pytest.raises(KeyboardInterrupt):
        shards.embed(encoder, images, out, shard=3, output="patches")
    monkeypatch.setattr(embed, "embed", real)
    with pytest.raises(UsageError, match="holds no index.json, as finished shards do"):
        shards.files(out)
    before = (out / "00000.npz").stat().st_mtime_ns
    made = shards.embed(encoder, images, out, shard=3, output="patches")
    assert made == {"out": str(out), "shards": 3, "images": 7, "dimensions": 16}
    assert (out / "00000.npz").stat().st_mtime_ns == before
    whole, parts = embedded.read(tmp_path / "one.npz"), list(shards.read(out))
    assert [len(part.names) for part in parts] == [3, 3, 1]
    assert [name for part in parts for name in part.names] == whole.names
    np.testing.assert_allclose(
        np.concatenate([part.features for part in parts]), whole.features, atol=1e-5
    )
    with pytest.raises(UsageError, match="in shards of 3 images; give --shard=3"):
        shards.embed(encoder, images, out, shard=2)
    few = sources.open_images(folder / "0.png")
    shards.embed(encoder, few, out, shard=3, output="patches")
    assert [path.name for path in sorted(out.iterdir())] == ["00000.npz", "index.json"]


def test_a_whitening_is_fitted_kept_with_the_export_and_read_back(tmp_path, folder, capsys):
    weights = random_weights(**SMALL)
    export.export(weights, tmp_path / "model", format="npz")

    def run(*arguments):
        assert cli.main(["mae-jax", *map(str, arguments)]) == 0, capsys.readouterr().err
        return capsys.readouterr()

    train, layers = tmp_path / "train.npz", "--layers=1,3"
    run("embed", tmp_path / "model", f"--images={folder}", f"--out={train}", layers)
    kept = tmp_path / "kept"
    command = ["export", tmp_path / "model", "--format=safetensors", f"--out={kept}"]
    said = run(*command, f"--whiten={train}")
    assert "7 rows are fewer than it takes to tell 16 directions apart" in said.err
    card = (kept / "README.md").read_text()
    assert "fitted on 7 training images, on mean features" in card
    assert "whitening.npz" in (kept / "SHA256SUMS").read_text()
    out = tmp_path / "white.npz"
    run("embed", kept, f"--images={folder}", f"--out={out}", "--layers=3", f"--whiten={kept}")
    plain, made = embedded.read(train), embedded.read(out)
    expected = Moments([plain.features[:, 1]]).fit("whiten")(plain.features[:, 1])
    np.testing.assert_allclose(made.features[:, 0], expected, atol=1e-4)
    # What the card tells a reader without this package to do.
    w = np.load(kept / "whitening.npz")
    by_card = (plain.features[:, 1] - w["features_3.mean"]) @ w["features_3.matrix"]
    np.testing.assert_allclose(made.features[:, 0], by_card, atol=1e-4)
    assert mae_jax.load_encoder(kept).weights.dimensions.depth == 3


def test_a_shard_may_be_broken_and_not_all_of_them(tmp_path, encoder, folder):
    broken = tmp_path / "broken"
    broken.mkdir()
    shutil.copy(next(folder.rglob("*.png")), broken / "a.png")
    (broken / "b.png").write_bytes(b"no image")
    found = shards.embed(encoder, sources.open_images(broken), tmp_path / "out", shard=1)
    assert found["shards"] == 2 and found["broken"] == 1
    (broken / "a.png").write_bytes(b"")
    with pytest.raises(BrokenRecord, match="none of the 2 images can be read"):
        shards.embed(encoder, sources.open_images(broken), tmp_path / "again", shard=1)


def test_standardised_patches_from_shards(tmp_path, encoder, images):
    shards.embed(encoder, images, tmp_path / "s", shard=3, output="patches")
    fitted = whiten.of(tmp_path / "s", "standardise")
    assert fitted.images == 7 and fitted.maps["features"].matrix.shape == (16,)
    embed.embed(encoder, images, tmp_path / "f.npz", output="patches", whitening=fitted)
    rows = embedded.read(tmp_path / "f.npz").features.reshape(-1, 16)
    np.testing.assert_allclose(rows.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(rows.std(0, ddof=1), 1, atol=1e-4)


def test_what_cannot_be_is_one_sentence(tmp_path, folder, capsys):
    weights = random_weights(**SMALL)
    export.export(weights, tmp_path / "model", format="npz")
    command = ["mae-jax", "embed", str(tmp_path / "model"), f"--images={folder}"]
    out, other = f"--out={tmp_path / 'f.npz'}", tmp_path / "other.npz"
    embed.embed(encoder_of(random_weights(**SMALL, seed=1)), sources.open_images(folder), other)
    token = tmp_path / "token.npz"
    embed.embed(encoder_of(weights), sources.open_images(folder), token, output="token")
    assert (
        cli.main([*command, f"--out={tmp_path / 'w.npz'}", f"--whiten={token}", "--output=token"])
        == 0
    )
    parquet = f"--out={tmp_path / 'f.parquet'}"
    for arguments, message in [
        ([out, "--layers=0"], "--layers=0: 0 is no block; they are 1 to 3"),
        ([out, "--layers=2,4"], "--layers=2,4: 4 is no block; they are 1 to 3"),
        ([out, "--layers=2,2"], "--layers=2,2 names a block twice"),
        ([out, "--layers=last"], "--layers: 'last' is no number of a block"),
        ([out, "--dtype=bfloat16"], "--dtype=bfloat16 is unknown; known are float32, float16"),
        ([parquet, "--dtype=float16"], "--dtype=float16 is not read everywhere; give an --out"),
        ([parquet, "--layers=1"], "--layers makes several arrays; give an --out"),
        ([out, "--shard=2"], "must be a folder where --shard is given"),
        ([f"--out={tmp_path / 's'}", "--shard=0"], "--shard=0 must be at least 1 image"),
        ([out, f"--whiten={other}"], "fitted on features of other weights"),
        ([out, f"--whiten={token}"], "is of --output=token, and not of mean"),
        ([out, f"--whiten={token}", "--output=token", "--layers=1"], "not of features_1"),
        ([out, f"--whiten={tmp_path / 'w.npz'}"], "went through a whitening already"),
        ([out, f"--whiten={tmp_path / 'model/model.npz'}"], "must be features that"),
        ([out, f"--whiten={tmp_path / 'none'}"], "does not exist"),
        ([out, f"--whiten={token}", f"--standardise={token}"], "give one of --whiten and"),
    ]:
        capsys.readouterr()
        assert cli.main([*command, *arguments]) == 2, arguments
        assert message in capsys.readouterr().err
    export_ = ["mae-jax", "export", str(tmp_path / "model"), "--format=npz"]
    assert cli.main([*export_, f"--out={tmp_path / 'e'}", f"--whiten={other}"]) == 2
    assert "fitted on features of other weights" in capsys.readouterr().err
    assert not (tmp_path / "f.npz").exists() and not (tmp_path / "e").exists()


def test_a_damaged_index_or_whitening(tmp_path, encoder, images):
    shards.embed(encoder, images, tmp_path / "s", shard=4)
    fitted = whiten.of(tmp_path / "s", "whiten")
    fitted.write(tmp_path / "whitening.npz")
    with pytest.raises(UsageError, match="holds what --whiten is for, and not --standardise"):
        whiten.of(tmp_path / "whitening.npz", "standardise")
    whole = (tmp_path / "whitening.npz").read_bytes()
    (tmp_path / "whitening.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match="is no whitening"):
        whiten.of(tmp_path / "whitening.npz", "whiten")
    (tmp_path / "s" / "index.json").write_text(json.dumps({"shards": ["../x.npz"]}))
    with pytest.raises(UsageError, match="is damaged; delete it, and embed again"):
        shards.files(tmp_path / "s")
