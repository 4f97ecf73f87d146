"""The images that are nearest to given ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mae_jax.data.records import NO_LABEL, Source
from mae_jax.data.together import Together
from mae_jax.errors import BrokenRecord, UsageError
from mae_jax.inference import copies, nearest, similar_files
from mae_jax.inference.similar import ALSO, THRESHOLD, features, prepared, ways
from mae_jax.inference.views import BROKEN_SHARE
from mae_jax.pixels import Pixels
from mae_jax.weights.load import PretrainedEncoder

_ROWS, _ACROSS = 6, 8  # of the sheet


def neighbours(
    encoder: PretrainedEncoder,
    source: Source,
    queries: Source,
    out: str | Path,
    *,
    k: int = 10,
    threshold: float = THRESHOLD,
    also: Sequence[str] = ALSO,
    pixels: Pixels | None = None,
    broken_share: float = BROKEN_SHARE,
) -> dict[str, Any]:
    """Finds the k images nearest to each query, and says which of them are copies of it.

    Where an image is a copy of the mirrored query, or of a crop of it, it stands among these, too.

    Args:
      source: the images.
      queries: may be of any size and kind that the encoder's pixels are made of.
      out, k, threshold, also, pixels, broken_share: as of `similar.similar`.

    Returns:
      Where table, sheet and JSON lie, how many queries, and how many copies.

    Raises:
      As `similar.similar`.
    """
    folder = prepared(encoder, [source, queries], out, k=k, threshold=threshold, also=also)
    if k > len(source):
        raise UsageError(f"--k={k} must be at most {len(source)}, the number of images")
    pixels = encoder.weights.pixels if pixels is None else pixels
    made = features(encoder, source, folder, copies.WHOLE, pixels, broken_share)
    sound = np.flatnonzero(~made.broken)
    if not len(sound):
        raise BrokenRecord("none of the images can be read")
    asked = features(encoder, queries, folder, copies.WHOLE, pixels, broken_share, "query")
    asking = np.flatnonzero(~asked.broken)
    whole, kept = made.features[sound], folder / "index.npz"
    space = nearest.Space(whole, kept)
    hows = ways(also)
    bank = nearest.Bank(space(whole), space, len(asking) * len(hows), kept)
    # Of a query and a sound image: the cosine, and whether it is that of the query itself.
    near: dict[tuple[int, int], tuple[float, bool]] = {}
    for how in hows:
        given = asked
        if how != copies.WHOLE:
            given = features(encoder, queries, folder, how, pixels, broken_share, "query")
        most = k if how == copies.WHOLE else min(k, copies.OF_ALTERED)
        vectors = space(given.features[asking])
        cosines, rows = bank.nearest(vectors, most, (0, len(sound)), what=f"searches, {how},")
        for query, row in zip(*np.nonzero(rows >= 0), strict=True):
            found = int(query), int(rows[query, row])
            near.setdefault(found, (float(cosines[query, row]), how == copies.WHOLE))
    first, second = np.array(list(near), int).reshape(-1, 2).T
    agree, way = _agreement(queries, source, pixels, asking, sound, first, second, hows)
    pairs = []
    for at, ((query, row), (cosine, itself)) in enumerate(near.items()):
        a, b = int(asking[query]), int(sound[row])
        same = asked.digests[a] == made.digests[b]
        by = "bytes" if same else way[at] if agree[at] >= threshold else ""
        if itself or by:
            pairs.append(similar_files.Pair(a, b, cosine, 1.0 if same else float(agree[at]), by))
    pairs.sort(key=lambda p: (p.a, -p.similarity, p.b))
    return _written(folder, source, queries, pixels, made, asked, pairs, bank)


def _agreement(queries, source, pixels, asking, sound, first, second, hows):
    """Of each pair the best correlation of all ways to lay one on the other, and by which it is."""
    asked = copies.small(queries, pixels, asking)[first]
    seen, where = np.unique(second, return_inverse=True)
    given = copies.small(source, pixels, sound[seen])[where]
    best, by = np.full(len(first), -1.0), np.full(len(first), "pixels", object)
    for how in hows:
        name = "pixels" if how == copies.WHOLE else how.partition("-")[0]
        for one, other in ((asked, given), (given, asked)):
            found = copies.agreement(one, other, np.full(len(first), how))
            by[found > best] = name
            best = np.maximum(best, found)
    return best, by


def _written(folder, source, queries, pixels, made, asked, pairs, bank):
    rows = [
        (
            "duplicate" if p.by else "neighbour",
            *(asked.names[p.a], made.names[p.b]),
            *(f"{p.similarity:.4f}", f"{p.correlation:.4f}", p.by),
            *("query", "images"),
            *(_class(asked, p.a), _class(made, p.b), ""),
        )
        for p in pairs
    ]
    result: dict[str, Any] = {"out": str(folder), "table": similar_files.table(folder, rows)}
    both, pictured = Together([queries, source], ["query", "images"]), []
    for query in sorted({p.a for p in pairs})[:_ROWS]:
        near = [p for p in pairs if p.a == query][: _ACROSS - 1]
        pictured += [(query, "query")]
        pictured += [
            (len(queries) + p.b, f"{p.similarity:.3f} {p.by or _class(made, p.b)}") for p in near
        ]
        if len(near) < _ACROSS - 1:
            break  # rows of other queries would not begin at the left
    picture = similar_files.sheet(folder, both, pixels, pictured)
    result |= {"sheet": picture} if picture else {}
    result |= {"images": len(made.names), "queries": len(asked.names)}
    broken = int(made.broken.sum() + asked.broken.sum())
    result |= {"broken": broken} if broken else {}
    result |= {
        "copies": sum(bool(p.by) for p in pairs),
        "search": "exact" if bank.exact else "approximate",
        "measures": {"recall_of_index": bank.recall},
    }
    return similar_files.finish(folder, result)


def _class(made, row) -> str:
    label = made.labels[row]
    return "" if label == NO_LABEL or not made.classes else made.classes[label]
