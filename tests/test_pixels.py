"""Every kind of image, from every kind of set, reaches the network alike in every verb."""

import csv
import dataclasses

import numpy as np
import pytest
from PIL import Image

import mae_jax
from mae_jax import pixels as pixels_lib
from mae_jax.config import default_config
from mae_jax.data import loader, prepare, sources
from mae_jax.data.check import statistics, unstandardised
from mae_jax.errors import UsageError
from mae_jax.inference import embed, evaluation, pictures
from mae_jax.inference.predict import predict
from mae_jax.inference.views import pixels_for, views
from mae_jax.parallel import Layout
from mae_jax.pixels import Pixels
from mae_jax.studies import finetune, probe
from mae_jax.train import loop
from mae_jax.weights import export
from mae_jax.weights.read import read

SIDE = 11  # of the images, which are resampled to 8


def _png(path, pixels):
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path)


def _pages(path, pixels):
    first, *rest = (Image.fromarray(band) for band in np.moveaxis(pixels, -1, 0))
    first.save(path, save_all=True, append_images=rest)


def _draw(rng, dtype, channels):
    """A picture that is dark above or below, for two classes."""
    shape, top = (SIDE, SIDE, channels), {"uint8": 255, "uint16": 65535}.get(dtype)
    if top is None:
        return rng.normal(-1000, 300, shape).astype(dtype)
    return rng.integers(0, top + 1, shape, dtype)


