"""What a format says of its images itself, where a folder says it by its sub-folders."""

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence, Set
from typing import Any

import numpy as np

from mae_jax.data.records import NO_LABEL
from mae_jax.errors import UsageError

_NUMBER = re.compile(r"-?\d+(\.0)?|[nN]a[nN]", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Said:
    """Labels, splits and groups of files; what is None is not said.

    Attributes:
      labels: (files,) int32, NO_LABEL where a file has none.
      classes: the labels' names in order.
      declared: whether the format names the classes, rather than labels of them alone: they then
        are those of every split.
      splits: the numbers of each split's files, in ascending order.
      groups: (files,) a number each: shares of a split keep files of a number together.
      unlabelled: why no file has a label, as the end of a sentence.
    """

    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    declared: bool = False
    splits: dict[str, np.ndarray] | None = None
    groups: np.ndarray | None = None
    unlabelled: str = ""

    @classmethod
    def of_rows(
        cls,
        place: str,
        *,
        labels: Sequence[str | int | None] | None = None,
        classes: Sequence[str] = (),
        splits: Sequence[str | None] | None = None,
        groups: Sequence[Any] | None = None,
        unlabelled: str = "",
    ) -> "Said":
        """Of what stands beside each file.

        Args:
          place: what to call all this in messages.
          labels: a class each: a name, or a whole number; None or "" for none. With `classes`, the
            number of one of these; below 0 for none.
          classes: names that the format gives of all numbers.
          splits, groups: a name each; None or "" for none. A file without a group is one by itself.
          unlabelled: of the class, if there are no labels.

        Raises:
          UsageError: a label is no number of a class, or a group is in two splits.
        """
        made: dict[str, Any] = {}
        if labels is not None:
            made = _declared(place, labels, classes) if classes else _named(_names(place, labels))
        if not made.get("classes"):
            made = {"unlabelled": unlabelled}
        if splits is not None:
            found: dict[str, list[int]] = {}
            for index, name in enumerate(_names(place, splits)):
                if name is not None:
                    found.setdefault(name, []).append(index)
            if found:
                made["splits"] = {name: np.array(files, int) for name, files in found.items()}
        if groups is not None:
            names = _names(place, groups)
            made["groups"] = _numbered(names)
            _check_groups(place, made["groups"], names, made.get("splits") or {})
        return cls(**made)

    def of(self, chosen: Sequence[int]) -> "Said":
        """The same of some of the files, in this order."""
        chosen = np.asarray(chosen, int)
        place = {int(index): at for at, index in enumerate(chosen)}
        splits = self.splits and {
            name: np.array(sorted(place[i] for i in files.tolist() if i in place), int)
            for name, files in self.splits.items()
        }
        return dataclasses.replace(
            self,
            labels=None if self.labels is None else self.labels[chosen],
            splits=splits,
            groups=None if self.groups is None else self.groups[chosen],
        )

    def named(self, names: Set[str]) -> list[str]:
        """Classes in order, where these occur: all that the format declares, or else these."""
        if self.declared:
            return list(self.classes)
        return [name for name in self.classes if name in names] if self.classes else sorted(names)

    def fingerprint(self) -> dict[str, str]:
        """What identifies all this; nothing if nothing is said."""
        content = json.dumps(self.as_json())
        if content == json.dumps(Said().as_json()):
            return {}
        return {"said": hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()}

    def as_json(self) -> dict[str, Any]:
        """For `from_json`."""
        content = dataclasses.asdict(self)
        for name in ("labels", "groups"):
            content[name] = None if content[name] is None else content[name].tolist()
        if self.splits is not None:
            content["splits"] = {name: files.tolist() for name, files in self.splits.items()}
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Said":
        """What `as_json` gave.

        Raises:
          TypeError, ValueError, OverflowError: it is no such thing.
        """
        read = cls(**content)
        splits = read.splits and {
            str(name): np.array(files, np.int64) for name, files in read.splits.items()
        }
        return dataclasses.replace(
            read,
            labels=None if read.labels is None else np.array(read.labels, np.int32),
            classes=tuple(map(str, read.classes)),
            splits=splits,
            groups=None if read.groups is None else np.array(read.groups, np.int64),
        )

    def check(self, count: int) -> None:
        """Raises ValueError unless this can be said of so many files."""
        for numbers in (self.labels, self.groups):
            if numbers is not None and numbers.shape != (count,):
                raise ValueError(f"it is of {numbers.shape} files, not of {count}")
        labels = self.labels if self.labels is not None else np.array([NO_LABEL])
        if len(labels) and not NO_LABEL <= labels.min() <= labels.max() < max(len(self.classes), 0):
            raise ValueError("it has labels that are no class")
        for files in (self.splits or {}).values():
            if len(files) and not 0 <= files.min() <= files.max() < count:
                raise ValueError("it has splits of files that are not there")


def _declared(place, labels, classes):
    try:
        numbers = np.array([NO_LABEL if label is None else label for label in labels], np.int64)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{place} has labels that are no numbers of its classes") from None
    pairs = zip(labels, numbers.tolist(), strict=True)
    if any(label is not None and label != number for label, number in pairs):
        raise UsageError(f"{place} has labels that are no whole numbers of its classes")
    numbers[numbers < 0] = NO_LABEL
    if len(numbers) and numbers.max() >= len(classes):
        raise UsageError(f"{place} has the label {numbers.max()}, and {len(classes)} classes")
    if (numbers == NO_LABEL).all():
        return {}
    return {"labels": numbers.astype(np.int32), "classes": tuple(classes), "declared": True}


def _names(place: str, values: Iterable[Any]) -> list[str | None]:
    """What a column names: None where there is nothing."""
    return [None if value is None else _name(place, value) for value in values]


def _name(place, value):
    if isinstance(value, float):
        # A column of whole numbers with gaps is one of floats to many programs.
        if math.isnan(value):
            return None
        value = int(value) if value.is_integer() else value
    if not isinstance(value, str | int | float):
        raise UsageError(f"{place} has {value!r}, where a name or a number is expected")
    try:
        str(value).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise UsageError(f"{place} has {value!r}, which is no text") from None
    return str(value) or None


def _whole(names):
    """The same, where all are numbers: without the .0 that gaps in a column lead to, and the gaps.

    Below zero is none, as of numbers whose classes have names.
    """
    said = [name for name in names if name is not None]
    if not all(_NUMBER.fullmatch(name) for name in said):
        return names
    found = (name and name.removesuffix(".0") for name in names)
    return [None if name is None or name[0] in "-nN" else name for name in found]


def _named(names):
    names = _whole(names)
    known = sorted({name for name in names if name is not None}, key=in_order)
    number = {name: at for at, name in enumerate(known)}
    found = [NO_LABEL if name is None else number[name] for name in names]
    return {"labels": np.array(found, np.int32), "classes": tuple(known)}


def in_order(name: str) -> tuple[bool, int, str, str]:
    """What names of classes are sorted by, no two alike: numbers by value, before other names."""
    if name.isascii() and name.isdecimal():
        value = name.lstrip("0")
        return False, len(value), value, name
    return True, 0, "", name


def _numbered(groups):
    numbers: dict[Any, int] = {}
    keys = (index if group is None else group for index, group in enumerate(groups))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def _check_groups(place, numbers, groups, splits):
    """A group in two splits would be trained on and then held out."""
    of: dict[int, str] = {}
    for split, files in splits.items():
        for index in files.tolist():
            other = of.setdefault(int(numbers[index]), split)
            if other != split:
                raise UsageError(
                    f"{place} has group {groups[index]!r} in the splits {other!r} and {split!r}; "
                    "groups are what must stay together: drop the column, or mend it"
                )
