"""The light transformer that predicts hidden patches from what the encoder made of the others."""

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype

from mae_jax.models import masking, patches, sizes, transformer
from mae_jax.models.encoder import FixedTable, position_table
from mae_jax.models.fast import ways
from mae_jax.models.layers import LayerNorm, Linear


class Decoder(nnx.Module):
    """Light transformer from visible tokens and mask tokens to `values` numbers per patch.

    Both go through its blocks, and each looks at all.
    """

    def __init__(
        self,
        d: sizes.Dimensions,
        values: int,
        *,
        class_token: bool | int,
        mask_token: bool,
        dtype: Dtype,
        scan: bool,
        attention: str | ways.Way,
        remat: bool,
        rngs: nnx.Rngs,
    ):
        width = d.decoder_width
        self.tokens, self.dtype = int(class_token), dtype
        self.scan, self.remat, self.way = scan, remat, ways.named(attention)
        common = dict(dtype=dtype, rngs=rngs)
        self.embed = Linear(d.width, width, **common)
        token = nnx.initializers.normal(0.02)
        self.mask_token = nnx.data(
            nnx.Param(token(rngs.params(), (1, 1, width))) if mask_token else None
        )
        self.pos_embed = FixedTable(position_table(d, width, self.tokens))
        self.blocks = transformer.blocks(width, d.decoder_heads, d.decoder_depth, **common)
        self.norm = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.pred = Linear(width, values, **common)

    def __call__(self, latent: jax.Array, masks: masking.Masking, *, hidden: bool) -> jax.Array:
        """Encoder output (B, T + K, D) to float32 predictions.

        Args:
          latent: of the visible patches, or of all in raster order if the encoder saw mask tokens.
          masks: which patches those are.
          hidden: only the hidden patches (B, M, P), in the order of `masks.hide_BM`, which is all
            the loss needs; else all patches (B, N, P) in raster order.
        """
        x_BND, pos_embed = self.embed(latent), self.pos_embed[0].astype(self.dtype)
        # Attention does not mind the order. With hidden patches first, the last block can leave
        # out the rest.
        hide_BM, seen_BK = masks.hide_BM + self.tokens, self._seen(masks)
        if self.mask_token is None:
            hidden_BMD, x_BND = patches.take(x_BND, hide_BM), patches.take(x_BND, seen_BK)
        else:
            hidden_BMD = self.mask_token[...].astype(self.dtype)
        hidden_BMD, x_BND = hidden_BMD + pos_embed[hide_BM], x_BND + pos_embed[seen_BK]
        count = hide_BM.shape[1]
        x_BND = transformer.apply_blocks(
            self.blocks,
            jnp.concatenate([hidden_BMD, x_BND], axis=1),
            scan=self.scan,
            remat=self.remat,
            attend=self.way.attend,
            queries=count if hidden else None,
        )
        if not hidden:
            x_BND = jnp.concatenate([x_BND[:, count + self.tokens :], x_BND[:, :count]], axis=1)
            x_BND = patches.take(x_BND, masks.restore_BN)
        return self.pred(self.norm(x_BND)).astype(jnp.float32)

    def _seen(self, masks):
        """Numbers of the encoder's tokens: class tokens, where there are some, before all patches.

        What is looked up by them is a table without a gradient.
        """
        seen_BK = jnp.pad(masks.keep_BK + self.tokens, ((0, 0), (self.tokens, 0)))
        if self.tokens > 1:
            seen_BK = seen_BK.at[:, : self.tokens].set(jnp.arange(self.tokens)[None])
        return seen_BK


class CrossDecoder(Decoder):
    """The same parameters; mask tokens alone go through the blocks (CrossMAE, Fu et al. 2025).

    Each looks at what the encoder says of the visible patches, and not at the others: a patch is
    predicted alike, however many are predicted with it. All blocks look at the encoder's output;
    the paper has each look at its own mixture of what the encoder's blocks put out.
    """

    def __call__(self, latent: jax.Array, masks: masking.Masking, *, hidden: bool) -> jax.Array:
        """As `Decoder`; visible patches, where they are wanted, are predicted like hidden ones."""
        pos_embed = self.pos_embed[0].astype(self.dtype)
        seen_BKD = self.embed(latent) + pos_embed[self._seen(masks)]
        token = self.mask_token[...].astype(self.dtype)
        if hidden:
            x_BND = token + pos_embed[masks.hide_BM + self.tokens]
        else:
            every_1ND = token + pos_embed[None, self.tokens :]
            x_BND = jnp.broadcast_to(every_1ND, (len(latent), *every_1ND.shape[1:]))

        def attend(x_BND, qkv, out, heads, queries=None):
            return self.way.look(seen_BKD, x_BND[:, :queries], qkv, out, heads)

        x_BND = transformer.apply_blocks(
            self.blocks, x_BND, scan=self.scan, remat=self.remat, attend=attend
        )
        return self.pred(self.norm(x_BND)).astype(jnp.float32)


DECODERS = {"self": Decoder, "cross": CrossDecoder}
