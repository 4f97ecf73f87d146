"""Augmentation, optimizer and fine-tuned models against timm's, on the same numbers or in law."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import timm
import timm.optim
import torch
from PIL import Image
from timm.data import auto_augment
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing

import mae_jax
from mae_jax.config import default_config
from mae_jax.data import randaugment
from mae_jax.studies import finetune
from mae_jax.train import mixing
from mae_jax.train.optimizer import Recipe
from mae_jax.weights import export, read

FILL = (124, 116, 104)
SIDE = 32


def recipe(**changes):
    settings = dict(
        peak_lr=0.3, min_lr=0.0, warmup_steps=0, steps=10**9, weight_decay=0.0, undecayed=(),
        beta1=0.9, beta2=0.999, clip_norm=None, layer_decay=1.0, depth=2,
    )  # fmt: skip
    return Recipe(**settings | changes)


def photograph():
    from sklearn.datasets import load_sample_images

    return Image.fromarray(load_sample_images().images[1]).crop((100, 100, 260, 240))


def theirs(name):
    """timm's name of an operation, of those that increase with the magnitude."""
    increasing = {"Posterize", "Solarize", "Color", "Contrast", "Brightness", "Sharpness"}
    relative = {"TranslateX": "TranslateXRel", "TranslateY": "TranslateYRel"}
    return f"{name}Increasing" if name in increasing else relative.get(name, name)


def test_operations_are_timms():
    assert [theirs(n) for n in randaugment.OPERATIONS] == auto_augment._RAND_INCREASING_TRANSFORMS


@pytest.mark.parametrize("magnitude", [0.0, 3.3, 8.7, 9.6])
@pytest.mark.parametrize("name", randaugment.OPERATIONS)
def test_every_operation_makes_the_same_pixels(name, magnitude, monkeypatch):
    hparams = {"img_mean": FILL, "interpolation": Image.Resampling.BICUBIC}
    operation = auto_augment.AugmentOp(theirs(name), prob=1.0, magnitude=magnitude, hparams=hparams)
    for sign, draw in ((-1, 0.9), (1, 0.1)):
        monkeypatch.setattr(random, "random", lambda: draw)  # noqa: B023
        expected = np.asarray(operation(photograph()))
        made = randaugment.OPERATIONS[name](photograph(), magnitude / 10, sign, FILL)
        np.testing.assert_array_equal(np.asarray(made), expected)


def test_randaugment_has_timms_statistics():
    policy = auto_augment.rand_augment_transform(
        "rand-m9-mstd0.5-inc1", {"img_mean": FILL, "interpolation": Image.Resampling.BICUBIC}
    )
    ours = randaugment.RandAugment(2, 9.0, 0.5, 0.5, FILL)
    rng, small = np.random.default_rng(0), photograph().resize((24, 24))
    random.seed(0)
    np.random.seed(0)
    drawn = {"ours": [], "timm": []}
    while len(drawn["timm"]) < 3000:
        drawn["ours"].append(np.asarray(ours(small, rng)))
        try:
            drawn["timm"].append(np.asarray(policy(small)))
        except ValueError:  # Pillow refuses timm's posterisation to no bits, one draw in 1500
            drawn["timm"].append(np.zeros_like(drawn["ours"][-1]))
    original = np.asarray(small).astype(float)
    numbers = {
        name: np.array(
            [
                ((x == original).all(), x.mean(), x.std(), abs(x - original).mean())
                for x in map(np.ndarray.astype, images, [float] * len(images))
            ]
        )
        for name, images in drawn.items()
    }
    # Four standard errors of a difference of means.
    error = np.sqrt(sum(x.var(0) for x in numbers.values()) / 3000)
    difference = abs(numbers["ours"].mean(0) - numbers["timm"].mean(0))
    assert (difference < 4 * error).all(), (difference, error)


def moments(values):
    values = np.asarray(values, float)
    return values.mean(0), values.std(0) / np.sqrt(len(values))


