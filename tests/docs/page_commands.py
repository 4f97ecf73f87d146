"""The commands that README and the pages of docs/ tell a reader to type.

They are the lines of their ```sh blocks. `<!-- not run: needs a TPU -->` on the line before a block
says, on the page itself, why nobody runs it in `make docs-test`; it is checked all the same.
"""

import ast
import dataclasses
import re
import shlex
from pathlib import Path

TOP = Path(__file__).parents[2]
PAGES = [TOP / "README.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs").glob("*.md"))]
_BLOCK = re.compile(r"(?:^<!-- not run: (.+?) -->\n)?^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^ {4}(mae-jax (?:.*\\\n)*.*)$", re.MULTILINE)
_INLINE = re.compile(r"`mae-jax ([^`]+)`")


@dataclasses.dataclass(frozen=True)
class Block:
    """One ```sh block.

    Attributes:
      place: page and line.
      commands: one after the other, each as the shell splits it.
      not_run: why not; None for those that are.
    """

    place: str
    commands: tuple[tuple[str, ...], ...]
    not_run: str | None


def blocks(page: Path) -> list[Block]:
    """Those of a page."""
    text, found = page.read_text(), []
    for block in _BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 1
        found.append(Block(f"{page.name}:{line}", commands(block.group(2)), block.group(1)))
    return found


def commands(text: str) -> tuple[tuple[str, ...], ...]:
    """Of lines as a shell reads them."""
    split = map(_words, text.replace("\\\n", " ").splitlines())
    return tuple(command for words in split if words for command in _one_by_one(tuple(words)))


def inline(page: Path) -> list[list[str]]:
    """What follows `mae-jax` where a sentence names a command."""
    return [shlex.split(found) for found in _INLINE.findall(page.read_text())]


def of_config(path: Path) -> tuple[tuple[str, ...], ...]:
    """The commands that a config file opens with, indented in its docstring."""
    text = ast.get_docstring(ast.parse(path.read_text()), clean=False) or ""
    return commands("\n".join(_INDENTED.findall(text)))


def _words(line):
    try:
        return shlex.split(line, comments=True)
    except ValueError:  # of a script, whose quotes go over lines
        return []


def _one_by_one(words):
    """`a && b` as two."""
    while "&&" in words:
        at = words.index("&&")
        yield words[:at]
        words = words[at + 1 :]
    yield words


def elided(words) -> bool:
    """Whether something is left for the reader, or the shell, to fill in."""
    return any("…" in word or "..." in word or "$" in word for word in words)
