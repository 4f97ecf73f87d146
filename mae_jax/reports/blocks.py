"""What a page is made of: sections of text, tables, figures and pictures."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from mae_jax.reports.figures import Figure
from mae_jax.reports.pictures import Picture


@dataclasses.dataclass(frozen=True)
class Text:
    """Paragraphs."""

    kind: ClassVar[str] = "text"
    paragraphs: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Cell:
    """Of a table: text; `colour`, of a mark before it; `exact`, a number that the text rounds."""

    text: str
    colour: str = ""
    exact: float | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of cells or text, of which the first names its row.

    Attributes:
      folded: shows the caption alone, until it is opened.
      aside: the last column is left out where there is no room for it.
    """

    kind: ClassVar[str] = "table"
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    folded: bool = False
    aside: bool = False


@dataclasses.dataclass(frozen=True)
class Legend:
    """What the colours of the figures below stand for."""

    kind: ClassVar[str] = "legend"
    entries: Sequence[Cell]


@dataclasses.dataclass(frozen=True)
class Figures:
    """Beside each other, where there is room."""

    kind: ClassVar[str] = "figures"
    figures: Sequence[Figure]


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Beside each other, where there is room."""

    kind: ClassVar[str] = "pictures"
    pictures: Sequence[Picture]


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page, with a title that the table of contents has too."""

    name: str
    title: str
    blocks: Sequence[Text | Table | Legend | Figures | Pictures]
