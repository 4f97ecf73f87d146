"""Images that tests lay down in one format or another."""

import csv
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image


def picture(seed=0, size=(12, 10), kind="PNG"):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, kind)
    return data.getvalue()


def table(folder, rows, name="table.csv"):
    """A table beside the images that it names, which are made."""
    folder.mkdir(exist_ok=True)
    for number, row in enumerate(rows):
        if row.get("path") and not (folder / row["path"]).exists():
            (folder / row["path"]).parent.mkdir(parents=True, exist_ok=True)
            (folder / row["path"]).write_bytes(picture(number))
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as made:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))
    return path


def names(source):
    return [source.name(index) for index in range(len(source))]


def written(place, **columns):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    place.parent.mkdir(exist_ok=True)
    parquet.write_table(pa.table(columns), place, row_group_size=3)
    return place
