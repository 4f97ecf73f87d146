"""Weights for other images than those they were trained on: of another size, in patches of another
size, of other channels."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from mae_jax.errors import UsageError
from mae_jax.models import patches, sizes
from mae_jax.weights.described import Weights

_KERNEL, _BIAS, _PRED = "patch_embed.proj.weight", "patch_embed.proj.bias", "decoder_pred."


def fitted(weights: Weights, image_size: Any = None, patch_size: Any = None) -> Weights:
    """For images, and in patches, of another size.

    Position tables are interpolated (`patches.resize_positions`). The patch projection is resized
    so that a patch and its enlargement give the same token (FlexiViT, Beyer et al. 2023), and what
    a decoder predicts of a patch is interpolated as a picture.

    Args:
      image_size: in pixels; None: as it is.
      patch_size: likewise.

    Raises:
      UsageError: the image is not whole patches, or a decoder predicts other than pixels.
    """
    old = weights.dimensions
    wanted = {
        name: getattr(old, name) if size is None else sizes.per_axis(size)
        for name, size in (("image_size", image_size), ("patch_size", patch_size))
    }
    try:
        new = sizes.resolve("base", **(dataclasses.asdict(old) | wanted))
    except ValueError as error:
        raise UsageError(str(error)) from None
    tensors = dict(weights.tensors)
    for name in ("pos_embed", "decoder_pos_embed"):
        if name in tensors:
            tensors[name] = patches.resize_positions(
                tensors[name], old.grid, new.grid, weights.class_tokens
            )
    if new.patch_size != old.patch_size:
        tensors |= _resized_patches(weights, new.patch_size)
    pixels = weights.pixels
    if new.image_size != old.image_size:
        pixels = pixels.resized(new.image_size)
    return dataclasses.replace(weights, tensors=tensors, dimensions=new, pixels=pixels)


def with_channels(
    weights: Weights, channels: int | None, turn: Sequence[int] | None = None
) -> Weights:
    """For images of another number of channels.

    The kernels are scaled by old/new, so that tokens keep their size. Mean and deviation, and what
    a decoder predicts of a patch, follow their channels. One channel that stands for all gives the
    tokens of a grey image repeated in all of them, whatever mean and deviation each of these has.

    Args:
      channels: of the images; None: as they are.
      turn: for every channel of the images, which of the weights' it takes, or -1 for their mean.
        By default the weights' in turn, or their mean for one channel.

    Raises:
      UsageError: a channel that the weights do not have, or a decoder that predicts other than
        pixels.
    """
    old = weights.dimensions.channels
    if channels is None or (channels == old and turn is None):
        return weights
    if channels < 1:
        raise UsageError(f"channels {channels} must be at least 1")
    if turn is None:
        turn = [-1] if channels == 1 else [c % old for c in range(channels)]
    if len(turn) != channels or not all(-1 <= c < old for c in turn):
        raise UsageError(
            f"channels {tuple(turn)} must be {channels} of the weights' {old}, counted from 0, or "
            "-1 for their mean"
        )
    mixed = np.stack([np.eye(old)[c] if c >= 0 else np.full(old, 1 / old) for c in turn])
    mean, std = (mixed @ np.asarray(v) for v in (weights.pixels.mean, weights.pixels.std))
    theirs = weights.tensors[_KERNEL]
    kernel = np.einsum("no,do...->dn...", mixed * old / channels, theirs)
    tensors = dict(weights.tensors)
    if tuple(turn) == (-1,):
        kernel, moved = _as_grey(theirs, weights.pixels, mean[0], std[0])
        tensors[_BIAS] = (tensors[_BIAS] + moved).astype(np.float32)
    tensors[_KERNEL] = kernel.astype(np.float32)
    for name in _predictions(weights):
        value = tensors[name].reshape(-1, old, *tensors[name].shape[1:])  # channels vary fastest
        value = np.einsum("no,po...->pn...", mixed, value)
        tensors[name] = value.reshape(-1, *value.shape[2:]).astype(np.float32)
    return dataclasses.replace(
        weights,
        tensors=tensors,
        dimensions=dataclasses.replace(weights.dimensions, channels=channels),
        pixels=dataclasses.replace(
            weights.pixels, channels=channels, mean=tuple(mean.tolist()), std=tuple(std.tolist())
        ),
    )


def _as_grey(kernel, pixels, mean, std):
    """The kernel for one value in place of all channels, and what is added to the bias.

    A channel standardised by its own mean and deviation is a multiple of that value standardised by
    the common ones, and a constant.
    """
    means, stds = np.asarray(pixels.mean, np.float64), np.asarray(pixels.std, np.float64)
    one = np.einsum("o,do...->d...", std / stds, kernel)[:, None]
    return one, kernel.sum(tuple(range(2, kernel.ndim))) @ ((mean - means) / stds)


def _predictions(weights: Weights) -> list[str]:
    """The tensors whose first axis is the values of a patch."""
    found = [name for name in weights.tensors if name.startswith(_PRED)]
    if found and weights.target != "pixels":
        raise UsageError(
            f"a decoder that predicts {weights.target} of a patch has no use for other patches; "
            "take the encoder alone"
        )
    return found


def _resized_patches(weights: Weights, size: tuple[int, ...]) -> dict[str, np.ndarray]:
    old, channels = weights.dimensions.patch_size, weights.dimensions.channels
    bigger = [_bilinear(a, b) for a, b in zip(old, size, strict=True)]
    kernel = weights.tensors[_KERNEL].astype(np.float64)
    for axis, matrix in enumerate(bigger):
        kernel = _along(np.linalg.pinv(matrix.T), kernel, 2 + axis)
    tensors = {_KERNEL: kernel.astype(np.float32)}
    for name in _predictions(weights):
        value = weights.tensors[name]
        rest = value.shape[1:]
        value = value.reshape(*old, channels, *rest).astype(np.float64)
        for axis, matrix in enumerate(bigger):
            value = _along(matrix, value, axis)
        tensors[name] = value.reshape(-1, *rest).astype(np.float32)
    return tensors


def _along(matrix: np.ndarray, x: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)


def _bilinear(old: int, new: int) -> np.ndarray:
    """(new, old): the weights of the old pixels in every new one, pixel centres aligned."""
    centres = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(old)))
