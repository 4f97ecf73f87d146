import pytest

from mae_jax import config as config_lib
from mae_jax.config import schema
from mae_jax.config.cross_checks import check_batch
from mae_jax.errors import UsageError


def valid():
    config = config_lib.default_config()
    config.data.name, config.train.epochs = "mnist", 1.0
    return config


def test_the_defaults_are_valid_but_for_what_must_be_chosen():
    config_lib.validate(valid())


def test_unknown_keys_are_refused_inside_a_config_file_too():
    config = valid()
    for section in (config, config.model, config.data, config.train):
        with pytest.raises(AttributeError):
            section.mask_ration = 0.5


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.mask_ratio", 1.7, "model.mask_ratio is 1.7; it must be a number from 0.0 to 1.0"),
        ("model.mask_ratio", 0.999, "mask_ratio 0.999 must leave at least one patch visible"),
        ("model.mask_ratio", 0.0, "mask_ratio 0.0 must leave"),
        ("model.mask_ratio", float("nan"), "model.mask_ratio is nan"),
        ("model.image_size", (225, 224), "image_size 225 is not divisible by patch_size 16"),
        ("model.image_size", (), "model.image_size is ()"),
        ("model.heads", 5, "width 768 is not divisible by heads 5"),
        ("model.width", 30, "width 30 is not divisible by heads 12"),
        ("model.decoder_width", 510, "decoder_width 510 is not divisible by decoder_heads 16"),
        ("model.size", "giant", "model.size is 'giant'; it must be text one of tiny, small"),
        ("train.epochs", 0.0, "train.epochs is 0.0; it must be a number above 0"),
        ("train.base_lr", -1.0, "train.base_lr is -1.0"),
        ("train.steps", 5, "exactly one of train.epochs (now 1.0) and train.steps (now 5)"),
        ("data.folder", "x", "exactly one of data.name (now 'mnist'), data.folder (now 'x') and"),
        ("data.mixture", (("a", 0),), "data.mixture is (('a', 0),); it must be a tuple of pairs"),
        ("data.mixture", ("a", "b"), "data.mixture is ('a', 'b'); it must be a tuple of pairs"),
        ("data.max_pixels", 0, "data.max_pixels is 0; it must be a whole number from 1 to"),
        ("data.pixels", "int8", "data.pixels is 'int8'; it must be text one of uint8, float32"),
        ("data.mean", (0.5, 0.5), "data.mean (0.5, 0.5) must have one value per channel, 3"),
        ("data.crop_scale", (0.0, 1.0), "data.crop_scale is (0.0, 1.0)"),
        ("train.accumulate", 3, "data.batch_size 4096 is not divisible by train.accumulate 3"),
        ("seed", -1, "seed is -1; it must be a whole number from 0 to"),
    ],
)
def test_wrong_values_say_what_is_right(key, value, message):
    config = valid()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UsageError) as error:
        config_lib.validate(config)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("model.mask_ration", "model.mask_ratio"),
        ("mask_ratio", "model.mask_ratio"),
        ("train.epoch", "train.epochs"),
        ("trian.base_lr", "train.base_lr"),
        ("sed", "seed"),
    ],
)
def test_typos_get_the_nearest_name(typo, meant):
    assert config_lib.nearest(typo) == meant


def test_batches_must_divide_by_devices():
    check_batch(24, 8, 1)
    with pytest.raises(UsageError, match="12 is not divisible by 8 devices; the nearest .* 8 or"):
        check_batch(12, 8, 1)
    with pytest.raises(UsageError, match=r"times train\.accumulate 2"):
        check_batch(24, 8, 2)


def test_differences_name_only_what_makes_another_run():
    old, new = valid(), valid()
    new.train.epochs, new.data.workers, new.model.mask_ratio = 2.0, 7, 0.5
    assert config_lib.differences(old.to_dict(), new.to_dict()) == [
        "model.mask_ratio: 0.75 -> 0.5",
        "train.epochs: 1.0 -> 2.0",
    ]


def test_every_key_says_what_it_means():
    text = config_lib.describe()
    for name, key in schema.all_keys():
        assert f"--config.{name}" in text and key.meaning in text
