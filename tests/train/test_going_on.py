"""Pre-training that goes on from weights that exist."""

import json
import shutil

import jax
import numpy as np
import pytest

import mae_jax
from mae_jax import parallel
from mae_jax.config.architecture import fill_open
from mae_jax.errors import UsageError
from mae_jax.models.targets import PrincipalComponents
from mae_jax.studies.finetune import run as finetune
from mae_jax.train import loop, metrics, state
from mae_jax.train.task import prepare
from mae_jax.weights import export, pth, start
from mae_jax.weights.read import read

ONE = parallel.Layout.of(parallel.Split(data=1), jax.devices()[:1])
OPEN = (
    "size", "image_size", "patch_size", "channels", "width", "depth", "heads", "decoder_width",
    "decoder_depth", "decoder_heads", "norm_pix", "class_token", "target",
)  # fmt: skip


@pytest.fixture(scope="module")
def source(new_digits_config, tmp_path_factory):
    """A run with settings of its own."""
    folder = tmp_path_factory.mktemp("source") / "run"
    config = new_digits_config()
    config.model.norm_pix = False
    config.data.mean, config.data.std = (0.25,), (0.4,)
    config.log.panel_every_epochs = 10
    loop.run(config, folder, quiet=True)
    return folder


@pytest.fixture
def going_on(digits_config, source):
    """A config that goes on from it, and says nothing itself."""
    for name in OPEN:
        digits_config.model[name] = None
    digits_config.init_from = str(source)
    digits_config.log.panel_every_epochs = 10
    return digits_config


def pretrain(config, folder):
    return mae_jax.pretrain(config, folder, quiet=True)


def tensors(folder):
    return read(folder).tensors


@pytest.mark.parametrize("kind", ["run", "pth", "huggingface", "safetensors"])
def test_a_rate_of_zero_leaves_what_the_source_is(kind, source, going_on, tmp_path):
    if kind != "run":
        export.export(read(source), tmp_path / kind, format=kind, part="full")
        going_on.init_from = str(tmp_path / kind)
    going_on.train.base_lr = 0
    found = pretrain(going_on, tmp_path / "on")["measures"]
    before = metrics.read(source)
    (theirs,) = {line["eval_loss"] for line in before if line["step"] == 8 and "eval_loss" in line}
    assert found["eval_loss"] == pytest.approx(theirs, abs=1e-5)
    given, kept = tensors(source), tensors(tmp_path / "on")
    assert given.keys() == kept.keys()
    assert all(given[name].tobytes() == kept[name].tobytes() for name in given)
    noted = json.loads((tmp_path / "on" / "config.json").read_text())["config"]
    assert noted["model"]["norm_pix"] is False and noted["model"]["decoder_width"] == 16
    assert noted["data"]["mean"] == [0.25] and noted["data"]["std"] == [0.4]


def test_what_was_begun_goes_on_without_its_source(source, going_on, tmp_path):
    shutil.copytree(source, tmp_path / "source")
    going_on.init_from = str(tmp_path / "source")
    going_on.train.steps = 4
    pretrain(going_on, tmp_path / "on")
    shutil.rmtree(tmp_path / "source")
    going_on.train.steps = 8
    assert pretrain(going_on, tmp_path / "on")["steps"] == 8


def test_a_new_decoder(source, going_on, tmp_path, capsys):
    model = going_on.model
    going_on.init_part, model.decoder_depth, model.norm_pix = "encoder", 2, True
    model.decoder_width, model.decoder_heads = 24, 2
    going_on.train.base_lr = 0
    mae_jax.pretrain(going_on, tmp_path / "on")
    assert f"started from {source}, its encoder; new: decoder" in capsys.readouterr().err
    given, kept = read(source), read(tmp_path / "on")
    assert kept.dimensions.decoder_depth == 2 and kept.dimensions.decoder_width == 24
    for name, value in given.encoder().tensors.items():
        assert value.tobytes() == kept.tensors[name].tobytes()


def test_another_target_has_a_new_last_layer(source, going_on, tmp_path, capsys):
    going_on.model.target, going_on.model.pca_components = "pca", 3
    mae_jax.pretrain(going_on, tmp_path / "on")
    said = capsys.readouterr().err
    assert "its encoder and decoder; new: decoder.pred, target" in said
    assert "model.target is pca, and" in said and "was trained with pixels" in said
    loaded = mae_jax.load(tmp_path / "on")
    assert isinstance(loaded.target, PrincipalComponents) and loaded.target.values == 3
    assert np.abs(loaded.target.components[...]).sum() > 0  # measured on the images
    # And on from that, with its directions.
    going_on.init_from, going_on.model.target = str(tmp_path / "on"), None
    going_on.train.base_lr, going_on.model.pca_components = 0, 96
    pretrain(going_on, tmp_path / "again")
    given, kept = tensors(tmp_path / "on"), tensors(tmp_path / "again")
    assert all(given[name].tobytes() == kept[name].tobytes() for name in given)


