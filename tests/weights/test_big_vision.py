"""Google's vision transformers in `.npz`, against their definition written out in numpy."""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import mae_jax
from mae_jax.errors import UsageError
from mae_jax.weights import card, export, read

WIDTH, HEADS, DEPTH, PATCH, GRID, CLASSES = 24, 3, 3, 4, 4, 5


def made(older=True, token=True, seed=0):
    """A file's arrays: of vision_transformer, or of big_vision."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return (rng.standard_normal(shape) * 0.3).astype(np.float32)

    def dense(name, *shape, outputs=1):
        return {f"{name}/kernel": normal(*shape), f"{name}/bias": normal(*shape[-outputs:])}

    def norm(name):
        return {f"{name}/scale": 1 + normal(WIDTH), f"{name}/bias": normal(WIDTH)}

    attention, second, mlp = (1, 2, 3) if older else (0, 1, 0)
    arrays = dense("embedding", PATCH, PATCH, 3, WIDTH) | norm("Transformer/encoder_norm")
    arrays |= dense("head", WIDTH, CLASSES)
    if token:
        arrays["cls"] = normal(1, 1, WIDTH)
    rows = GRID**2 + (older and token)
    table = "Transformer/posembed_input/pos_embedding" if older else "pos_embedding"
    arrays[table] = normal(1, rows, WIDTH)
    for block in range(DEPTH):
        start = f"Transformer/encoderblock_{block}"
        arrays |= norm(f"{start}/LayerNorm_0") | norm(f"{start}/LayerNorm_{second}")
        middle = f"{start}/MultiHeadDotProductAttention_{attention}"
        for part in ("query", "key", "value"):
            arrays |= dense(f"{middle}/{part}", WIDTH, HEADS, WIDTH // HEADS, outputs=2)
        arrays |= dense(f"{middle}/out", HEADS, WIDTH // HEADS, WIDTH)
        arrays |= dense(f"{start}/MlpBlock_{mlp}/Dense_0", WIDTH, 4 * WIDTH)
        arrays |= dense(f"{start}/MlpBlock_{mlp}/Dense_1", 4 * WIDTH, WIDTH)
    return arrays


def computed(a, images):
    """Tokens after the last norm, and logits of the first; images in -1 to 1."""

    def norm(name, x):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        return scaled * a[f"{name}/scale"] + a[f"{name}/bias"]

    def linear(name, x, formula="...d,de->...e"):
        return np.einsum(formula, x, a[f"{name}/kernel"]) + a[f"{name}/bias"]

    def gelu(x):
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    side = GRID
    cut = images.reshape(len(images), side, PATCH, side, PATCH, 3)
    x = linear("embedding", cut, "bipjqc,pqcd->bijd").reshape(len(images), side**2, WIDTH)
    if "pos_embedding" in a:
        x = x + a["pos_embedding"]
    if "cls" in a:
        x = np.concatenate([np.tile(a["cls"], (len(x), 1, 1)), x], 1)
    if "pos_embedding" not in a:
        x = x + a["Transformer/posembed_input/pos_embedding"]
    for block in range(DEPTH):
        start = f"Transformer/encoderblock_{block}"
        older = f"{start}/LayerNorm_2/scale" in a
        middle = f"{start}/MultiHeadDotProductAttention_{int(older)}"
        y = norm(f"{start}/LayerNorm_0", x)
        q, k, v = (
            linear(f"{middle}/{part}", y, "bnd,dhe->bnhe") for part in ("query", "key", "value")
        )
        weights = np.exp(np.einsum("bnhe,bmhe->bhnm", q, k) / np.sqrt(WIDTH // HEADS))
        weights /= weights.sum(-1, keepdims=True)
        mixed = np.einsum("bhnm,bmhe->bnhe", weights, v)
        x = x + linear(f"{middle}/out", mixed, "bnhe,hed->bnd")
        mlp = f"{start}/MlpBlock_{3 if older else 0}"
        y = norm(f"{start}/LayerNorm_{2 if older else 1}", x)
        x = x + linear(f"{mlp}/Dense_1", gelu(linear(f"{mlp}/Dense_0", y)))
    x = norm("Transformer/encoder_norm", x)
    return x, linear("head", x[:, 0])


def stacked(arrays):
    """As `nn.scan` keeps the blocks: one array for all of them."""
    blocks = {n: v for n, v in arrays.items() if n.startswith("Transformer/encoderblock_0/")}
    rest = {n: v for n, v in arrays.items() if "/encoderblock_" not in n}
    return rest | {
        n.replace("encoderblock_0", "encoderblock"): np.stack(
            [arrays[n.replace("block_0", f"block_{i}")] for i in range(DEPTH)]
        )
        for n in blocks
    }


FORMS = {
    "vision_transformer": lambda: made(),
    "big_vision": lambda: {f"params/{n}": v for n, v in made(older=False).items()},
    "stacked": lambda: {f"params/{n}": v for n, v in stacked(made(older=False)).items()},
    "an image tower": lambda: {
        **{f"params/img/{n}": v for n, v in made(older=False).items()},
        "params/t": np.zeros(1), "params/txt/Embed_0/embedding": np.zeros((3, 2)),
    },
    "with its optimizer": lambda: {
        **{f"opt/target/{n}": v for n, v in made().items()},
        **{f"opt/state/{n}/grad_ema": v for n, v in made().items()},
    },
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_it_computes_what_they_do(tmp_path, form):
    np.savez(tmp_path / "vit.npz", **FORMS[form]())
    older = form in ("vision_transformer", "with its optimizer")
    images = np.random.default_rng(1).random((2, 16, 16, 3), np.float32)
    tokens, logits = computed(made(older), 2 * images - 1)
    encoder = mae_jax.load_encoder(tmp_path / "vit.npz")
    assert encoder.weights.dimensions.heads == HEADS and encoder.weights.gelu == "tanh"
    np.testing.assert_allclose(encoder(images, "patches"), tokens[:, 1:], atol=2e-5)
    np.testing.assert_allclose(encoder(images, "token"), tokens[:, 0], atol=2e-5)
    classifier = mae_jax.load_classifier(tmp_path / "vit.npz")
    np.testing.assert_allclose(classifier.logits(images), logits, atol=5e-5)


def test_without_a_class_token(tmp_path, capsys):
    arrays = made(older=False, token=False)
    np.savez(tmp_path / "vit.npz", **arrays)
    images = np.random.default_rng(1).random((2, 16, 16, 3), np.float32)
    encoder = mae_jax.load_encoder(tmp_path / "vit.npz")
    tokens, _ = computed(arrays, 2 * images - 1)
    np.testing.assert_allclose(encoder(images), tokens.mean(1), atol=2e-5)
    assert "its head reads the mean of normalised patches" in capsys.readouterr().err
    with pytest.raises(UsageError, match="holds no classifier"):
        mae_jax.load_classifier(tmp_path / "vit.npz")


def test_bfloat16_as_numpy_keeps_it(tmp_path):
    arrays = made()
    short = {n: v.astype(ml_dtypes.bfloat16).view("V2") for n, v in arrays.items()}
    np.savez(tmp_path / "vit.npz", **short)
    found = read.read(tmp_path / "vit.npz").tensors["norm.weight"]
    np.testing.assert_array_equal(
        found, arrays["Transformer/encoder_norm/scale"].astype(jnp.bfloat16).astype(np.float32)
    )


@pytest.mark.parametrize("format", ["safetensors", "huggingface", "timm", "npz"])
def test_the_activation_goes_along(tmp_path, format):
    np.savez(tmp_path / "vit.npz", **made())
    weights = read.read(tmp_path / "vit.npz")
    export.export(weights, tmp_path / "out", format=format)  # which compares what is read back
    found = read.read(tmp_path / "out")
    assert found.gelu == "tanh" and found.pixels.mean == (0.5, 0.5, 0.5)
    assert "GELU by its tanh formula" in card.text(found, format, {})


REFUSED = {
    "pools by attention (MAPHead_0/probe)": {"MAPHead_0/probe": np.zeros((1, 1, WIDTH))},
    "has conv_root/kernel, which mae_jax's encoder has not": {"conv_root/kernel": np.zeros(3)},
    "several towers of images, '', 'params/'": {"params/embedding/kernel": np.zeros(3)},
    "has no table of positions": {"Transformer/posembed_input/pos_embedding": None},
    "is not the weights of": {"Transformer/encoderblock_1/LayerNorm_0/bias": None},
    "does not fit together: patch_embed.proj.bias is (7,)": {"embedding/bias": np.zeros(7)},
    "has shapes that are no vision transformer's": {
        "Transformer/encoderblock_1/MultiHeadDotProductAttention_1/query/bias": np.zeros(WIDTH)
    },
    "has shapes that": {"embedding/kernel": np.zeros(3)},
    "has shapes": {"Transformer/encoderblock/LayerNorm_0/bias": np.zeros(())},
}


@pytest.mark.parametrize("message", REFUSED)
def test_refusals(tmp_path, message):
    arrays = made() | REFUSED[message]
    np.savez(tmp_path / "vit.npz", **{n: v for n, v in arrays.items() if v is not None})
    with pytest.raises(UsageError) as error:
        read.read(tmp_path / "vit.npz")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_head_behind_another_layer_is_left_out(tmp_path, capsys):
    arrays = made() | {"pre_logits/kernel": np.zeros((WIDTH, WIDTH)), "pre_logits/bias": [0.0]}
    np.savez(tmp_path / "vit.npz", **arrays)
    assert read.read(tmp_path / "vit.npz").kind == "encoder"
    assert "its head goes through pre_logits" in capsys.readouterr().err
