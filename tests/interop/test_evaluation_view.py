"""The evaluation view of photographs beside torchvision's transforms, as published."""

import io

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from mae_jax.config import default_config
from mae_jax.data import images, loader


def photographs(kind, smallest):
    """Encoded parts of scikit-learn's two photographs, of many sizes, and both whole."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    for index in range(24):
        picture = Image.fromarray(load_sample_images().images[index % 2])
        if index > 1:
            w, h = int(rng.integers(smallest, 641)), int(rng.integers(smallest, 428))
            left, top = int(rng.integers(0, 641 - w)), int(rng.integers(0, 428 - h))
            picture = picture.crop((left, top, left + w, top + h))
        stream = io.BytesIO()
        picture.save(stream, kind)
        yield stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "size", "share", "smallest"),
    [
        ("PNG", 224, 0.875, 260), ("PNG", 224, 0.875, 100), ("PNG", 96, 1.0, 100),
        ("JPEG", 224, 0.875, 260), ("JPEG", 96, 0.875, 100), ("JPEG", 48, 0.9, 100),
    ],
)  # fmt: skip
def test_the_evaluation_view_is_the_published_one(kind, size, share, smallest):
    bicubic = transforms.InterpolationMode.BICUBIC
    published = transforms.Compose(
        [transforms.Resize(int(size / share), bicubic), transforms.CenterCrop(size)]
    )
    config = default_config()
    config.model.image_size, config.data.eval_crop = (size, size), share
    picture = loader.Picture.from_config(config)
    differences = []
    for data in photographs(kind, smallest):
        made = picture.plain(images.open_image(data, picture.form, "x"))
        expected = np.asarray(published(Image.open(io.BytesIO(data)).convert("RGB")))
        differences.append(np.abs(made.astype(int) - expected).mean())
    assert np.mean(differences) < 0.3 and max(differences) < 0.5, differences
