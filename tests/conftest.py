"""Eight simulated devices, strict shapes, and small real data for every test."""

import atexit
import gc
import os
import shutil
import tempfile

# Before jax is imported anywhere.
# The tests' models are small: most of their time goes into compiling, which level 0 shortens.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # Many tests, and the processes they start, compile the same programs, and import the same
    # modules: both are kept until this process ends, which others of the same run start from.
    _KEPT = tempfile.mkdtemp(prefix="mae_jax_tests_")
    atexit.register(shutil.rmtree, _KEPT, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(_KEPT, "xla")
    os.environ["PYTHONPYCACHEPREFIX"] = os.path.join(_KEPT, "bytecode")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import jax
import numpy as np
import pytest
from PIL import Image

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="module")
def _programs_end_with_their_module():
    """Compiled programs map memory: those of all tests are more maps than a process may have."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="session")
def tfds_dir(tmp_path_factory):
    """A tfds data directory with the embedded digits, prepared."""
    from mae_jax.data import sources

    folder = str(tmp_path_factory.mktemp("tfds"))
    sources.TfdsSource("handwritten_digits", "train", folder)
    return folder


@pytest.fixture(scope="session")
def new_digits_config(tfds_dir):
    """Makes a config of a masked autoencoder small enough to train in a second, on the digits."""
    return lambda: small_config(tfds_dir)


@pytest.fixture
def digits_config(new_digits_config):
    """One such config."""
    return new_digits_config()


def small_config(tfds_dir):
    """As the fixture, for processes that tests start."""
    from mae_jax.config import default_config

    config = default_config()
    model, data, train = config.model, config.data, config.train
    model.image_size, model.patch_size, model.channels = (8, 8), (2, 2), 1
    model.width, model.depth, model.heads = 16, 2, 2
    model.decoder_width, model.decoder_depth, model.decoder_heads = 16, 1, 2
    data.name, data.dir, data.split, data.eval_split = (
        "handwritten_digits",
        tfds_dir,
        "train[:100]",
        "test[:13]",
    )
    data.batch_size, data.flip, data.workers = 16, False, 0
    train.steps, train.warmup_epochs, train.base_lr = 8, 0.2, 1e-2
    config.checkpoint.every_epochs = config.log.panel_every_epochs = 0.5
    config.log.eval_every_epochs, config.log.every_steps = 0.5, 1
    config.log.tensorboard = False
    return config


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A few hundred mixed images, in colour and grey, of many sizes and formats, nested and flat.

    They are cut from scikit-learn's two photographs.
    """
    from sklearn.datasets import load_sample_images

    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    formats = [("jpg", {}), ("png", {}), ("jpeg", {"quality": 60}), ("webp", {}), ("bmp", {})]
    for kind, picture in zip(("temple", "flower"), load_sample_images().images, strict=True):
        whole = Image.fromarray(picture)
        for index in range(100):
            suffix, options = formats[index % len(formats)]
            w, h = (int(n) for n in rng.integers(24, 120, 2))
            left = int(rng.integers(0, whole.width - w))
            top = int(rng.integers(0, whole.height - h))
            part = whole.crop((left, top, left + w, top + h))
            if index % 3 == 0:
                part = part.convert("L")
            folder = root if index % 4 == 0 else root / kind / f"{index % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            part.save(folder / f"{kind}_{index}.{suffix}", **options)
    (root / "notes.txt").write_text("not an image")
    return root
