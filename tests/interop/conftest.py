"""Tests against torch, transformers, timm and onnxruntime: `make test-interop`, in its own venv."""

import pytest

torch = pytest.importorskip("torch", reason="make test-interop has torch, transformers and timm")


def pytest_configure():
    """timm imports torchvision, whose wheels on PyPI are made for a torch with CUDA.

    Beside a torch without, its operators lack, and it fails to describe two of them. Nothing here
    uses them: it is enough that they are declared.
    """
    try:
        import torchvision
    except RuntimeError:
        import sys

        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401

        pytest.torchvision_operators = library  # which must live as long as the process


@pytest.fixture(autouse=True)
def quiet_and_exact():
    torch.manual_seed(0)
    with torch.inference_mode():
        yield
