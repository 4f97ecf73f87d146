"""How many floating-point operations training takes, by arithmetic."""

import math

from mae_jax.models import masking
from mae_jax.models.sizes import Dimensions


def training_flops(
    d: Dimensions,
    mask_ratio: float,
    mask_tokens_in_encoder: bool = False,
    class_token: bool | int = True,
    mask_unit: int = 1,
    loss_on: str = "hidden",
    decode_ratio: float = 1.0,
    decoder_attention: str = "self",
    target_size: int | None = None,
) -> int:
    """Operations per image of one training step of a masked autoencoder.

    Matrix products alone, a multiplication and an addition being two operations, and three times
    those of the forward pass: the backward pass takes each product twice, for its two factors.
    What is computed again to save memory does not count.

    Args:
      d: the model's dimensions.
      mask_ratio: share of the patches that is hidden.
      mask_tokens_in_encoder: whether the encoder works on hidden patches too.
      class_token: whether a class token goes along, or how many.
      mask_unit: patches along every axis that are hidden together.
      loss_on: "hidden", or "all" patches, which then are all predicted.
      decode_ratio: share of the hidden patches that the loss is of.
      decoder_attention: "self" or "cross"; see `models.decoder`.
      target_size: numbers predicted of a patch; its pixels by default.
    """
    kept = masking.kept_patches(d.patches, mask_ratio, mask_unit ** len(d.grid))
    values = math.prod(d.patch_size) * d.channels
    seen, token = (d.patches if mask_tokens_in_encoder else kept), int(class_token)
    if loss_on == "all":
        predicted, unused = d.patches, 0
    else:
        predicted, unused = masking.decoded_patches(d.patches - kept, decode_ratio), kept + token
    if decoder_attention == "cross":
        blocks = _looking_blocks(predicted, kept + token, d.decoder_width, d.decoder_depth)
    else:
        tokens = predicted + unused if unused else d.patches + token
        blocks = _blocks(tokens, d.decoder_width, d.decoder_depth)
        blocks -= _left_out(tokens, unused, d.decoder_width)
    products = (
        seen * values * d.width
        + _blocks(seen + token, d.width, d.depth)
        + (seen + token) * d.width * d.decoder_width
        + blocks
        + predicted * d.decoder_width * (target_size or values)
    )
    return 3 * 2 * products


def classifier_flops(
    d: Dimensions, classes: int, *, class_token: bool | int = True, frozen: int = 0
) -> int:
    """The same for a classifier: the encoder on all patches, and a linear head.

    Of `frozen` blocks, and of what comes before them, there is no backward pass.
    """
    tokens, whole = d.patches + int(class_token), encoder_flops(d, class_token=class_token)
    trained = 2 * _blocks(tokens, d.width, d.depth - frozen) if frozen else whole
    return whole + 2 * trained + 3 * 2 * d.width * classes


def student_flops(d: Dimensions, values: int, *, class_token: bool | int = True) -> int:
    """The same for a student: the encoder on all patches, and a linear map of its tokens."""
    mapped = 2 * (d.patches + bool(class_token)) * d.width * values
    return 3 * (encoder_flops(d, class_token=class_token) + mapped)


def encoder_flops(d: Dimensions, *, class_token: bool | int = True) -> int:
    """Operations per image of the encoder alone, on all patches and without a backward pass."""
    tokens, values = d.patches + int(class_token), math.prod(d.patch_size) * d.channels
    return 2 * (d.patches * values * d.width + _blocks(tokens, d.width, d.depth))


def _blocks(tokens: int, width: int, depth: int) -> int:
    # Per token: width^2 each for queries, keys, values and output, eight for the two layers of the
    # Mlp; and a product of `width` with every token for the scores and for the mixing.
    return depth * tokens * (12 * width**2 + 2 * tokens * width)


def _looking_blocks(tokens: int, seen: int, width: int, depth: int) -> int:
    # Of the tokens that are looked at a block makes keys and values alone.
    of_tokens = tokens * (10 * width**2 + 2 * seen * width)
    return depth * (of_tokens + seen * 2 * width**2)


def _left_out(tokens: int, unused: int, width: int) -> int:
    # Of unused tokens the last block needs keys and values alone.
    return unused * (10 * width**2 + 2 * tokens * width)
