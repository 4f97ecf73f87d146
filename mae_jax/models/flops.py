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
      target_size: numbers predicted of a patch; its pixels by default.
    """
    kept = masking.kept_patches(d.patches, mask_ratio, mask_unit ** len(d.grid))
    values = math.prod(d.patch_size) * d.channels
    seen, token = (d.patches if mask_tokens_in_encoder else kept), int(class_token)
    predicted, unused = d.patches - kept, kept + token
    if loss_on == "all":
        predicted, unused = d.patches, 0
    products = (
        seen * values * d.width
        + _blocks(seen + token, d.width, d.depth)
        + (seen + token) * d.width * d.decoder_width
        + _blocks(d.patches + token, d.decoder_width, d.decoder_depth)
        - _left_out(d.patches + token, unused, d.decoder_width)
        + predicted * d.decoder_width * (target_size or values)
    )
    return 3 * 2 * products


def classifier_flops(d: Dimensions, classes: int, *, class_token: bool | int = True) -> int:
    """The same for a classifier: the encoder on all patches, and a linear head."""
    return 3 * (encoder_flops(d, class_token=class_token) + 2 * d.width * classes)


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


def _left_out(tokens: int, unused: int, width: int) -> int:
    # Of unused tokens the last block needs keys and values alone.
    return unused * (10 * width**2 + 2 * tokens * width)
