"""What a user sets takes the place of what a config file sets in another key."""

from collections.abc import Collection

from ml_collections import config_dict

# Two keys for one length; with both of them set, the second of warm-ups and settling would hold.
_LENGTHS = [
    ("train.epochs", "train.steps"),
    ("train.warmup_epochs", "train.warmup_steps"),
    ("train.settle_epochs", "train.settle_steps"),
]


def take_given(config: config_dict.ConfigDict, given: Collection[str]) -> list[str]:
    """Data and lengths of training that are given take the place of what the config names.

    Where both keys of a length are given, nothing is replaced.

    Args:
      config: changed in place.
      given: the keys that the command line sets, to something.

    Returns:
      A sentence for everything that is replaced.
    """
    said = [_take_source(config, given)]
    said += [_take_length(config.train, pair, given) for pair in _LENGTHS]
    return [sentence for sentence in said if sentence]


def _take_source(config, given):
    data = config.data
    ways = {f"data.{name}": name for name in ("name", "folder", "mixture") if data[name]}
    given = [way for way in ways if way in given]
    if len(given) != 1 or len(ways) == 1:
        return None
    (key,) = given
    replaced = []
    for way, name in ways.items():
        if way != key:
            replaced.append(f"{way} {data[name]!r}")
            data[name] = () if name == "mixture" else None
    return f"{key} {data[ways[key]]!r} takes the place of {' and '.join(replaced)} in the config"


def _take_length(train, pair, given):
    given = [key for key in pair if key in given]
    if len(given) != 1:
        return None
    (key,) = given
    (other,) = set(pair) - {key}
    name, unset = key.removeprefix("train."), other.removeprefix("train.")
    before = train[unset]
    if before is None or (unset.endswith("_epochs") and name.endswith("_steps")):
        return None  # steps hold, where they are set, and such epochs are never unset
    train[unset] = None
    return f"{key} {train[name]:g} takes the place of {other} {before:g} in the config"
