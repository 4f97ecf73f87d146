"""Data sets whose files Debian packages, for machines that cannot download them."""

from pathlib import Path
from typing import Any

# Of a tfds data set: the package, and where it puts the files that tfds would download, with their
# sizes and SHA-256. What they hold is what tfds knows; they are compressed anew, to other bytes.
_PACKAGES = {
    "fashion_mnist": (
        "dataset-fashion-mnist",
        "/usr/share/datasets/fashion-mnist",
        {
            "train-images-idx3-ubyte.gz": (
                26421856,
                "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
            ),
            "train-labels-idx1-ubyte.gz": (
                29491,
                "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
            ),
            "t10k-images-idx3-ubyte.gz": (
                4422079,
                "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
            ),
            "t10k-labels-idx1-ubyte.gz": (
                5125,
                "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
            ),
        },
    )
}


def settings(builder: Any) -> dict[str, Any]:
    """What `download_and_prepare` is told, so that it takes a package's files if they are here.

    Args:
      builder: of tfds.
    """
    if builder.name not in _PACKAGES:
        return {}
    _, folder, files = _PACKAGES[builder.name]
    if not all((Path(folder) / name).is_file() for name in files):
        return {}
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.checksums import UrlInfo

    known = builder.url_infos  # what downloads are verified by, which is kept for these files
    for url, info in list(known.items()):
        if info.filename in files:
            size, checksum = files[info.filename]
            known[url] = UrlInfo(size, checksum, info.filename)
    return {"download_config": tfds.download.DownloadConfig(manual_dir=folder)}


def hint(name: str) -> str:
    """How to have a data set without a download, as the end of a sentence; "" for most."""
    package = _PACKAGES.get(name.partition(":")[0], (None,))[0]
    return f"; or apt install {package}, whose files are taken" if package else ""