def assert_same_law(ours, timms):
    (a, error_a), (b, error_b) = moments(ours), moments(timms)
    assert (abs(a - b) <= 4 * np.hypot(error_a, error_b) + 1e-9).all(), (a, b)


def test_erasing_has_timms_statistics():
    random.seed(0)
    eraser = RandomErasing(probability=0.25, mode="pixel", device="cpu")
    shape = (6000, 20, SIDE)
    boxes = np.asarray(mixing.erasing_boxes(jax.random.key(0), 6000, shape[1:], 0.25))
    seeds = jnp.arange(6000, dtype=jnp.uint32)
    ours = np.asarray(mixing.erase(jnp.full((*shape, 1), 50.0), jnp.asarray(boxes), seeds))
    found = eraser(torch.full((6000, 1, 20, SIDE), 50.0))[:, 0].numpy()

    def described(images):
        erased = images != 50
        rows, columns = erased.any(2), erased.any(1)
        size = np.stack([rows.sum(1), columns.sum(1)], 1)
        some = size.any(1)
        start = np.stack([rows.argmax(1), columns.argmax(1)], 1)[some]
        return some, np.concatenate([size[some], size[some] ** 2, start], 1), images[erased]

    for a, b in zip(described(ours[..., 0]), described(found), strict=True):
        assert_same_law(a.astype(float), b.astype(float))


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 1.0), (0.8, 0.0), (0.0, 1.0)])
def test_mixup_and_cutmix_have_timms_statistics(mixup, cutmix):
    np.random.seed(0)
    count, classes = 4000, 4
    made = mixing.mixing_draw(
        jax.random.key(0), count, (20, SIDE), mixup=mixup, cutmix=cutmix, switch=0.5
    )
    share, box = np.asarray(made["share"]), np.asarray(made["box"])
    mixer = Mixup(mixup, cutmix, mode="elem", switch_prob=0.5, num_classes=classes)
    # A sample is all 0 and of class 0, its partner all 1 and of class 1.
    half = count // 2
    images = torch.cat([torch.zeros(half, 1, 20, SIDE), torch.ones(half, 1, 20, SIDE)])
    labels = torch.cat([torch.zeros(half), torch.ones(half)])
    mixed, targets = mixer(images, labels)
    mixed, targets = mixed[:half, 0].numpy(), targets[:half].numpy()
    ours = np.asarray(
        mixing.mix_images(
            jnp.zeros((count, 20, SIDE, 1)), jnp.ones((count, 20, SIDE, 1)),
            jnp.asarray(share), jnp.asarray(box),
        )
    )[..., 0]  # fmt: skip

    def described(images, kept):
        cut = ((images == 0) | (images == 1)).all((1, 2))
        return np.stack([kept, kept**2, cut, images.mean((1, 2)), images.std((1, 2))], 1)

    one, other = (
        np.eye(classes)[label] * 0.9 + 0.1 / classes for label in (0, 1)
    )  # smoothed as timm does by default
    own = share[:, None] * one + (1 - share[:, None]) * other
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(own.sum(1), 1, rtol=1e-5)
    timm_share = (targets[:, 0] - other[0]) / (one[0] - other[0])
    assert_same_law(described(ours, share), described(mixed, timm_share))
    assert_same_law(own, targets)


def test_lars_is_timms():
    rng = np.random.default_rng(0)
    kernel, bias = rng.standard_normal((5, 3), np.float32), np.zeros(3, np.float32)
    ours = recipe(optimizer="lars").build()
    given = {"head": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}}
    state = ours.init(given)
    with torch.inference_mode(False):
        tensors = [torch.nn.Parameter(torch.from_numpy(x.copy())) for x in (kernel, bias)]
        # Biases go as in the published probe: without a trust ratio.
        groups = [{"params": tensors[:1], "always_adapt": True}, {"params": tensors[1:]}]
        timms = timm.optim.Lars(groups, lr=0.3, momentum=0.9, trust_coeff=0.001, eps=0.0)
        for _ in range(5):
            gradient = [rng.standard_normal(x.shape, np.float32) for x in (kernel, bias)]
            tree = {"head": dict(zip(("kernel", "bias"), map(jnp.asarray, gradient), strict=True))}
            updates, state = ours.update(tree, state, given)
            given = jax.tree.map(jnp.add, given, updates)
            for tensor, value in zip(tensors, gradient, strict=True):
                tensor.grad = torch.from_numpy(value)
            timms.step()
    for name, tensor in zip(("kernel", "bias"), tensors, strict=True):
        np.testing.assert_allclose(given["head"][name], tensor.detach().numpy(), rtol=1e-5)


