"""Pages that repeat what the code says, and links between pages."""

import re
from pathlib import Path

import pytest

from mae_jax.config.page import page

TOP = Path(__file__).parents[1]
PAGES = [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]


def test_the_page_of_config_keys_is_what_the_schema_says():
    text = (TOP / "docs" / "config.md").read_text()
    assert page(text) == text, "make docs writes it anew"


def anchors(path):
    """Of the headings of a page, as its site and GitHub make them."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        place, _, anchor = target.partition("#")
        if "://" in place:
            continue
        page = (path.parent / place).resolve() if place else path
        assert page.exists(), f"{target} of {path.name}"
        assert not anchor or anchor in anchors(page), f"{target} of {path.name}"


def test_every_page_is_in_the_menu():
    menu = re.findall(r"- (\w+\.md)", (TOP / "mkdocs.yml").read_text())
    assert sorted(menu) == sorted(path.name for path in PAGES if path.parent.name == "docs")


def test_files_that_pages_name_are_there():
    named = re.compile(r"`((?:mae_jax|configs|launch|benchmarks|tests)/[\w/.-]+\.\w+)`")
    for path in PAGES:
        for name in named.findall(path.read_text()):
            example = path.name == "extend.md"  # which names files that are to be written
            assert example or (TOP / name).exists(), f"{name} of {path.name}"