def test_other_images_patches_and_channels(source, going_on, tmp_path, capsys):
    model = going_on.model
    model.image_size, model.patch_size, model.channels = (12,), (3,), 3
    with pytest.raises(UsageError, match=r"channels is 3, and .* has 1; .*init_channels=\(0, 0, 0"):
        pretrain(going_on, tmp_path / "on")
    going_on.init_channels = (0, 0, 0)
    mae_jax.pretrain(going_on, tmp_path / "on")
    said = capsys.readouterr().err
    assert "its encoder and decoder; new: nothing" in said
    assert "[2, 2], are resized to [3]" in said
    loaded = read(tmp_path / "on")
    assert loaded.dimensions.grid == (4, 4) and loaded.pixels.mean == (0.25,) * 3


@pytest.mark.parametrize(
    "change, message",
    [
        ({"width": 32}, "model.width is 32, and '.*' has 16; leave that to the weights"),
        (
            {"size": "tiny"},
            "model.size 'tiny' has width 192, and '.*' has 16; leave that to the weights",
        ),
        ({"decoder_depth": 3}, "decoder_depth is 3, and .* give --config.init_part=encoder for a"),
        (
            {"class_token": False},
            "model.class_token is False, and '.*' has True; leave that to the",
        ),
        (
            {"mask_tokens_in_encoder": True},
            "is True, and '.*' has False; leave that .* does, or give",
        ),
        ({"decoder_attention": "cross"}, "is cross, and '.*' has self; .* give --config.init_part"),
        ({"image_size": (9,)}, "image_size"),
    ],
)
def test_a_contradiction_is_one_sentence(change, message, going_on, tmp_path):
    for name, value in change.items():
        going_on.model[name] = value
    with pytest.raises(UsageError, match=message) as error:
        pretrain(going_on, tmp_path / "on")
    assert "\n" not in str(error.value) and not (tmp_path / "on").exists()


def test_what_goes_with_a_source_alone(going_on, tmp_path):
    for name, value in (("init_part", "full"), ("init_channels", (0,)), ("train.settle_steps", 2)):
        config = going_on.copy_and_resolve_references()
        config.init_from = None
        config.model.image_size, config.model.patch_size, config.model.channels = (8,), (2,), 1
        config.update_from_flattened_dict({name: value})
        with pytest.raises(UsageError, match=f"{name} .* goes with init_from, which is not set"):
            pretrain(config, tmp_path / "on")
    going_on.train.objective, going_on.init_part = "classify", "full"
    with pytest.raises(UsageError, match="init_part 'full' is of pre-training"):
        finetune(going_on, tmp_path / "on", quiet=True)


def test_an_encoder_alone_says_so(source, going_on, tmp_path, capsys):
    export.export(read(source), tmp_path / "e", format="npz", part="encoder")
    going_on.init_from, going_on.init_part = str(tmp_path / "e"), "full"
    with pytest.raises(UsageError, match="init_part is 'full', and .* holds an encoder alone"):
        pretrain(going_on, tmp_path / "on")
    going_on.init_part, going_on.model.decoder_width, going_on.model.decoder_heads = None, 16, 2
    mae_jax.pretrain(going_on, tmp_path / "on")
    assert "its encoder; new: decoder" in capsys.readouterr().err
    assert read(tmp_path / "on").norm_pix  # of which an encoder says nothing


def test_from_a_classifier(source, digits_config, going_on, tmp_path, capsys):
    """Whose mean has a norm of its own: the encoder's is new, and its positions are as trained."""
    classify = digits_config.copy_and_resolve_references()
    classify.train.objective, classify.init_from = "classify", str(source)
    finetune(classify, tmp_path / "c", quiet=True)
    going_on.init_from, going_on.train.base_lr = str(tmp_path / "c"), 0
    going_on.model.decoder_width, going_on.model.decoder_heads = 16, 2
    mae_jax.pretrain(going_on, tmp_path / "on")
    assert "its encoder; new: decoder, encoder.norm" in capsys.readouterr().err
    kept, given = tensors(tmp_path / "on"), tensors(tmp_path / "c")
    assert kept["pos_embed"].tobytes() == given["pos_embed"].tobytes()
    assert kept["pos_embed"].tobytes() != tensors(source)["pos_embed"].tobytes()


