"""Every config key as tables: python -m mae_jax.config.page docs/config.md writes them there."""

import sys
from pathlib import Path

from mae_jax.config.schema import all_keys

_MARK = "<!-- what follows is written by mae_jax/config/page.py -->"


def page(text: str) -> str:
    """A page with the tables below its mark, in the place of what stands there."""
    return "\n".join([text.partition(_MARK)[0] + _MARK, *_tables(), ""])


def _tables():
    section = None
    for name, key in all_keys():
        first, _, last = name.rpartition(".")
        if first != section:
            section = first
            yield f"\n## {section or 'At the top'}\n"
            yield "| key | default | what | range |\n|---|---|---|---|"
        default = "unset" if key.default is None else f"`{key.default!r}`"
        yield f"| `{last}` | {default} | {_cell(key.meaning)} | {_cell(key.range)} |"


def _cell(text):
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(page(path.read_text()))
