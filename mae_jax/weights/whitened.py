"""The whitening of an encoder's features as a file, which goes along with its weights."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mae_jax.data import packed
from mae_jax.errors import UsageError
from mae_jax.evaluation.whitening import KINDS, Whitening

FILE = "whitening.npz"  # in an exported folder
LAYER = "features_"


def names_of(layers: Sequence[int] | None) -> list[str]:
    """What the features of these blocks are called in files, in their order."""
    return [f"{LAYER}{number}" for number in layers] if layers else ["features"]


def digest_of(tensors: Mapping[str, np.ndarray]) -> str:
    """By which an encoder's weights are known again."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Maps of features that were fitted on those of training images.

    Attributes:
      kind: "whiten" or "standardise".
      maps: by the features' names in files: "features", or "features_6" of block 6.
      weights: `digest_of` the encoder.
      output: of it: "mean", "token" or "patches".
      images: how many they were fitted on.
    """

    kind: str
    maps: dict[str, Whitening]
    weights: str
    output: str
    images: int

    @property
    def digest(self) -> str:
        """By which equal maps are known."""
        arrays = {f"{n}.{p}": getattr(m, p) for n, m in self.maps.items() for p in _PARTS}
        return digest_of(arrays)

    def check(self, weights: str, output: str, layers: Sequence[int] | None = None) -> None:
        """Raises UsageError unless this is of the features asked for."""
        self.check_weights(weights)
        if self.output != output:
            raise UsageError(f"{self._of} is of --output={self.output}, and not of {output}")
        lacking = [name for name in names_of(layers) if name not in self.maps]
        if lacking:
            known = ", ".join(self.maps)
            raise UsageError(f"{self._of} is of {known}, and not of {lacking[0]}; see --layers")

    def check_weights(self, weights: str) -> None:
        """Raises UsageError unless this is of the encoder with this digest."""
        if self.weights != weights:
            raise UsageError(f"{self._of} was fitted on features of other weights, or another size")

    @property
    def _of(self):
        return f"--{self.kind}: the map"

    def __call__(self, features: np.ndarray, layers: Sequence[int] | None = None) -> np.ndarray:
        """Features (B, …, D), or (B, layers, …, D) of these layers, to the same."""
        if layers is None:
            return self.maps["features"](features)
        maps = [self.maps[name] for name in names_of(layers)]
        return np.stack([one(features[:, at]) for at, one in enumerate(maps)], 1)

    def write(self, path: Path) -> None:
        """Writes an npz with the `mean` (D,) and `matrix` of every map, float64.

        They are `features.mean`, `features.matrix`, or `features_6.mean` and so on.
        """
        arrays = {f"{n}.{p}": getattr(m, p) for n, m in self.maps.items() for p in _PARTS}
        said = {name: getattr(self, name) for name in _SAID}
        with path.open("wb") as file:
            np.savez(file, **arrays, identity=np.array(json.dumps(said)))


_PARTS = ("mean", "matrix")
_SAID = ("kind", "weights", "output", "images")


def read(path: Path) -> Fitted:
    """What `Fitted.write` wrote.

    Raises:
      UsageError: it is damaged, or something else.
    """
    try:
        packed.check_npz(path)
        with np.load(path) as file:
            said = json.loads(str(file["identity"]))
            names = [name.removesuffix(".mean") for name in file.files if name.endswith(".mean")]
            maps = {n: Whitening(*(file[f"{n}.{part}"] for part in _PARTS)) for n in names}
        fitted = Fitted(maps=maps, **{name: said[name] for name in _SAID})
        shapes = {(m.mean.ndim, m.matrix.ndim, m.matrix.shape[:1] == m.mean.shape) for m in
                  maps.values()}  # fmt: skip
        if fitted.kind not in KINDS or not shapes or not shapes <= {(1, 1, True), (1, 2, True)}:
            raise ValueError("its arrays do not belong together")
    except Exception as error:  # damaged bytes may end a decoder anywhere
        raise UsageError(f"{str(path)!r} is no whitening: {error}") from None
    return fitted
