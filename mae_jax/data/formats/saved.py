"""Data sets that Hugging Face's `datasets` has saved to a disk (`save_to_disk`)."""

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from mae_jax.data.files import Files
from mae_jax.data.formats.parquet import LABELS, image_bytes, image_column
from mae_jax.data.names import Names
from mae_jax.data.said import Said
from mae_jax.errors import BrokenRecord, UsageError

_ONE, _SEVERAL = ("state.json", "dataset_info.json"), ("dataset_dict.json",)


def is_saved(place: str) -> bool:
    """Whether a folder is what `save_to_disk` makes."""
    return any(
        all(os.path.isfile(os.path.join(place, name)) for name in names)
        for names in (_ONE, _SEVERAL)
    )


class SavedFiles(Files):
    """The images of a saved data set, in its order; a row's name is its split's and its number.

    Raises:
      UsageError: `datasets` is not installed, the folder is damaged, or has no images.
    """

    def __init__(self, folder: str):
        try:
            import datasets
        except ImportError:
            raise UsageError(
                f"{folder!r} was saved by the library datasets, which is not installed: "
                "pip install 'mae_jax[datasets]'"
            ) from None
        self._folder = folder
        try:
            found = datasets.load_from_disk(folder)
        except Exception as error:  # of pyarrow, json, the library's own
            raise UsageError(f"{folder!r} cannot be opened by datasets: {error}") from None
        parts = dict(found) if isinstance(found, datasets.DatasetDict) else {"": found}
        self._parts, names, labels, splits, classes = [], [], [], [], None
        digest = hashlib.sha256()
        for split, part in parts.items():
            part = part.with_format(None)  # which may have been saved with it
            column, label = _columns(folder, part, datasets)
            here = tuple(getattr(part.features.get(label), "names", ()))
            if classes not in (None, here):
                raise UsageError(f"{folder!r} has splits with different classes")
            classes = here
            self._parts.append(part.select_columns([column]))
            names += [f"{split}/{row:08d}" if split else f"{row:08d}" for row in range(len(part))]
            splits += [split] * len(part)
            labels += list(part[label]) if label else [None] * len(part)
            digest.update(f"{split}\0{len(part)}\0{part._fingerprint}\0".encode())
        self._names, self._sha256 = Names(names), digest.hexdigest()
        self._sizes = [part.data.nbytes for part in self._parts]
        self._ends = np.cumsum([len(part) for part in self._parts])
        self._images: dict[int, Any] = {}  # each part's column of them
        self.said = Said.of_rows(
            f"data.folder {folder!r}",
            labels=labels,
            classes=classes or (),
            splits=splits if any(splits) else None,
            unlabelled="it has no column label",
        )

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        return self._names[index]

    def size(self, index: int) -> int:
        part, _ = self._place(index)
        return self._sizes[part] // max(len(self._parts[part]), 1)

    def read(self, index: int) -> bytes:
        part, row = self._place(index)
        if part not in self._images:
            self._images[part] = self._parts[part].data.column(0)
        try:
            data = image_bytes(self._images[part][row].as_py(), self._folder)
        except (OSError, ValueError) as error:
            raise BrokenRecord(f"{self.name(index)}: {error}") from None
        if data is None:
            raise BrokenRecord(f"{self.name(index)}: its row has no image")
        return data

    def fingerprint(self, indices: Sequence[int]) -> dict[str, Any]:
        chosen = hashlib.sha256(np.asarray(indices, "<i8").tobytes()).hexdigest()
        return {
            "kind": "saved",
            "records": len(indices),
            "bytes": int(sum(self._sizes)),
            "sha256": self._sha256,
            "chosen": chosen,
        }

    def __getstate__(self):
        return self.__dict__ | {"_images": {}}  # which are mapped, and would be sent as bytes

    def _place(self, index: int) -> tuple[int, int]:
        part = int(np.searchsorted(self._ends, index, side="right"))
        return part, index - int(self._ends[part - 1] if part else 0)


def _columns(folder, part, datasets) -> tuple[str, str | None]:
    """The column of images, and that of labels."""
    found = [name for name, kind in part.features.items() if isinstance(kind, datasets.Image)]
    column = image_column(folder, found, list(part.features))
    return column, next((name for name in LABELS if name in part.features), None)
