"""The attentive probe beside torch's own attention, and layers beside timm's."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from made import random_weights

import mae_jax
from mae_jax.evaluation import attentive
from mae_jax.models.attentive import AttentiveProbe
from mae_jax.weights import export

torch = pytest.importorskip("torch")


class Torch(torch.nn.Module):
    """Efficient probing, from the paper's description, with a loop over queries."""

    def __init__(self, width, classes, queries):
        super().__init__()
        self.queries = torch.nn.Parameter(torch.empty(queries, width))
        self.values = torch.nn.Linear(width, width, bias=False)
        self.norm = torch.nn.BatchNorm1d(width, affine=False, eps=1e-6)
        self.head = torch.nn.Linear(width, classes)

    def forward(self, tokens):
        values = self.values(tokens).chunk(len(self.queries), dim=-1)
        found = [
            torch.nn.functional.scaled_dot_product_attention(
                query.expand(len(tokens), 1, -1), tokens, value
            )
            for query, value in zip(self.queries, values, strict=True)
        ]
        return self.head(self.norm(torch.cat(found, dim=-1).squeeze(1)))


def with_weights_of(probe):
    """Torch's, with the parameters and statistics of ours."""
    queries, width = probe.queries.shape
    theirs = Torch(width, probe.head.bias.shape[0], queries)
    ours = {
        "queries": probe.queries[...],
        "values.weight": probe.values[...].T,
        "norm.running_mean": probe.norm.mean[...],
        "norm.running_var": probe.norm.var[...],
        "norm.num_batches_tracked": np.zeros((), np.int64),
        "head.weight": probe.head.kernel[...].T,
        "head.bias": probe.head.bias[...],
    }
    theirs.load_state_dict({name: torch.tensor(np.asarray(x)) for name, x in ours.items()})
    return theirs


def patch_tokens(count, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    tokens = rng.standard_normal((count, 9, 24), np.float32)
    tokens[:, 4, 0] += 2 * labels
    return tokens, labels


@pytest.mark.parametrize("queries", [1, 4, 24])
def test_logits_are_torchs(queries):
    tokens, labels = patch_tokens(80)
    recipe = attentive.Recipe(queries=queries, epochs=1, updates=40, batch_size=32, peak_lr=1e-2)
    probe = attentive.fit(tokens, labels, classes=3, recipe=recipe)
    found = with_weights_of(probe).eval()(torch.from_numpy(tokens)).numpy()
    assert np.ptp(found) > 0.5
    np.testing.assert_allclose(attentive.logits(probe, tokens), found, atol=1e-5, rtol=1e-5)


def test_logits_in_training_are_torchs():
    tokens, _ = patch_tokens(16)
    probe = AttentiveProbe(24, classes=3, queries=4, rngs=nnx.Rngs(0))
    theirs = with_weights_of(probe).train()
    made = probe(jnp.asarray(tokens), train=True)
    np.testing.assert_allclose(made, theirs(torch.from_numpy(tokens)).numpy(), atol=1e-5)
    np.testing.assert_allclose(probe.norm.var[...], theirs.norm.running_var.numpy(), rtol=1e-5)


def test_layers_are_timms(tmp_path):
    timm = pytest.importorskip("timm")
    small = dict(image_size=32, patch_size=8, width=64, depth=3, heads=4)
    decoder = dict(decoder_width=32, decoder_depth=1, decoder_heads=2)
    export.export(random_weights(**small, **decoder), tmp_path / "timm", format="timm")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
    images = np.random.default_rng(0).standard_normal((2, 32, 32, 3), np.float32)
    found = theirs.forward_intermediates(
        torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), indices=[0, 2], norm=True,
        output_fmt="NLC", intermediates_only=True,
    )  # fmt: skip
    made = mae_jax.load_encoder(tmp_path / "timm").encoder.layers(jnp.asarray(images), (1, 3))
    for ours, other in zip(made, found, strict=True):
        np.testing.assert_allclose(ours[:, 1:], other.numpy(), atol=1e-5, rtol=1e-5)
