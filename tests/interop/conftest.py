"""Tests against torch, transformers, timm and onnxruntime: `make test-interop`, in its own venv."""

import importlib.util
import sys

import pytest

HERE = importlib.util.find_spec("torch") is not None
collect_ignore_glob = [] if HERE else ["test_*.py"]


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
    import torch

    torch.manual_seed(0)
    with torch.inference_mode():
        yield
