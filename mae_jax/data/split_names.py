"""What splits are called: as folders, and in the names of shards."""

import re

_SPLITS = {
    "train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval",
    "evaluation", "holdout",
}  # fmt: skip


def is_split(name: str) -> bool:
    """Whether a name is one of a split: train, Val, test2017, …"""
    return re.sub(r"[\W\d_]+$", "", name.casefold()) in _SPLITS


def split_of(path: str) -> str | None:
    """The split of a shard: its folder at the top, or the word for one in its name.

    data/train/000.tar and set-train-00001-of-00004.parquet are of "train".
    """
    *folders, name = path.split("/")
    for folder in folders:
        if is_split(folder):
            return folder
    words = [word for word in re.split(r"[^A-Za-z]+", name.rpartition(".")[0]) if is_split(word)]
    return words[0] if words else None
