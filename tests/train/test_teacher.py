"""Learning from the tokens of a frozen encoder: students, and features as the target."""

import shutil
import signal

import jax
import numpy as np
import pytest
from flax import nnx

import mae_jax
from mae_jax import config as config_lib
from mae_jax import parallel
from mae_jax.errors import Preempted, UsageError
from mae_jax.train import loop, measured_tables, metrics, state, step
from mae_jax.train import teacher as teacher_lib
from mae_jax.train.checkpoints import checkpoint
from mae_jax.train.optimizer import joined
from mae_jax.train.task import prepare
from mae_jax.weights import export, teacher
from mae_jax.weights.read import read

ONE = parallel.Layout.of(parallel.Split(data=1), jax.devices()[:1])


@pytest.fixture(scope="module")
def source(new_digits_config, tmp_path_factory):
    """A run with two class tokens and pixels of its own, to learn from."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    config = new_digits_config()
    config.model.width, config.model.class_tokens = 24, 2
    config.data.mean, config.data.std = (0.25,), (0.4,)
    config.log.panel_every_epochs = config.log.eval_every_epochs = 10
    loop.run(config, folder, quiet=True)
    return folder


@pytest.fixture
def learning(digits_config, source):
    """A config of a run that is taught."""
    digits_config.train.teacher = str(source)
    digits_config.log.panel_every_epochs = digits_config.log.eval_every_epochs = 10
    return digits_config


@pytest.fixture(params=["distill", "features"])
def taught(request, learning):
    if request.param == "distill":
        learning.train.objective = "distill"
    else:
        learning.model.target = "features"
    return learning


def made(config, layout=ONE):
    """The task, its state and what a step of it is given."""
    given = teacher.read(config)
    task = prepare(config, layout.mesh.size, teacher=given.teacher)
    placed = teacher_lib.place(given, task.objective.attention, layout)
    fresh = state.create(task.objective, task.recipe, 0, layout)
    return task, measured_tables.completed(task, layout, fresh, placed, print), placed


def pretrain(config, folder, **how):
    return mae_jax.pretrain(config, folder, quiet=True, **how)


def on_the_way(task, count=8):
    batch = next(task.batches(ONE))
    return {name: batch[name][:count] for name in ("image", "label")}


def tokens_of(placed, task, images):
    encoder = teacher_lib.ready(task.objective.teacher, "plain", placed, ONE)
    return {n: np.asarray(x) for n, x in task.objective.teacher.tokens(encoder, images).items()}


def test_tokens_are_those_that_the_encoder_gives_everybody(source, learning):
    learning.train.objective = "distill"
    task, _, placed = made(learning)
    images = on_the_way(task)["image"]
    found = tokens_of(placed, task, images)
    encoder = mae_jax.load_encoder(source)
    np.testing.assert_allclose(found["taught"], encoder(images, "patches"), atol=1e-5)
    np.testing.assert_allclose(found["taught_class"], encoder(images, "token"), atol=1e-5)


def test_patches_of_another_size_are_seen_larger(source, learning):
    learning.train.objective = "distill"
    learning.model.patch_size = (4, 4)  # the teacher's are 2 x 2
    task, _, placed = made(learning)
    images = on_the_way(task)["image"]
    assert task.objective.teacher.dimensions.image_size == (4, 4)
    small = jax.image.resize(images.astype(np.float32), (8, 4, 4, 1), "cubic")
    expected = mae_jax.load_encoder(source, image_size=4).encoder((small / 255 - 0.25) / 0.4)
    np.testing.assert_allclose(
        tokens_of(placed, task, images)["taught"], expected[:, 2:], atol=1e-4
    )


def test_a_teacher_of_colour_sees_grey_as_three_alike(source, learning, tmp_path):
    config = learning.copy_and_resolve_references()
    config.train.teacher, config.model.channels = None, 3
    config.data.mean, config.data.std = (0.2, 0.3, 0.4), (0.4, 0.3, 0.5)
    loop.run(config, tmp_path / "colour", quiet=True)
    learning.train.objective, learning.train.teacher = "distill", str(tmp_path / "colour")
    task, _, placed = made(learning)
    images = on_the_way(task)["image"]
    expected = mae_jax.load_encoder(tmp_path / "colour")(np.repeat(images, 3, -1), "patches")
    np.testing.assert_allclose(tokens_of(placed, task, images)["taught"], expected, atol=1e-4)
    for folder, channels, theirs in ((source, 3, 1), (bands(config, tmp_path / "two"), 1, 2)):
        learning.train.teacher, learning.model.channels = str(folder), channels
        with pytest.raises(UsageError, match=f"sees images of {theirs} channels, and model.cha"):
            pretrain(learning, tmp_path / "no")


def bands(config, folder):
    """A run of two channels."""
    for name in ("a.npy", "b.npy", "c.npy"):
        (folder / "data").mkdir(parents=True, exist_ok=True)
        np.save(
            folder / "data" / name, np.random.default_rng(0).integers(0, 9, (8, 8, 2), np.uint8)
        )
    config.data.name, config.data.dir, config.data.folder = None, None, str(folder / "data")
    config.data.split, config.data.eval_split, config.model.channels = "all", None, 2
    config.data.mean = config.data.std = (0.5,)
    config.data.batch_size, config.train.steps, config.train.warmup_epochs = 8, 1, 0
    loop.run(config, folder / "run", quiet=True)
    return folder / "run"


def test_a_class_token_that_nobody_reads_teaches_nothing(source, learning, tmp_path):
    """Of a classifier that averages patches."""
    config = learning.copy_and_resolve_references()
    config.init_from, config.train.teacher = str(source), None
    config.train.objective, config.train.steps = "classify", 1
    mae_jax.finetune(config, workdir=tmp_path / "classes")
    learning.train.objective, learning.train.teacher = "distill", str(tmp_path / "classes")
    task, fresh, placed = made(learning)
    assert not task.objective.teacher.class_token
    assert fresh.tables.keys() == {"encoder", "target"}
    assert tokens_of(placed, task, on_the_way(task)["image"]).keys() == {"taught"}


def test_the_loss_is_in_deviations_of_the_tokens(taught):
    """The mean token costs 1, and the teacher's own tokens nothing."""
    task, fresh, placed = made(taught)
    tables = jax.device_get(fresh.tables)
    steps = max(1, len(task.train) // task.config.data.batch_size)
    batches = task.by_step(ONE, steps=steps)
    seen = np.concatenate([batches[number]["image"] for number in range(steps)])
    tokens = tokens_of(placed, task, seen)["taught"].reshape(-1, 24)
    np.testing.assert_allclose(tables["target"]["mean"], tokens.mean(0), atol=1e-5)
    np.testing.assert_allclose(tables["target"]["deviation"], tokens.std(0), rtol=1e-2)
    standard = (tokens - tokens.mean(0)) / tokens.std(0)
    assert np.square(standard).mean() == pytest.approx(1, abs=1e-3)


def test_the_loss_of_a_student(learning):
    learning.train.objective = "distill"
    task, fresh, placed = made(learning)
    batch = on_the_way(task)
    found = step.apply(
        fresh, step.put(batch, ONE, 8), jax.random.key(0),
        objective=task.objective, method="measure", layout=ONE, teacher=placed,
    )["loss"]  # fmt: skip
    # By hand.
    tokens, tables = tokens_of(placed, task, batch["image"]), jax.device_get(fresh.tables)
    graphdef = nnx.graphdef(task.objective.create(nnx.Rngs(0)))
    model = nnx.merge(graphdef, joined(fresh.params, fresh.tables))
    x = np.asarray(model.encoder(task.objective.pixels.standardise(batch["image"])))
    kernel, bias = (np.asarray(fresh.params["projection"][name]) for name in ("kernel", "bias"))

    def errors(said, true, name):
        standard = (true - tables[name]["mean"]) / tables[name]["deviation"]
        return np.square(said @ kernel + bias - standard)

    patches = errors(x[:, 1:], tokens["taught"], "target").mean((1, 2))
    whole = errors(x[:, 0], tokens["taught_class"], "class_target").mean(1)
    np.testing.assert_allclose(found, (patches + whole) / 2, rtol=1e-4)


def test_hidden_patches_alone_are_compared_with_features(learning):
    learning.model.target = "features"
    task, _, placed = made(learning)
    model = task.objective.create(nnx.Rngs(0))
    batch = on_the_way(task)
    noise = np.random.default_rng(0).random((8, 16)).astype(np.float32)
    hidden = np.argsort(np.argsort(noise, 1), 1) >= 4
    tokens = tokens_of(placed, task, batch["image"])["taught"]
    images = np.asarray(task.objective.pixels.standardise(batch["image"]))

    def loss(tokens):
        whole = model(images, noise=noise, codes=tokens).loss
        parts = model.loss(images, noise=noise, codes=tokens)
        assert float(parts) == pytest.approx(float(whole), rel=1e-5)
        return float(whole)

    first = loss(tokens)
    assert loss(np.where(hidden[..., None], tokens, tokens + 5)) == pytest.approx(first, rel=1e-6)
    assert loss(np.where(hidden[..., None], tokens + 5, tokens)) != pytest.approx(first, rel=1e-2)
    pred = np.asarray(model(images, noise=noise, codes=tokens).pred)
    assert first == pytest.approx(np.square(pred - tokens)[hidden].mean(), rel=1e-4)


def losses(folder):
    return {line["step"]: line["loss"] for line in metrics.read(folder) if "loss" in line}


def same(one, other):
    one, other = (read(folder).tensors for folder in (one, other))
    return one.keys() == other.keys() and all(
        one[name].tobytes() == other[name].tobytes() for name in one
    )


def stopped_at(number, config, folder, monkeypatch, **how):
    """Trains until a signal comes as that step begins."""
    make = step.put

    def put(batch, *rest):
        put.count += 1
        if put.count == number:
            signal.raise_signal(signal.SIGTERM)
        return make(batch, *rest)

    put.count = 0
    with monkeypatch.context() as patch:
        patch.setattr(loop, "put", put)
        with pytest.raises(Preempted):
            pretrain(config, folder, **how)


def test_a_run_learns_and_goes_on_bit_for_bit(taught, source, tmp_path, monkeypatch, capsys):
    whole = pretrain(taught, tmp_path / "whole")
    found = losses(tmp_path / "whole")
    assert found[8] < 0.95 * found[1]
    for name in ("eval_loss", "eval_train_loss", "eval_rank", "eval_knn_accuracy"):
        assert name in whole["measures"]
    stopped_at(4, taught, tmp_path / "parts", monkeypatch)
    shutil.copytree(source, tmp_path / "moved")
    taught.train.teacher = str(tmp_path / "moved")
    with pytest.raises(UsageError, match="train.teacher: "):
        pretrain(taught, tmp_path / "parts")  # what lies elsewhere may be another
    pretrain(taught, tmp_path / "parts", allow_change=["train.teacher"])
    assert losses(tmp_path / "parts") == found
    assert same(tmp_path / "whole", tmp_path / "parts")
    kept = checkpoint.read_model(str(tmp_path / "whole"))["params"]
    assert kept.keys() <= {"encoder", "decoder", "projection"}  # and no teacher


def test_a_teacher_that_changed_is_refused(learning, source, tmp_path, monkeypatch):
    taught = learning
    taught.train.objective = "distill"
    shutil.copytree(source, tmp_path / "teacher")
    taught.train.teacher = str(tmp_path / "teacher")
    stopped_at(4, taught, tmp_path / "run", monkeypatch)
    shutil.rmtree(tmp_path / "teacher" / "checkpoints" / "8")  # what is left is of step 6
    with pytest.raises(UsageError, match="teacher's weights are other than those that the run"):
        pretrain(taught, tmp_path / "run")
    (tmp_path / "teacher").rename(tmp_path / "new")
    taught.train.teacher = str(tmp_path / "new")
    pretrain(taught, tmp_path / "run", allow_change=["train.teacher"])
    assert len(losses(tmp_path / "run")) == 8


def test_parts_of_a_batch_and_devices_make_the_same(learning, tmp_path):
    """Of eight devices the parameters, and the teacher's, are split."""
    taught, expected = learning, None
    taught.train.objective = "distill"
    taught.train.optimizer, taught.train.base_lr = "lars", 10.0  # which is linear in the gradient
    for name, parts, fsdp in (("one", 1, 1), ("parts", 2, 1), ("split", 1, 4)):
        taught.train.accumulate, taught.parallel.fsdp = parts, fsdp
        pretrain(taught, tmp_path / name)
        found = np.array(list(losses(tmp_path / name).values()))
        expected = found if expected is None else expected
        np.testing.assert_allclose(found, expected, rtol=2e-4)


def test_a_student_goes_where_every_encoder_goes(learning, source, tmp_path):
    learning.train.objective = "distill"
    kept = tmp_path / "licensed"
    export.export(read(source), kept, format="npz", part="encoder", license="cc-by-nc-4.0")
    learning.train.teacher = str(kept)
    pretrain(learning, tmp_path / "student")
    weights = read(tmp_path / "student")
    assert weights.kind == "encoder" and weights.dimensions.width == 16
    export.export(weights, tmp_path / "out", format="timm", part="encoder")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| teacher | licensed |" in card
    assert "| license of the teacher | cc-by-nc-4.0 |" in card and "license: cc-by-nc" in card
    assert "# ViT encoder taught by another" in card and "tags: [distillation, vit]" in card
    image = np.zeros((1, 8, 8, 1), np.uint8)
    np.testing.assert_allclose(
        mae_jax.load_encoder(tmp_path / "out")(image),
        mae_jax.load_encoder(tmp_path / "student")(image),
        atol=1e-5,
    )
    learning.init_from, learning.train.teacher = str(tmp_path / "student"), None
    learning.train.objective, learning.train.steps = "classify", 2
    found = mae_jax.finetune(learning, workdir=tmp_path / "classes")
    assert "eval_accuracy" in found["measures"]


def test_features_go_on_with_their_teacher(learning, source, tmp_path, capsys):
    learning.model.target = "features"
    pretrain(learning, tmp_path / "first")
    learning.init_from, learning.train.base_lr = str(tmp_path / "first"), 0.0
    shutil.copytree(source, tmp_path / "same")  # which is the same teacher, wherever it lies
    learning.train.teacher = str(tmp_path / "same")
    pretrain(learning, tmp_path / "on")
    assert same(tmp_path / "first", tmp_path / "on")
    shutil.rmtree(tmp_path / "same" / "checkpoints" / "8")  # and now it is another
    mae_jax.pretrain(learning, tmp_path / "other")
    assert "its encoder and decoder; new: decoder.pred, target" in capsys.readouterr().err
    weights = read(tmp_path / "on")
    assert weights.target == "features" and len(weights.tensors["decoder_pred.bias"]) == 24
    loaded = mae_jax.load(tmp_path / "on")
    assert loaded.target.values == 24 and loaded.target.deviation[...].min() > 0
    learning.model.target, learning.train.teacher = None, None
    with pytest.raises(UsageError, match="predicts the tokens of a teacher; name one"):
        pretrain(learning, tmp_path / "no")
    learning.model.target = "pixels"
    pretrain(learning, tmp_path / "pixels")
    with pytest.raises(UsageError, match="predicts features, which cannot be drawn"):
        mae_jax.reconstruct(tmp_path / "on", images=None, out=tmp_path / "no.png")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train.teacher": None, "train.objective": "distill"}, "needs train.teacher"),
        ({"train.teacher": None, "model.target": "features"}, "needs train.teacher"),
        ({}, "goes with train.objective 'distill' or"),
        ({"train.objective": "distill", "train.teacher": "nowhere"}, "'nowhere' does not exist"),
        (
            {"train.objective": "distill", "data.pixels": "float32", "data.mean": (1.0,),
             "data.std": (2.0,)},
            "was given pixels of uint8, and data.pixels is 'float32'",
        ),
        (
            {"train.objective": "distill", "parallel.tensor": 4},
            "does not divide",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_taught_is_said(changes, said, learning, tmp_path):
    learning.update_from_flattened_dict(changes)
    with pytest.raises(UsageError, match=said):
        pretrain(learning, tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_pixels_without_data_cannot_be_taught(learning):
    learning.train.objective, learning.data.pixels, learning.data.nodata = (
        "distill",
        "float32",
        "nan",
    )
    learning.data.mean, learning.data.std = (1.0,), (2.0,)
    with pytest.raises(UsageError, match="distill' is of whole patches"):
        config_lib.validate(learning)


def test_weights_that_are_no_numbers_teach_nothing(learning, source, tmp_path):
    export.export(read(source), tmp_path / "broken", format="npz", part="encoder")
    path = tmp_path / "broken" / "model.npz"
    with np.load(path) as found:
        arrays = dict(found)
    arrays["norm.bias"][0] = np.nan
    np.savez(path, **arrays)
    (tmp_path / "broken" / "SHA256SUMS").unlink()
    learning.train.objective, learning.train.teacher = "distill", str(path)
    with pytest.raises(UsageError, match="has weights that are not finite numbers"):
        pretrain(learning, tmp_path / "no")


def test_a_sweep_over_teachers(learning, source, tmp_path):
    learning.train.objective = "distill"
    shutil.copytree(source, tmp_path / "other")
    shutil.rmtree(tmp_path / "other" / "checkpoints" / "8")
    grid = {"train.teacher": [str(source), str(tmp_path / "other")]}
    found = mae_jax.sweep(learning, tmp_path / "sweep", grid=grid, seeds=1)
    one, other = (row["held-out loss"]["mean"] for row in found["rows"])
    assert one != other


def test_an_encoder_begins_as_one_that_reconstructs(learning):
    """`diagnose` compares a student with its start by that."""
    learning.train.objective = "distill"
    _, fresh, _ = made(learning)
    learning.train.objective, learning.train.teacher = "reconstruct", None
    other = prepare(learning, 1)
    expected = state.create(other.objective, other.recipe, 0, ONE).params["encoder"]
    jax.tree.map(np.testing.assert_array_equal, fresh.params["encoder"], expected)
