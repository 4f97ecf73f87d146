"""How many images and classes a job has, without opening data that is well known."""

from typing import NamedTuple

from mae_jax.errors import UsageError


class Data(NamedTuple):
    """What an epoch has.

    Attributes:
      images: to work on.
      classes: that they are told apart by; 0 where nothing asks for them.
    """

    images: int
    classes: int = 0


# The training images of data sets that people plan for before they have them.
_KNOWN = {
    "imagenet2012": Data(1_281_167, 1000),
    "places365_small": Data(1_803_460, 365),
    "i_naturalist2018": Data(437_513, 8142),
}


def counted(config, images: int | None = None, classes: int | None = None) -> Data:
    """What the config's training images are.

    Args:
      config: see `mae_jax.config`.
      images: how many; None asks the data.
      classes: how many, as a classifier needs to know; None asks the data.

    Raises:
      UsageError: they cannot be counted, or are below 1.
    """
    for flag, value in (("--images", images), ("--classes", classes)):
        if value is not None and value < 1:
            raise UsageError(f"{flag} {value} must be at least 1")
    told = config.train.objective in ("classify", "probe")
    known = Data(images or 0, classes or 0)
    if images is None or (told and classes is None):
        known = _asked(config, told)
    of_each = classes if classes is not None else known.classes
    if told and not of_each:
        raise UsageError(
            f"--classes=N, how many there are to tell apart, is needed: {config.data.name!r} "
            "has no labels"
        )
    return Data(known.images if images is None else images, of_each if told else 0)


def _asked(config, told) -> Data:
    few = config.data.labels_per_class or config.data.labels_share
    if config.data.split == "train" and config.data.name in _KNOWN and not few:
        return _KNOWN[config.data.name]
    from mae_jax.data import few as few_lib
    from mae_jax.data import sources

    try:
        source = sources.open_source(config.data, config.data.split)
        if told:
            source = few_lib.few_labels(sources.labelled(source), config.data)
        return Data(len(source), len(source.classes or ()))
    except UsageError as error:
        needed = "--images=N and --classes=N" if told else "--images=N"
        raise UsageError(
            f"{needed}, how many there are to train on, {'are' if told else 'is'} needed: {error}"
        ) from None
