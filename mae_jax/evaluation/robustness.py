"""The robustness sets of ImageNet: where they lie, and their own metrics.

ImageNet-C (Hendrycks and Dietterich 2019) is measured by its mean corruption error, normalised by
AlexNet's; -A (Hendrycks et al. 2021b) and -R (2021a) by the accuracy among their 200 classes;
-Sketch (Wang et al. 2019) by the accuracy among all.
"""

import dataclasses
from pathlib import Path

from mae_jax.errors import UsageError

# AlexNet's error, the mean over five severities, as published with ImageNet-C.
ALEXNET = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
SEVERITIES = (1, 2, 3, 4, 5)


@dataclasses.dataclass(frozen=True)
class Part:
    """One data set of a robustness set.

    Attributes:
      name: of the part, such as `gaussian_noise/3`.
      data_set, split: in tfds.
      folders: where it may lie below a root, the first that is there being taken.
    """

    name: str
    data_set: str
    split: str
    folders: tuple[str, ...]

    def folder(self, root: Path) -> Path:
        """Where it lies below a root.

        Raises:
          UsageError: in none of the places.
        """
        for place in self.folders:
            if (root / place).is_dir():
                return root / place
        raise UsageError(f"--root {str(root)!r} has no folder {' or '.join(self.folders)}")


_GROUPS = {"noise": 3, "blur": 4, "weather": 4, "digital": 4}  # in ALEXNET's order


def _corrupted() -> tuple[Part, ...]:
    groups = [group for group, count in _GROUPS.items() for _ in range(count)]
    return tuple(
        Part(
            f"{corruption}/{severity}",
            f"imagenet2012_corrupted/{corruption}_{severity}",
            "validation",
            tuple(
                f"{top}{corruption}/{severity}"
                for top in ("imagenet-c/", f"imagenet-c/{group}/", "", f"{group}/")
            ),
        )
        for group, corruption in zip(groups, ALEXNET, strict=True)
        for severity in SEVERITIES
    )


@dataclasses.dataclass(frozen=True)
class RobustnessSet:
    """A set, its parts and how it is measured.

    Attributes:
      present_classes: whether predictions are among the classes of its images alone.
      eval_crop: of its images, as a share of the shorter side; None as the config says.
    """

    parts: tuple[Part, ...]
    present_classes: bool = False
    eval_crop: float | None = None


SETS = {
    # Its images are cropped to 224 x 224 already.
    "imagenet_c": RobustnessSet(_corrupted(), eval_crop=1.0),
    "imagenet_a": RobustnessSet(
        (Part("imagenet_a", "imagenet_a", "test", ("imagenet-a",)),), present_classes=True
    ),
    "imagenet_r": RobustnessSet(
        (Part("imagenet_r", "imagenet_r", "test", ("imagenet-r",)),), present_classes=True
    ),
    "imagenet_sketch": RobustnessSet(
        (Part("imagenet_sketch", "imagenet_sketch", "test", ("imagenet-sketch", "sketch")),)
    ),
}


def corruption_errors(top1: dict[str, float]) -> dict[str, float]:
    """From the accuracy of every `corruption/severity`: each corruption's error over AlexNet's.

    Returns:
      A share for every corruption, and `mCE`, their mean; 1 is as bad as AlexNet.
    """
    errors = {
        corruption: sum(1 - top1[f"{corruption}/{severity}"] for severity in SEVERITIES)
        / len(SEVERITIES)
        / alexnet
        for corruption, alexnet in ALEXNET.items()
    }
    return errors | {"mCE": sum(errors.values()) / len(errors)}
