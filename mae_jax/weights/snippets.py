"""The lines of a card that load what was written, beside the card."""

from mae_jax.weights.described import Weights

_OPENED = {
    "timm": """\
import timm

model = timm.create_model("local-dir:.", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
""",
    "pth": """\
import torch

tensors = torch.load("model.pth", weights_only=True)["model"]
""",
    "npz": """\
import numpy as np

tensors = dict(np.load("model.npz", allow_pickle=False))
""",
    "safetensors": """\
from safetensors.numpy import load_file

tensors = load_file("model.safetensors")
""",
    "onnx": """\
import numpy as np
import onnxruntime

model = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
images = np.zeros((2, {shape}), np.float32)  # (B, H, W, C), {units}
outputs = [output.name for output in model.get_outputs()]
values = dict(zip(outputs, model.run(outputs, {{"images": images}})))
""",
    "stablehlo": """\
import jax  # pip install jax flatbuffers
import numpy as np
from jax import export

with open("model.stablehlo", "rb") as file:
    model = jax.jit(export.deserialize(bytearray(file.read())).call)
images = np.zeros((2, {shape}), np.float32)  # (B, H, W, C), {units}
values = model(images)
""",
}
_TRANSFORMERS = {
    "full": ("ViTMAEForPreTraining", ""),
    "encoder": ("ViTModel", ", add_pooling_layer=False"),
    "classifier": ("ViTForImageClassification", ""),
}
_OURS = """
import mae_jax

encoder = mae_jax.load_encoder(".")
"""


def of(weights: Weights, format: str) -> list[str]:
    """Lines of Markdown that say how what was written in a format is loaded."""
    if format == "huggingface":
        name, more = _TRANSFORMERS[weights.kind]
        code = f'from transformers import {name}\n\nmodel = {name}.from_pretrained("."{more})\n'
    else:
        d = weights.dimensions
        units = "in the units above" if weights.pixels.floats else "0 to 1"
        shape = ", ".join(map(str, (*d.image_size, d.channels)))
        code = _OPENED[format].format(shape=shape, units=units)
    here = "In this folder:" if format in ("onnx", "stablehlo") else "In this folder, either of:"
    if format not in ("onnx", "stablehlo"):
        code += _OURS
    return ["## Loading", "", here, "", "```python", *code.splitlines(), "```"]