# Of every kind: type, channels, what is written of it, and with which suffix.
KINDS = {
    "colour": ("uint8", 3, _png, "png"),
    "grey": ("uint8", 1, _png, "png"),
    "grey of 16 bits": ("uint16", 1, _png, "png"),
    "float": ("float32", 1, _png, "tiff"),
    "five bands": ("uint8", 5, _pages, "tiff"),
    "with transparency": ("uint8", 4, _png, "png"),
}


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folders(kind, tmp_path_factory):
    """The same images as files, as arrays and as a prepared set; two classes, train and val."""
    dtype, channels, write, suffix = KINDS[kind]
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for name in ("cat", "dog"):
            for index in range(count):
                pixels = _draw(rng, dtype, channels)
                if name == "dog":
                    pixels[SIDE // 2 :] = pixels.min()
                for where in ("files", "arrays"):
                    (root / where / split / name).mkdir(parents=True, exist_ok=True)
                write(root / "files" / split / name / f"{index}.{suffix}", pixels)
                np.save(root / "arrays" / split / name / f"{index}.npy", pixels)
    prepare.prepare(str(root / "files"), str(root / "prepared"), workers=1)
    return root


@pytest.fixture(scope="module")
def config(kind, folders):
    """Views of training are whole images too, so that all of a run sees the same numbers."""
    dtype, channels, *_ = KINDS[kind]
    config = default_config()
    model, data, train = config.model, config.data, config.train
    model.image_size, model.patch_size, model.channels = (8, 8), (4, 4), channels
    model.width, model.depth, model.heads = 16, 1, 2
    model.decoder_width, model.decoder_depth, model.decoder_heads = 16, 1, 2
    data.folder, data.split, data.eval_split = str(folders / "files"), "train", "val"
    data.batch_size, data.workers, data.flip = 8, 0, False
    data.crop_scale, data.crop_ratio, data.eval_crop = (1.0, 1.0), (1.0, 1.0), 1.0
    train.steps, train.warmup_steps, train.base_lr = 2, 1, 1e-2
    config.log.tensorboard, config.log.knn_neighbours = False, 2
    config.log.eval_every_epochs = config.log.panel_every_epochs = 2.0
    if dtype == "float32":
        data.pixels = "float32"
        blank = unstandardised(config)
        found = statistics(
            sources.open_source(data, "train"), loader.Picture.from_config(blank), 100, workers=1
        )
        data.mean, data.std = tuple(found["mean"]), tuple(found["std"])
    return config


@pytest.fixture(scope="module")
def run(config, folders):
    loop.run(config, folders / "run", quiet=True)
    return folders / "run"


@pytest.fixture(scope="module")
def classifier(config, run, folders):
    config = config.copy_and_resolve_references()
    config.train.objective, config.init_from = "classify", str(run)
    for name, value in (("pixels", None), ("mean", ()), ("std", ()), ("eval_crop", None)):
        config.data[name] = value  # read from the run
    finetune.run(config, folders / "classifier", quiet=True)
    return folders / "classifier"


def rows(images):
    return {np.ascontiguousarray(image).tobytes() for image in images}


@pytest.fixture
def seen(monkeypatch):
    """What goes to devices, image by image, and how it is described where it is standardised."""
    images, described = set(), set()
    put, standardise = Layout.put_batch, Pixels.standardise

    def noting_put(self, batch, batch_size):
        images.update(rows(batch["image"]))
        return put(self, batch, batch_size)

    def noting_standardise(self, given):
        described.add(self)
        if not hasattr(given, "aval") or not hasattr(given.aval, "weak_type"):
            images.update(rows(np.asarray(given)))
        return standardise(self, given)

    monkeypatch.setattr(Layout, "put_batch", noting_put)
    monkeypatch.setattr(Pixels, "standardise", noting_standardise)
    return images, described


def expected(config, folder, split):
    """What a network is to be given, by the one description, from one kind of set."""
    source, picture = sources.FolderSource(str(folder), split), loader.Picture.from_config(config)
    decode = loader.Decoder(source, picture, cache=False)
    return np.stack([picture.plain(decode(index)[0]) for index in range(len(source))])


def test_files_arrays_and_prepared_sets_are_the_same(config, folders):
    views = [expected(config, folders / n, "train") for n in ("files", "arrays", "prepared")]
    assert views[0].dtype == (config.data.pixels or "uint8") and views[0].std() > 0
    for other in views[1:]:
        np.testing.assert_array_equal(views[0], other)


def test_every_verb_gives_the_network_the_same(config, run, classifier, folders, seen, tmp_path):
    images, described = seen
    train, held_out = (rows(expected(config, folders / "files", s)) for s in ("train", "val"))
    pixels = Pixels.from_config(config)

    def check(found, what):
        assert images == found, what
        assert not described or described == {pixels}, what
        images.clear()
        described.clear()

    loop.run(config, tmp_path / "run", quiet=True)
    check(train | held_out, "pretrain, its measures, neighbours and panels")
    one = config.copy_and_resolve_references()
    one.train.objective, one.init_from = "classify", str(run)
    finetune.run(one, tmp_path / "classifier", quiet=True)
    check(train | held_out, "finetune")
    one = config.copy_and_resolve_references()
    probe.compare([str(run)], one, tmp_path / "probe", methods=("knn",))
    check(train | held_out, "probe")
    evaluation.evaluate(read(classifier), config)
    check(held_out, "evaluate")
    source = sources.open_images(folders / "files" / "val")
    predict(
        mae_jax.load_classifier(classifier), source, tmp_path / "p.csv", sheet=tmp_path / "p.png"
    )
    check(held_out, "predict")
    embed.embed(mae_jax.load_encoder(run), source, tmp_path / "f.npz")
    check(held_out, "embed")
    pictures.features(read(run, part="encoder"), folders / "files" / "val", tmp_path / "f.png")
    check(held_out, "features")
    pictures.reconstruct(read(run), folders / "files" / "val", tmp_path / "r.png")
    assert described == {pixels}


def test_panels_can_be_seen(run):
    for panel in (run / "panels").iterdir():
        pixels = np.asarray(Image.open(panel).convert("L"), float)
        assert pixels[20:].std() > 30 and 20 < np.median(pixels[20:]) < 255
    assert any((run / "panels").iterdir())


def test_an_export_says_what_its_model_was_given(kind, run, classifier, folders, tmp_path):
    trained = mae_jax.load_classifier(classifier)
    (some,) = views(sources.open_images(folders / "files" / "val"), trained.weights.pixels,
                    range(4), 4)  # fmt: skip
    for name in ("npz", "safetensors", "pth"):
        export.export(read(classifier), tmp_path / name, format=name)
        back = mae_jax.load_classifier(tmp_path / name)
        assert back.weights.pixels == trained.weights.pixels
        assert back.classes == trained.classes == ("cat", "dog")
        np.testing.assert_array_equal(back(some.images), trained(some.images))
    text = (tmp_path / "npz" / "README.md").read_text()
    assert ("own units" in text) == (kind == "float")
    for name in ("huggingface", "timm"):
        if kind == "float":
            with pytest.raises(UsageError, match="prepares images of 8 bits alone"):
                export.export(read(run, part="encoder"), tmp_path / name, format=name)
        else:
            export.export(read(run, part="encoder"), tmp_path / name, format=name)
            found = read(tmp_path / name, part="encoder").pixels
            assert found == read(run).pixels
            described = (tmp_path / name / "preprocessor_config.json").exists()
            assert described == (name == "huggingface" and kind != "five bands")


def test_predictions_are_a_table(classifier, folders, tmp_path):
    source = sources.open_images(folders / "files" / "val")
    made = predict(mae_jax.load_classifier(classifier), source, tmp_path / "p.csv",
                   sheet=tmp_path / "p.png")  # fmt: skip
    lines = list(csv.reader((tmp_path / "p.csv").open()))
    assert lines[0] == ["name", "class", "probability", "class_2", "probability_2"]
    assert [line[0] for line in lines[1:]] == [source.name(i) for i in range(4)]
    for _, first, p, second, q in lines[1:]:
        assert {first, second} == {"cat", "dog"} and float(p) >= float(q)
        assert float(p) + float(q) == pytest.approx(1, abs=1e-5)
    assert made["images"] == 4 and sum(made["classes"].values()) == 4
    assert np.asarray(Image.open(tmp_path / "p.png")).std() > 10
    corrected = "name,class\ncorrected by hand,cat\n"
    (tmp_path / "p.csv").write_text(corrected)
    with pytest.raises(UsageError, match=r"p\.csv' is there already; give a new file"):
        predict(mae_jax.load_classifier(classifier), source, tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text() == corrected


def test_what_is_left_open_is_settled_and_written_down():
    config = default_config()
    pixels_lib.settle(config)
    assert (config.data.pixels, config.data.eval_crop) == ("uint8", 0.875)
    assert config.data.mean == pixels_lib.IMAGENET_MEAN
    config = default_config()
    config.model.image_size, config.model.channels = (448, 448), 2
    pixels_lib.settle(config)
    assert (config.data.eval_crop, config.data.mean) == (1.0, (0.5, 0.5))
    assert Pixels((224, 224)).resized((448, 448)).crop == 1.0
    assert Pixels((224, 224), crop=0.95).resized((448, 448)).crop == 0.95


def test_a_config_that_contradicts_the_weights_is_refused(kind, config, run):
    weights, wrong = read(run), "uint8" if kind == "float" else "float32"
    other = default_config()
    assert pixels_for(weights, other) == weights.pixels
    other.data.eval_crop = 0.5
    assert pixels_for(weights, other) == dataclasses.replace(weights.pixels, crop=0.5)
    other.data.pixels = wrong
    with pytest.raises(UsageError, match=f"data.pixels is '{wrong}', and .* was given"):
        pixels_for(weights, other)
    other.data.pixels, other.data.mean = None, (0.25,)
    with pytest.raises(UsageError, match=r"data\.mean is \(0\.25,\), and"):
        pixels_for(weights, other)
    again = config.copy_and_resolve_references()
    again.train.objective, again.init_from = "classify", str(run)
    again.data.pixels, again.data.mean, again.data.std = wrong, (), ()
    with pytest.raises(UsageError, match="leave it out, or set"):
        finetune.run(again, run.parent / "never", quiet=True)
