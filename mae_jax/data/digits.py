"""The embedded data set: scikit-learn's 1,797 handwritten digits, 8 x 8 pixels, as a tfds builder.

Importing this module registers `handwritten_digits` with tfds.
"""

import numpy as np
import tensorflow_datasets as tfds

from mae_jax.errors import UsageError

HELD_OUT = 360


class HandwrittenDigits(tfds.core.GeneratorBasedBuilder):
    """1,437 digits to train on and 360 held out, drawn once at random.

    scikit-learn lists the digits writer by writer and ships only the part of the UCI set that was
    meant for testing, so there is no published split to follow.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="Handwritten digits of 43 writers, from 0 (white) to 16 levels of ink.",
            homepage="https://archive.ics.uci.edu/dataset/80",
            citation="Alpaydin, Kaynak. Optical Recognition of Handwritten Digits. UCI, 1998.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # the images come with scikit-learn
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise UsageError(
                "data.name 'handwritten_digits' needs scikit-learn; pip install 'mae_jax[digits]'"
            ) from None
        digits = load_digits()
        pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
        order = np.random.default_rng(0).permutation(len(pixels))
        train, test = order[:-HELD_OUT], order[-HELD_OUT:]
        return {
            "train": self._examples(pixels[train], digits.target[train]),
            "test": self._examples(pixels[test], digits.target[test]),
        }

    def _generate_examples(self, pixels, labels):
        yield from self._examples(pixels, labels)

    def _examples(self, pixels, labels):
        for index, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            yield index, {"image": image, "label": int(label)}
