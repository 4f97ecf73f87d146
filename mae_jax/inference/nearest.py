"""Nearest neighbours among many features: exact where that is affordable, measured where not."""

import importlib.util
import os
from pathlib import Path

import numpy as np

from mae_jax.data import processes
from mae_jax.data.progress import Progress, say
from mae_jax.errors import UsageError
from mae_jax.evaluation.whitening import Moments

_AFFORDABLE = 2e13  # multiplications of an exact search: minutes on a few cores
_FEWEST = 20_000  # images below which nothing else is thought of
_RECALL = 0.97  # that is looked for, on a sample
_SAMPLE = 512  # queries that recall is measured on
_CHUNK = 4096  # queries at a time
_SHRINK = 0.003  # of the mean variance, added to all


def check_installed() -> None:
    """Raises UsageError where FAISS is not."""
    if importlib.util.find_spec("faiss") is None:
        raise UsageError("nearest neighbours need FAISS; pip install 'mae_jax[similar]'")


def memory(images: int, width: int) -> int:
    """Bytes that features of so many images take at most, with what is made of them."""
    return images * width * 4 * 3


def available_memory() -> int | None:
    """Bytes that this process may still take; None where the system does not say."""
    found = []
    try:
        with open("/proc/meminfo") as file:
            said = dict(line.split(":") for line in file)
        found.append(int(said["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        pass
    try:  # of a container
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text()
        found.append(int(limit) - int(used))
    except (OSError, ValueError):
        pass
    return min(found, default=None)


class Space:
    """Features made comparable: their mean taken off, whitened, of length 1.

    Features of images of one kind point in much the same direction. Without their mean, and with
    equal variance in every direction, what is small in all of them counts (Jégou and Chum 2012).

    Args:
      features: (records, D), of sound images, that mean and variance are those of.
      kept: a file of a `Bank`, whose space it is, if it is there and of as many dimensions.
    """

    def __init__(self, features: np.ndarray, kept: Path | None = None):
        count, width = features.shape
        found = _read(kept, ("mean", "axes"))
        if found is not None and found[0].shape == (width,) and found[1].shape == (width, width):
            self.mean, self.axes = found
            return
        some = features[:: max(1, count // 100_000)]
        if (some == some[0]).all():
            self.mean, self.axes = some[0].astype(np.float64), np.eye(width)
            return
        # Few images say little about a variance: the fewer, the more of it is taken as equal.
        fitted = Moments([some]).fit("whiten", _SHRINK + 0.1 * width / len(some))
        self.mean, self.axes = fitted.mean, fitted.matrix

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(records, D) float32 of length 1; zeros where features are the mean."""
        made = np.empty_like(features, np.float32)
        for start in range(0, len(features), _CHUNK):
            part = (features[start : start + _CHUNK] - self.mean) @ self.axes
            part /= np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)
            made[start : start + _CHUNK] = part
        return made


class Bank:
    """Features to search among, by the cosine.

    Args:
      vectors: (records, D) float32 of length 1.
      space: that they are of.
      searches: how many there will be.
      kept: a file that centroids of cells are kept in, where the search is approximate.
      exact: whether it is exact; by default where that is affordable.

    Attributes:
      exact: whether it is.
      recall: of an approximate search: the share of the 10 nearest that it finds, on a sample.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        space: Space,
        searches: int,
        kept: Path | None = None,
        *,
        exact: bool | None = None,
    ):
        import faiss

        self._vectors, self._faiss, self.recall = vectors, faiss, 1.0
        faiss.omp_set_num_threads(processes.cores())
        cost = float(searches) * vectors.size
        self.exact = (cost <= _AFFORDABLE or len(vectors) < _FEWEST) if exact is None else exact
        if not self.exact:
            self._build(space, kept)
            self._tune()

    def nearest(
        self, queries: np.ndarray, k: int, among: tuple[int, int], *, what: str = ""
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cosines and records of the nearest, (Q, k) float32 and int32.

        An approximate search may find less: the records are then -1, the cosines far below.

        Args:
          queries: (Q, D) float32 of length 1.
          k: how many, at most as many as there are.
          among: the first record and the one after the last.
          what: the queries are; nothing is said without it.
        """
        k = min(k, among[1] - among[0])
        cosines = np.empty((len(queries), k), np.float32)
        rows = np.empty((len(queries), k), np.int32)
        progress = Progress(len(queries), what=what, silent=True)
        for start in range(0, len(queries), _CHUNK):
            part = slice(start, start + _CHUNK)
            cosines[part], rows[part] = self._search(queries[part], k, among)
            if what:
                progress.did(len(queries[part]))
        return cosines, rows

    def _search(self, queries, k, among, exact=False):
        faiss, (first, last) = self._faiss, among
        if self.exact or exact:
            inside = self._vectors[first:last]
            cosines, rows = faiss.knn(queries, inside, k, metric=faiss.METRIC_INNER_PRODUCT)
            return cosines, rows + first
        options = faiss.SearchParametersIVF(nprobe=self._probes)
        if among != (0, len(self._vectors)):
            selected = faiss.IDSelectorRange(first, last)  # is pointed to, so that it must live
            options = faiss.SearchParametersIVF(nprobe=self._probes, sel=selected)
        return self._index.search(queries, k, params=options)

    def _build(self, space, kept):
        faiss, (count, width) = self._faiss, self._vectors.shape
        cells = int(4 * count**0.5)
        found = _read(kept, ("centroids",))
        centroids = None if found is None else found[0]
        if centroids is None or not cells / 2 < len(centroids) < 2 * cells:
            say(f"index: {cells} cells of {count} images")
            rng = np.random.default_rng(0)
            some = self._vectors[np.sort(rng.permutation(count)[: 40 * cells])]
            means = faiss.Kmeans(width, cells, niter=8, spherical=True, seed=1)
            means.train(some)
            centroids = np.asarray(means.centroids, np.float32)
            if kept is not None:
                making = kept.with_name(f".{kept.name}")
                with making.open("wb") as file:
                    np.savez(file, centroids=centroids, mean=space.mean, axes=space.axes)
                os.replace(making, kept)
        self._cells = faiss.IndexFlatIP(width)
        self._cells.add(centroids)
        metric = faiss.METRIC_INNER_PRODUCT
        self._index = faiss.IndexIVFFlat(self._cells, width, len(centroids), metric)
        self._index.is_trained = True
        progress = Progress(count, silent=True)
        for start in range(0, count, 16 * _CHUNK):
            part = self._vectors[start : start + 16 * _CHUNK]
            self._index.add(part)
            progress.did(len(part))

    def _tune(self):
        """Looks into as many cells as recall needs, and measures that on other queries."""
        count, everything = len(self._vectors), (0, len(self._vectors))
        some = np.random.default_rng(1).permutation(count)[: 2 * _SAMPLE]
        k, self._probes = min(10, count), 4
        tried, measured = np.array_split(some, 2)
        true = [self._search(self._vectors[one], k, everything, exact=True)[1] for one in
                (tried, measured)]  # fmt: skip

        def recall(rows, right):
            found = self._search(self._vectors[rows], k, everything)[1]
            return (found[:, :, None] == right[:, None]).any(1).mean()

        while recall(tried, true[0]) < _RECALL and self._probes < self._index.nlist:
            self._probes = min(2 * self._probes, self._index.nlist)
        self.recall = float(recall(measured, true[1]))
        say(
            f"index: approximate, {self._probes} of {self._index.nlist} cells; finds "
            f"{self.recall:.1%} of the {k} nearest of {len(measured)} images"
        )


def _read(kept, names):
    """Arrays of a file that was kept; None where it is not there, or anything else.

    Of what features it was does not matter: how well a search finds them is measured.
    """
    try:
        with np.load(kept) as file:
            return [file[name] for name in names]
    except Exception:
        return None
