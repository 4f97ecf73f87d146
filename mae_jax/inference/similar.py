"""Near-duplicates within sets of images, leaks between them, and neighbours of given images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mae_jax.data.progress import Progress, say
from mae_jax.data.records import Source
from mae_jax.data.together import Together
from mae_jax.errors import UsageError, printable
from mae_jax.inference import altered, copies, embed, embedded, nearest, similar_files
from mae_jax.inference.similar_files import Pair
from mae_jax.inference.views import BROKEN_SHARE
from mae_jax.pixels import Pixels
from mae_jax.weights.load import PretrainedEncoder

THRESHOLD = 0.97
ALSO = (altered.MIRRORED, altered.CROPPED)
_PAIRS = 8192  # compared between two lines about progress


def similar(
    encoder: PretrainedEncoder,
    sets: Sequence[tuple[str, Source]],
    out: str | Path,
    *,
    k: int = 10,
    threshold: float = THRESHOLD,
    also: Sequence[str] = ALSO,
    pixels: Pixels | None = None,
    broken_share: float = BROKEN_SHARE,
    leaks_alone: bool = False,
) -> dict[str, Any]:
    """Finds pairs of images that are copies of each other, within one set and between several.

    Each image's k nearest by features are compared with it as small grey pictures, laid on each
    other; so are the nearest of its mirror image and of crops of it. Copies of some of the images
    are planted and looked for in the same way: the share that is found is what is said of recall.

    Args:
      sets: one or several, with what each is called; a pair between two is a leak.
      out: a folder; features lie there, so that the same call again goes on, or computes those of
        new images alone.
      k: neighbours of each image that are compared with it.
      threshold: the least correlation of a pair.
      also: "mirrored" and "cropped", some of these.
      pixels, broken_share: as of `embed.embed`.
      leaks_alone: look for pairs between two sets only.

    Returns:
      Where table, sheet and JSON lie; how many pairs, leaks, groups, and pairs of two labels; and
      measures: recall by kind of copy, the index's, and the least cosine.

    Raises:
      UsageError: a value that cannot be, fewer than two images, `out` cannot be written or is of
        something else, too little memory, or FAISS is not installed.
      BrokenRecord: more images cannot be read than `broken_share`.
    """
    folder = prepared(
        encoder, [source for _, source in sets], out, k=k, threshold=threshold, also=also
    )
    names, sources = [name for name, _ in sets], [source for _, source in sets]
    source = sources[0] if len(sets) == 1 else Together(sources, names)
    if len(source) < 2:
        raise UsageError(f"one {source.noun} has no others to be compared with; give at least two")
    if k > len(source) - 1:
        raise UsageError(f"--k={k} must be at most {len(source) - 1}: so many others each has")
    pixels = encoder.weights.pixels if pixels is None else pixels
    made = features(encoder, source, folder, copies.WHOLE, pixels, broken_share)
    part = np.repeat(np.arange(len(sets)), [len(one) for one in sources])
    rows, bytewise = _different(made, part)
    ends = np.searchsorted(part[rows], np.arange(len(sets) + 1))
    ranges = list(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True))
    plans = [
        copies.Plan(one, other)
        for one in ranges
        for other in ranges
        if one[0] < one[1] and other[0] < other[1] and not (leaks_alone and one == other)
    ]
    pairs: list[Pair] = []
    said: dict[str, Any] = {}
    if len(rows) > 1 and plans:
        pairs, said = _searched(
            encoder, source, folder, made, rows, plans, k, threshold, also, pixels, broken_share
        )
    same = [(a, b) for a, b in bytewise if not leaks_alone or part[a] != part[b]]
    pairs = [p for p in pairs if made.digests[p.a] != made.digests[p.b]]
    pairs += [Pair(a, b, 1.0, 1.0, "bytes") for a, b in same]
    return similar_files.write(folder, source, pixels, made, names, part, pairs, said)


def prepared(encoder, sources, out, *, k: int, threshold: float, also: Sequence[str]) -> Path:
    """The folder of results, after all is looked at that can be before the work.

    Raises:
      UsageError: as of `similar`.
    """
    nearest.check_installed()
    if k < 1:
        raise UsageError(f"--k={k} must be at least 1")
    if not 0 < threshold <= 1:
        raise UsageError(f"--threshold={threshold} must be above 0 and at most 1")
    for kind in also:
        if kind not in ALSO:
            raise UsageError(f"--also={kind} is unknown; known are {', '.join(ALSO)}, none")
    count, width = sum(map(len, sources)), encoder.weights.dimensions.width
    needs = nearest.memory(count, width) + count * copies.BYTES
    free = nearest.available_memory()
    gib = 2**30
    say(
        f"memory: {count} x {width} features and all that is made of them take up to "
        f"{needs / gib:.2g} GiB" + ("" if free is None else f", of {free / gib:.3g} GiB free")
    )
    if free is not None and needs > free:
        raise UsageError(
            f"{count} images need {needs / gib:.3g} GiB of memory, and {free / gib:.3g} GiB are "
            "free; give fewer images, or a machine with more"
        )
    folder = Path(out).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        similar_files.check(folder)
    except OSError as error:
        raise UsageError(f"--out {str(out)!r} cannot be written: {error.strerror}") from None
    return folder


def features(
    encoder, source, folder, how, pixels, broken_share, name="features"
) -> embedded.Embedded:
    """Of every record, shown in one way; made where they are not there yet."""
    path = folder / (f"{name}.npz" if how == copies.WHOLE else f"{name}-{how}.npz")
    say(f"features, {how}: {printable(path.name)}")
    altering = None if how == copies.WHOLE else how
    embed.embed(encoder, source, path, pixels=pixels, broken_share=broken_share, altered=altering)
    return embedded.read(path)


def ways(also: Sequence[str]) -> list[str]:
    """In which images are shown to look for others."""
    return [copies.WHOLE, *altered.names(tuple(also))]


def _different(made, part):
    """Rows of sound records whose bytes are not those of one before in their set; and the rest.

    Those are pairs: with the first of the same bytes, and with the first in each other set.
    """
    first: dict[int, dict[int, int]] = {}
    rows, bytewise = [], []
    for row in np.flatnonzero(~made.broken).tolist():
        seen, here = first.setdefault(int(made.digests[row]), {}), int(part[row])
        bytewise += [(other, row) for where, other in seen.items()]
        if here not in seen:
            seen[here] = row
            rows.append(row)
    return np.array(rows, int), bytewise


def _searched(encoder, source, folder, made, rows, plans, k, threshold, also, pixels, broken_share):
    """Pairs that are one by pixels, and what is known of the search."""
    whole = made.features[rows]
    kept, hows = folder / "index.npz", ways(also)
    space = nearest.Space(whole, kept)
    vectors = space(whole)
    del whole
    bank = nearest.Bank(vectors, space, len(hows) * len(rows), kept)
    measured = copies.measure(encoder, source, pixels, rows, bank, space, hows, k, threshold)
    say(
        f"recall, of {measured.copies} planted copies of each kind: "
        + ", ".join(f"{kind} {share:.0%}" for kind, share in measured.recall.items())
    )
    found = []
    for how in hows:
        if how != copies.WHOLE:
            vectors = space(
                features(encoder, source, folder, how, pixels, broken_share).features[rows]
            )
        for plan in plans:
            some = copies.search(bank, vectors, plan, how, k, what=f"searches, {how},")
            found.append(_candidates(some, plan, how, hows, measured.cosine))
    del vectors
    a, b, way, cosine = (np.concatenate(column) for column in zip(*found, strict=True))
    pairs = _verified(source, pixels, rows, a, b, way, cosine, hows, threshold)
    measures = {f"recall_{kind}": share for kind, share in measured.recall.items()}
    measures |= {"recall_of_index": bank.recall, "least_cosine": measured.cosine}
    search = "exact" if bank.exact else "approximate"
    return pairs, {
        "search": search,
        "compared": len(a),
        "planted": measured.copies,
        "measures": measures,
    }


def _candidates(some, plan, how, hows, least):
    """Pairs that are near enough; each once where it does not matter who is first."""
    query, place = np.nonzero((some.cosines >= least) & (some.rows >= 0))
    a = (query + plan.queries[0]).astype(np.int32)
    b, cosine = some.rows[query, place], some.cosines[query, place]
    if how in (copies.WHOLE, altered.MIRRORED):
        a, b = np.minimum(a, b), np.maximum(a, b)
    return a, b, np.full(len(a), hows.index(how), np.int8), cosine


def _verified(source, pixels, rows, a, b, way, cosine, hows, threshold) -> list[Pair]:
    order = np.lexsort((way, b, a))
    a, b, way, cosine = (column[order] for column in (a, b, way, cosine))
    new = np.ones(len(a), bool)
    new[1:] = (np.diff(a) != 0) | (np.diff(b) != 0) | (np.diff(way) != 0)
    a, b, way, cosine = (column[new] for column in (a, b, way, cosine))
    involved, where = np.unique(np.concatenate([a, b]), return_inverse=True)
    pictures = copies.small(source, pixels, rows[involved], what="pictures")
    first, second = np.split(where, 2)
    names = np.array(hows)
    best: dict[tuple[int, int], Pair] = {}
    progress = Progress(len(a), what="pairs", silent=True)
    for start in range(0, len(a), _PAIRS):
        part = slice(start, start + _PAIRS)
        agree = copies.agreement(pictures[first[part]], pictures[second[part]], names[way[part]])
        for at in np.flatnonzero(agree >= threshold).tolist():
            one, other = sorted((int(rows[a[start + at]]), int(rows[b[start + at]])))
            before, now = best.get((one, other)), float(agree[at])
            if before is None or now > before.correlation:
                by = str(names[way[start + at]]).partition("-")[0]
                by = "pixels" if by == copies.WHOLE else by
                nearer = float(cosine[start + at])
                best[one, other] = Pair(one, other, nearer, now, by)
        progress.did(len(agree))
    return list(best.values())
