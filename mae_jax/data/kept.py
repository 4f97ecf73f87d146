"""What need not be found again about a file: kept in the user's cache folder while it is the same.

Where nothing can be kept, or what is kept is of no use, it is found again.
"""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any


def read(kind: str, place: str, state: Any) -> Any:
    """What was kept of a file in this state, as JSON has it; None where nothing was.

    Args:
      kind: of what is kept; a folder of the cache.
      place: of the file, a path or URL.
      state: anything JSON can hold that changes when the file, or what is kept of it, does.
    """
    try:
        content = json.loads(_path(kind, place).read_text())
        return content["kept"] if content["state"] == state else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(kind: str, place: str, state: Any, content: Any) -> None:
    """Keeps something about a file; arguments as of `read`."""
    path = _path(kind, place)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as making:
            json.dump({"state": state, "kept": content}, making)
        os.replace(making.name, path)
    except OSError:
        pass


def _path(kind: str, place: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "mae_jax" / kind / f"{hashlib.sha256(os.fsencode(place)).hexdigest()}.json"