@pytest.mark.parametrize("slow", [0.0, 0.1])
def test_the_encoder_waits_until_the_decoder_has_settled(slow, going_on, tmp_path):
    going_on.init_part, going_on.train.settle_steps, going_on.train.settle_lr = "encoder", 4, slow
    going_on.train.warmup_epochs = 0.0
    going_on.model.decoder_width, going_on.model.decoder_heads = 16, 2
    going_on.checkpoint.every_epochs, going_on.checkpoint.keep = 4 / 6.25, 9
    pretrain(going_on, tmp_path / "on")
    given = read(going_on.init_from).encoder().tensors
    four, eight = (read(tmp_path / "on", step=step).tensors for step in (4, 8))
    names = [name for name in given if "pos_embed" not in name]
    stood = [given[name].tobytes() == four[name].tobytes() for name in names]
    assert all(stood) if slow == 0 else not any(stood)
    assert not any(four[name].tobytes() == eight[name].tobytes() for name in names)
    assert four["decoder_pred.bias"].any()  # which began at 0, and does not wait
    first, then = (
        sum(np.square(a[name] - b[name]).sum() for name in names)
        for a, b in ((given, four), (four, eight))
    )
    assert first < 0.3 * then


def test_no_run_settles_for_all_of_its_steps(going_on, tmp_path):
    going_on.init_part, going_on.train.settle_steps = "encoder", 8
    going_on.model.decoder_width, going_on.model.decoder_heads = 16, 2
    with pytest.raises(UsageError, match="of its rate for 8 steps, and the whole run has 8"):
        pretrain(going_on, tmp_path / "on")


def test_a_size_is_compared_and_need_not_fit_by_itself(going_on):
    going_on.model.size, going_on.model.image_size = "tiny", (28, 28)
    with pytest.raises(UsageError, match="model.size 'tiny' has width 192"):
        start.adopt(going_on)


def test_what_a_source_does_not_say_the_config_may(source, going_on, tmp_path):
    """A file that says nothing of itself: heads, and whether its target was normalised."""
    pth.write(tmp_path / "model.pth", read(source).tensors, "{}")
    going_on.init_from = str(tmp_path / "model.pth")
    with pytest.raises(UsageError, match="does not say"):
        start.adopt(going_on)
    going_on.model.heads, going_on.model.decoder_heads, going_on.model.norm_pix = 2, 2, False
    start.adopt(going_on)
    assert going_on.model.norm_pix is False and going_on.model.width == 16


def test_a_record_of_before_says_what_was_usual(source, tmp_path):
    """Keys that a version did not know, or that are unset today, are what it did."""
    shutil.copytree(source, tmp_path / "old")
    path = tmp_path / "old" / "config.json"
    record = json.loads(path.read_text())
    for name in ("target", "class_tokens", "mask_tokens_in_encoder"):
        del record["config"]["model"][name]
    path.write_text(json.dumps(record))
    old = read(tmp_path / "old")
    assert old.target == "pixels" and old.class_tokens == 1


def test_pixels_without_data_are_not_forgotten_for_uint8(going_on):
    """What the config says itself is refused as ever; what only the source said is left behind."""
    floats = {"data": {"pixels": "float32", "mean": [1.0], "std": [2.0], "nodata": "nan"}}
    floats["model"] = {"image_size": [8, 8]}
    going_on.data.pixels = "uint8"
    fill_open(going_on, floats)
    assert going_on.data.nodata is None
    going_on.data.nodata = "nan"
    fill_open(going_on, floats)
    assert going_on.data.nodata == "nan"


def test_layers_may_learn_at_rates_of_their_own(going_on):
    going_on.train.layer_decay = 0.5
    start.adopt(going_on)
    task = prepare(going_on, 1)
    made = state.create(task.objective, task.recipe, 0, ONE)
    scale = jax.tree_util.tree_map_with_path(
        lambda path, _: task.recipe.layer_scale(path), made.params
    )
    assert set(jax.tree.leaves(scale["decoder"])) == {1.0}
    assert set(jax.tree.leaves(scale["encoder"]["blocks"][0])) == {0.25}
    assert scale["encoder"]["patch_embed"]["kernel"] == 0.125


def test_a_sweep_goes_on_from_a_source(going_on, tmp_path):
    going_on.train.steps = 2
    grid = {"train.base_lr": (1e-3, 1e-2)}
    rows = mae_jax.sweep(going_on, tmp_path / "s", grid=grid, seeds=1)["rows"]
    assert len(rows) == 2 and all(row["held-out loss"]["mean"] > 0 for row in rows)
    (noted,) = (tmp_path / "s").glob("base_lr=0.01/seed=0/pretrain/config.json")
    assert json.loads(noted.read_text())["config"]["model"]["norm_pix"] is False