def test_the_moving_average_is_timms():
    import optax

    rng = np.random.default_rng(0)
    start = rng.standard_normal(7, np.float32)
    with torch.inference_mode(False), torch.no_grad():
        module = torch.nn.Linear(7, 1, bias=False)
        module.weight.copy_(torch.from_numpy(start))
        average = timm.utils.ModelEmaV2(module, decay=0.99)
        ours = jnp.asarray(start)
        for _ in range(20):
            value = rng.standard_normal(7, np.float32)
            module.weight.copy_(torch.from_numpy(value))
            average.update(module)
            ours = optax.incremental_update(jnp.asarray(value), ours, 1 - 0.99)
        np.testing.assert_allclose(ours, average.module.weight[0].numpy(), rtol=1e-5, atol=1e-6)


def test_layer_decay_is_timms():
    from timm.optim import param_groups_layer_decay

    model = timm.create_model(
        "vit_base_patch16_224", img_size=32, patch_size=8, embed_dim=64, depth=3, num_heads=4,
        num_classes=5, global_pool="avg",
    )  # fmt: skip
    groups = param_groups_layer_decay(
        model, weight_decay=0.05, layer_decay=0.65, no_weight_decay_list=model.no_weight_decay()
    )
    names = {id(p): name for name, p in model.named_parameters()}
    expected = {
        names[id(p)]: (group["lr_scale"], group["weight_decay"] > 0)
        for group in groups
        for p in group["params"]
    }
    from mae_jax.weights import keymap

    ours = recipe(layer_decay=0.65, depth=3, undecayed=("pos_embed", "cls_token"))
    for name, (scale, decayed) in expected.items():
        path = tuple(jax.tree_util.DictKey(part) for part in keymap.path_of(name))
        assert ours.layer_scale(path) == pytest.approx(scale), name
        tree = jnp.zeros(model.state_dict()[name].shape)
        for entry in reversed(path):
            tree = {entry.key: tree}
        assert jax.tree.leaves(ours.decayed(tree)) == [decayed], name


@pytest.mark.parametrize("pool", ["mean", "token"])
def test_what_was_fine_tuned_here_computes_the_same_in_timm(tmp_path, pool):
    rng = np.random.default_rng(1)
    for index in range(16):
        path = tmp_path / "images" / ("dark", "light")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 128, (12, 12), np.uint8) + 127 * (index % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    config = default_config()
    config.data.folder, config.data.split = str(tmp_path / "images"), "all"
    config.data.batch_size, config.data.workers = 8, 0
    config.train.base_lr, config.train.warmup_epochs = 1e-1, 0.2
    config.model.size, config.model.image_size, config.model.patch_size = "tiny", (8,), (2,)
    config.model.channels, config.model.width, config.model.depth, config.model.heads = 1, 16, 2, 2
    config.log.tensorboard = False
    config.train.objective, config.model.pool, config.train.steps = "classify", pool, 3
    config.train.mixup, config.train.cutmix, config.train.ema = 0.8, 1.0, 0.9
    config.model.drop_path, config.train.erasing = 0.1, 0.25
    finetune.run(config, tmp_path / "run", quiet=True)
    weights = read.read(tmp_path / "run")
    export.export(weights, tmp_path / "timm", format="timm")
    model = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
    images = np.random.default_rng(0).standard_normal((5, 8, 8, 1), np.float32)
    expected = mae_jax.load(tmp_path / "run")(jnp.asarray(images))
    found = model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
    assert found.std() > 1e-3
