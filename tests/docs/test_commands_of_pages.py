"""Every command on a page is one: verbs, flags, config keys, files, extras, targets of make."""

import re

import page_commands
import pytest
from page_commands import PAGES, TOP

from mae_jax.commands import flags, verbs
from mae_jax.commands.verb import Group
from mae_jax.config.schema import all_keys

MAKEFILE = (TOP / "Makefile").read_text()
EXTRAS = set(re.findall(r'^        "(\w+)":', (TOP / "setup.py").read_text(), re.MULTILINE))


@pytest.fixture(autouse=True)
def _at_the_top(monkeypatch):
    monkeypatch.chdir(TOP)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks(page):
    for block in page_commands.blocks(page):
        for words in block.commands:
            try:
                check(words)
            except Exception as error:
                raise AssertionError(f"{block.place}: {' '.join(words)}: {error}") from error


def test_config_files():
    for path in (TOP / "configs").rglob("*.py"):
        for words in page_commands.of_config(path):
            check(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_sentences(page):
    for words in page_commands.inline(page):
        if page.name != "extend.md":  # whose verb is one to be written
            check_names(words)


def check(words):
    words = [word for word in words if not re.fullmatch(r"[A-Z_]+=\S+", word)]
    program = words[0].removeprefix(".venv/bin/") if words else ""
    if program == "mae-jax" and page_commands.elided(words):
        check_names(words[1:])
    elif program == "mae-jax":
        verb, rest = chosen(words[1:])
        flags.parse(verb, ["mae-jax", *rest])
    elif any(word.startswith("launch/") for word in words):
        at = next(i for i, word in enumerate(words) if word.startswith("launch/"))
        assert (TOP / words[at]).is_file()
        known = verbs()
        check_names(words[next(i for i in range(at, len(words)) if words[i] in known) :])
    elif program == "make":
        for target in words[1:]:
            assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target
    elif program == "pip":
        for extras in re.findall(r"\[(\w+)\]", " ".join(words)):
            assert extras in EXTRAS, extras
    elif program.startswith("python"):
        assert words[1] == "-m" or (TOP / words[1]).is_file(), words[1]


def chosen(words):
    """A verb, or its action, and what follows."""
    verb, rest = verbs()[words[0]], words[1:]
    return verb.chosen(rest) if isinstance(verb, Group) else (verb, rest)


def check_names(words):
    """Verb, flags and keys of a command that cannot be read whole, as it leaves something open."""
    if words[0] in ("VERB", "NAME", "--help") or words[0].startswith("$"):
        return
    verb, rest = chosen(words)
    known = {"help", "config", *(flag.name for flag in (flags.every_flag(verb) if verb else ()))}
    keys = {name for name, _ in all_keys()}
    for word in rest:
        name = word.partition("=")[0].removeprefix("--")
        if word.startswith("--config."):
            assert name.removeprefix("config.") in keys, word
        elif word.startswith("--"):
            assert name in known, word
        elif word.startswith("configs/"):
            assert (TOP / word).is_file(), word
