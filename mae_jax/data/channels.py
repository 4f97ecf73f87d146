"""Mean and deviation of every channel, which images are standardised with."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def channel_statistics(config) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every channel, of pixels in 0 to 1, as the config says."""
    channels, rgb = config.model.channels, config.model.channels == 3
    mean = tuple(config.data.mean) or (IMAGENET_MEAN if rgb else (0.5,))
    std = tuple(config.data.std) or (IMAGENET_STD if rgb else (0.5,))
    return tuple(mean * channels)[:channels], tuple(std * channels)[:channels]
