"""What is found of similar images, as a table, a sheet of pictures and JSON."""

import csv
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mae_jax.data.records import NO_LABEL
from mae_jax.inference.views import views
from mae_jax.visualize import predictions

_SHOWN = 48  # pictures in a sheet, at most
COLUMNS = (
    "kind", "a", "b", "similarity", "correlation", "by", "split_a", "split_b", "class_a",
    "class_b", "group",
)  # fmt: skip


class Pair(NamedTuple):
    """Two records; the cosine of their features, and the correlation of their pixels.

    `by` is what they are copies by: bytes, pixels, mirrored or cropped; nothing for neighbours.
    """

    a: int
    b: int
    similarity: float
    correlation: float
    by: str


def check(folder: Path) -> None:
    """Raises OSError where nothing can be written to a folder."""
    tempfile.TemporaryFile(dir=folder).close()


def write(
    folder: Path, source, pixels, made, names: Sequence[str], part, pairs: list[Pair], said
) -> dict[str, Any]:
    """Writes pairs of copies, leaks first, then by correlation.

    Args:
      made: the records' features, with labels.
      names: of the sets; `part` says which of them each record is of.
      said: of the search.

    Returns:
      As `similar.similar`.
    """
    leak = {pair: bool(part[pair.a] != part[pair.b]) for pair in pairs}
    pairs = sorted(pairs, key=lambda p: (not leak[p], -p.correlation, p.a, p.b))
    groups, classes = _groups(pairs), _classes(made)
    several = len(names) > 1
    rows = []
    for pair in pairs:
        a, b = pair.a, pair.b
        splits = (names[part[a]], names[part[b]]) if several else ("", "")
        rows.append(
            (
                "leak" if leak[pair] else "duplicate",
                *(made.names[a], made.names[b]),
                *(f"{pair.similarity:.4f}", f"{pair.correlation:.4f}", pair.by),
                *splits,
                *(classes[a], classes[b], groups[a]),
            )
        )
    result: dict[str, Any] = {"out": str(folder), "table": table(folder, rows)}
    contrary = [p for p in pairs if "" != classes[p.a] != classes[p.b] != ""]
    shown = pairs[: _SHOWN // 2]
    pictured = [(p.a, f"{classes[p.a]} {names[part[p.a]] if several else ''}") for p in shown]
    others = [(p.b, f"{p.correlation:.3f} {p.by}") for p in shown]
    picture = sheet(
        folder, source, pixels, [one for two in zip(pictured, others, strict=True) for one in two]
    )
    result |= {"sheet": picture} if picture else {}
    result |= {"images": len(made.names)}
    result |= {"broken": int(made.broken.sum())} if made.broken.any() else {}
    result |= {"pairs": len(pairs), "groups": len(set(groups.values()))}
    result |= {"leaks": sum(leak.values())} if several else {}
    result |= {"of_two_labels": len(contrary)} if (made.labels != NO_LABEL).any() else {}
    return finish(folder, result | said)


def finish(folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Writes a result as JSON, too."""
    result = result | {"json": str(folder / "similar.json")}
    _replace(folder / "similar.json", json.dumps(result, indent=1).encode())
    return result


def table(folder: Path, rows: Iterable[Sequence[Any]]) -> str:
    """Writes rows of `COLUMNS`, and says where."""
    path, making = folder / "similar.csv", folder / f".similar.csv.{os.getpid()}"
    with making.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    os.replace(making, path)
    return str(path)


def sheet(folder: Path, source, pixels, pictured: Sequence[tuple[int, str]]) -> str | None:
    """Draws records with their titles, eight in a row, and says where; None where there are none.

    A sheet of another time does not stay.
    """
    path = folder / "similar.png"
    path.unlink(missing_ok=True)
    if not pictured:
        return None
    indices = [index for index, _ in pictured]
    (found,) = views(source, pixels, indices, len(indices), broken_share=1.0)
    images = pixels.shown(found.images, like=found.images)
    predictions.sheet(images, [title for _, title in pictured]).save(path)
    return str(path)


def _classes(made) -> list[str]:
    known = made.classes
    return ["" if label == NO_LABEL or not known else known[label] for label in made.labels]


def _groups(pairs: Sequence[Pair]) -> dict[int, int]:
    """A number for each record, the same where pairs lead from one to another."""
    above: dict[int, int] = {}

    def top(record):
        while above.setdefault(record, record) != record:
            above[record] = above[above[record]]
            record = above[record]
        return record

    for pair in pairs:
        above[top(pair.a)] = top(pair.b)
    numbers: dict[int, int] = {}
    return {record: numbers.setdefault(top(record), len(numbers) + 1) for record in list(above)}


def _replace(path: Path, data: bytes) -> None:
    making = path.with_name(f".{path.name}.{os.getpid()}")
    making.write_bytes(data)
    os.replace(making, path)
