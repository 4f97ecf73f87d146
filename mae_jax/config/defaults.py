"""The config file behind commands that set keys without one."""

from mae_jax.config.reading import default_config


def get_config():
    return default_config()
