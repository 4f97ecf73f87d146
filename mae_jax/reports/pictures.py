"""Pictures inside of a page, small enough that all of it is."""

import base64
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

_BUDGET = 3_000_000  # bytes of all pictures on a page, as they are written there
_MOST = 8
_SIDES = (900, 640, 440, 300)  # pixels: tried in this order
_FEW_COLOURS = 4096


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture of the page.

    Attributes:
      url: `data:`, with all of it.
      width, height: in pixels, as it is shown.
      title: what it shows.
    """

    url: str
    width: int
    height: int
    title: str


def some(paths: Sequence[tuple[str, Path]], notes: list[str]) -> list[Picture]:
    """Pictures of titles and files, spread evenly over what there is, the last among them.

    Args:
      notes: gets a sentence for what is left out.
    """
    chosen, broken = _spread(paths, _MOST), []
    if len(paths) > len(chosen):
        notes.append(f"Of {len(paths)} pictures, {len(chosen)} are on this page")
    for side in _SIDES:
        made = []
        for title, path in chosen:
            try:
                made.append(_picture(title, path, side))
            except Exception as error:  # whatever Pillow says of a file that is torn
                broken.append(f"{path.name} cannot be shown ({type(error).__name__})")
        if sum(len(picture.url) for picture in made) <= _BUDGET:
            break
    notes += dict.fromkeys(broken)
    while sum(len(picture.url) for picture in made) > _BUDGET:
        made.pop(len(made) // 2)
    return made


def _spread(items, most):
    if len(items) <= most:
        return list(items)
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]


def _picture(title, path, side) -> Picture:
    from PIL import Image

    with Image.open(path) as opened:
        opened.load()
        image = opened.convert("RGB")
    if max(image.size) > side:
        image.thumbnail((side, 4 * side), Image.Resampling.LANCZOS)
    found = [_encoded(image, quality=82)]
    if image.getcolors(_FEW_COLOURS):  # enlarged pixels of small images
        found.append(_encoded(image, lossless=True))
    text = base64.b64encode(min(found, key=len)).decode()
    return Picture(f"data:image/webp;base64,{text}", *image.size, title)


def _encoded(image, **options) -> bytes:
    data = io.BytesIO()
    image.save(data, "webp", method=3, **options)
    return data.getvalue()
