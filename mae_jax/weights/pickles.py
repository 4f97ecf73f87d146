"""Reads the pickle inside a `.pth` without torch, and without running anything in it.

A pickle names functions to call. Here a name is looked up in a short list, and what is found is
ours and only notes what it was given; any other name is an error.
"""

import collections
import dataclasses
import io
import math
import pickle
import pickletools
from typing import Any, NamedTuple

import numpy as np

from mae_jax.errors import UsageError

_DTYPES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")


@dataclasses.dataclass(frozen=True, slots=True)
class Storage:
    """Where a tensor's numbers lie: a record of the archive, its dtype and its length."""

    key: str
    dtype: str
    numel: int


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor that was not read yet."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self):
        sides = (*self.shape, *self.stride, self.offset)
        if (
            not isinstance(self.storage, Storage)
            or len(self.shape) != len(self.stride)
            or not all(isinstance(side, int) and side >= 0 for side in sides)
        ):
            raise ValueError(f"shape {self.shape} and stride {self.stride} are no tensor's")

    @property
    def bytes(self) -> int:
        """That its numbers take."""
        return math.prod(self.shape) * _numpy_dtype(self.storage.dtype).itemsize

    def read(self, data: bytes, little_endian: bool) -> np.ndarray:
        """The numbers, from the bytes of the storage.

        Raises:
          ValueError: the tensor reaches beyond its storage.
        """
        dtype = _numpy_dtype(self.storage.dtype)
        numbers = np.frombuffer(data, dtype if little_endian else dtype.newbyteorder(">"))
        reach = sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        if 0 not in self.shape and self.offset + reach >= len(numbers):
            raise ValueError(f"shape {self.shape} is more than the {len(numbers)} numbers there")
        view = np.lib.stride_tricks.as_strided(
            numbers[self.offset :],
            self.shape,
            tuple(step * numbers.itemsize for step in self.stride),
            writeable=False,
        )
        return np.ascontiguousarray(view.astype(dtype)).reshape(self.shape)


def _numpy_dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


class _StorageType(NamedTuple):
    dtype: str


class Namespace:
    """What was an argparse.Namespace: attributes and nothing else."""


def _known() -> dict[str, Any]:
    """All that a checkpoint of weights, an optimizer and a Namespace names.

    Made anew for every file: a pickle may set attributes of what it names.
    """

    def tensor(storage, offset, shape, stride, *_):
        return Tensor(storage, offset, tuple(shape), tuple(stride))

    def scalar(dtype, data):
        return dtype, data

    class InertNamespace(Namespace):
        pass

    return {
        "collections.OrderedDict": collections.OrderedDict,
        "collections.defaultdict": lambda *_: {},
        "builtins.dict": lambda *_: {},
        "builtins.set": lambda items=(): list(items),
        "__builtin__.set": lambda items=(): list(items),
        "torch._utils._rebuild_tensor_v2": tensor,
        "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
        "torch.Size": lambda sides=(): tuple(sides),
        "torch.device": lambda *names: ":".join(map(str, names)),
        "argparse.Namespace": InertNamespace,
        "_codecs.encode": lambda text, coding: text.encode("latin1"),
        "numpy.dtype": lambda name, *_: name,
        "numpy.core.multiarray.scalar": scalar,
        "numpy._core.multiarray.scalar": scalar,
    } | {f"torch.{name}": _StorageType(dtype) for name, dtype in _DTYPES.items()}


class _Reader(pickle.Unpickler):
    def __init__(self, data: bytes):
        super().__init__(io.BytesIO(data))
        self._known = _known()

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._known[f"{module}.{name}"]
        except KeyError:
            raise UsageError(
                f"its pickle asks for {module}.{name}, which is not run; only weights, numbers, "
                "text and an argparse.Namespace are read. If you trust the file, keep its weights "
                "alone, where torch is: torch.save({'model': torch.load(FILE, "
                "weights_only=False)['model']}, NEW)"
            ) from None

    def persistent_load(self, pid: Any) -> Storage:
        kind, storage, key, _, numel = pid
        if kind != "storage" or not isinstance(storage, _StorageType):
            raise pickle.UnpicklingError(f"unknown reference {kind!r}")
        return Storage(str(key), storage.dtype, int(numel))


def read(data: bytes) -> Any:
    """The object in a pickle: containers, numbers, text, `Tensor` and `Namespace`.

    Raises:
      UsageError: it asks for anything else, or is no whole pickle.
    """
    try:
        for opcode, argument, _ in pickletools.genops(data):
            # A place for every number up to this one is made before it is used.
            if opcode.name in _PUTS and argument > len(data):
                raise pickle.UnpicklingError(f"{opcode.name} {argument}")
        return _Reader(data).load()
    except UsageError:
        raise
    except Exception as error:  # a broken pickle can fail in any of the ways an object can
        raise UsageError(f"its pickle is broken: {type(error).__name__}: {error}") from None


def write(value: Any) -> tuple[bytes, list[np.ndarray]]:
    """A pickle that torch reads as `value`, and the storages of its tensors.

    Args:
      value: nested dictionaries of text, whole numbers and float32 arrays.
    """
    out, storages = io.BytesIO(), []
    out.write(pickle.PROTO + b"\x02")
    _write(value, out.write, storages)
    out.write(pickle.STOP)
    return out.getvalue(), storages


def _write(value, put, storages):
    """One value in pickle's own opcodes: the standard writer would have to import torch."""
    if isinstance(value, dict):
        put(pickle.EMPTY_DICT + pickle.MARK)
        for name, entry in value.items():
            _write(name, put, storages)
            _write(entry, put, storages)
        put(pickle.SETITEMS)
    elif isinstance(value, str):
        text = value.encode()
        put(pickle.BINUNICODE + len(text).to_bytes(4, "little") + text)
    elif isinstance(value, int):
        put(pickle.LONG1 + b"\x08" + value.to_bytes(8, "little", signed=True))
    elif isinstance(value, tuple):
        put(pickle.MARK)
        for entry in value:
            _write(entry, put, storages)
        put(pickle.TUPLE)
    else:
        if value.dtype != np.float32:
            raise TypeError(f"{value.dtype} is not written, only float32")
        put(b"ctorch._utils\n_rebuild_tensor_v2\n" + pickle.MARK + pickle.MARK)
        _write("storage", put, storages)
        put(b"ctorch\nFloatStorage\n")
        for entry in (str(len(storages)), "cpu", value.size):
            _write(entry, put, storages)
        put(pickle.TUPLE + pickle.BINPERSID)
        step = tuple(n // value.itemsize for n in np.empty(value.shape, "V4").strides)
        _write(0, put, storages)
        _write(value.shape, put, storages)
        _write(tuple(step), put, storages)
        put(pickle.NEWFALSE + b"ccollections\nOrderedDict\n" + pickle.EMPTY_TUPLE + pickle.REDUCE)
        put(pickle.TUPLE + pickle.REDUCE)
        storages.append(value)


def as_dictionary(namespace: Any) -> dict[str, Any]:
    """The attributes of a Namespace, or an empty dictionary for anything else."""
    if isinstance(namespace, Namespace):
        return dict(vars(namespace))
    return namespace if isinstance(namespace, dict) else {}
