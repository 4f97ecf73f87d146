"""Tests against torch, transformers, timm, onnxruntime, MLflow and W&B: `make test-interop`, in
its own venv."""

import importlib.util
import sys
from pathlib import Path

import pytest

HERE = importlib.util.find_spec("torch") is not None
TRACKERS = all(importlib.util.find_spec(name) for name in ("wandb", "mlflow"))
_FILES = {path.name for path in Path(__file__).parent.glob("test_*.py")}
_OF_TRACKERS = {"test_trackers.py"}
collect_ignore = [] if HERE else sorted(_FILES - _OF_TRACKERS)
collect_ignore += [] if TRACKERS else sorted(_OF_TRACKERS)


def _import_torchvision():
    """timm imports torchvision, whose wheels on PyPI are made for a torch with CUDA.

    Beside a torch without, its operators lack, and it fails to describe two of them. Nothing here
    uses them: it is enough that they are declared.
    """
    import torch

    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401

        return library
    return None


_LIBRARY = _import_torchvision() if HERE else None  # which must live as long as the process


@pytest.fixture(autouse=True)
def repeatable_inference():
    if not HERE:
        yield
        return
    import torch

    torch.manual_seed(0)
    with torch.inference_mode():
        yield
