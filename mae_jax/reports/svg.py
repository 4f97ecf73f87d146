"""Plots as part of an HTML page: no names that clash, and the page's colours and letters."""

import re
import xml.etree.ElementTree as ElementTree

from markupsafe import Markup

# Colours that stay apart for colour-blind eyes (Okabe and Ito 2008). On the page they are
# variables of its style sheet, which has others for dark screens.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b87f00", "#56b4e9", "#6b5b95", "#7f7f7f")
TEXT, GRID = "#111112", "#dddddc"
_ON_PAGE = {colour: f"var(--c{index})" for index, colour in enumerate(COLOURS)} | {
    TEXT: "currentColor",
    GRID: "var(--grid)",
}
_LINKS = re.compile(r"#([\w.-]+)")


def inline(text: str, name: str, label: str) -> Markup:
    """What matplotlib wrote, as an element of an HTML page.

    Args:
      name: the figure's own on the page; what its parts are called begins with it.
      label: what the figure shows, for those who do not see it.
    """
    root = ElementTree.fromstring(text)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    used = set()
    for element in root.iter():
        for key, value in element.attrib.items():
            if key.endswith(("href", "clip-path")):
                used |= set(_LINKS.findall(value))
    for element in root.iter():
        _adapt(element, name, used)
    box = root.get("viewBox")
    root.attrib = {"viewBox": box, "class": "plot", "role": "img", "aria-label": label}
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # written by us alone, escaped


def _adapt(element, name, used):
    element.tag = element.tag.rpartition("}")[2]
    for space in ("text", "tail"):
        if not (getattr(element, space) or "").strip():
            setattr(element, space, None)
    for key in list(element.attrib):
        value = element.attrib.pop(key)
        key = key.rpartition("}")[2]
        if key == "id":
            if value not in used:
                continue
            value = f"{name}-{value}"
        elif key in ("href", "clip-path"):
            value = _LINKS.sub(rf"#{name}-\1", value)
        elif key == "style":
            value = _style(value)
        elif key == "d":
            value = " ".join(value.split())
        if key != "transform" or not value.startswith("rotate(-0 "):
            element.set(key, value)


def _style(text):
    parts = []
    for part in text.split(";"):
        key, _, value = part.partition(":")
        key, value = key.strip(), value.strip()
        if key == "font-family":
            continue  # the page's
        parts.append(f"{key}:{_ON_PAGE.get(value, value)}")
    return ";".join(parts)


def on_page(colour: str) -> str:
    """A colour as the page has it."""
    return _ON_PAGE.get(colour, colour)
