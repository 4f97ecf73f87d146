import pytest
from ml_collections import config_dict

from mae_jax import config as config_lib
from mae_jax.config import schema
from mae_jax.config.architecture import settled_model
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
        ("model.mask_unit", 4, "mask_unit 4 does not divide the 14 x 14 patches of an image"),
        ("model.class_tokens", 0, "model.class_tokens is 0; it must be a whole number at least 1"),
        ("model.mask_unit", 0, "model.mask_unit is 0; it must be a whole number at least 1"),
        ("model.image_size", (225, 224), "image_size 225 is not divisible by patch_size 16"),
        ("model.image_size", (), "model.image_size is ()"),
        ("model.heads", 5, "width 768 is not divisible by heads 5"),
        ("model.width", 30, "width 30 is not divisible by heads 12"),
        ("model.decoder_width", 510, "decoder_width 510 is not divisible by decoder_heads 16"),
        ("model.size", "giant", "model.size is 'giant'; it must be one of tiny, small"),
        ("train.epochs", 0.0, "train.epochs is 0.0; it must be a number above 0"),
        ("train.base_lr", -1.0, "train.base_lr is -1.0"),
        ("train.steps", 5, "exactly one of train.epochs (now 1.0) and train.steps (now 5)"),
        ("data.folder", "x", "exactly one of data.name (now 'mnist'), data.folder (now 'x') and"),
        ("data.mixture", (("a", 0),), "data.mixture is (('a', 0),); it must be a tuple of pairs"),
        ("data.mixture", ("a", "b"), "data.mixture is ('a', 'b'); it must be a tuple of pairs"),
        ("data.max_pixels", 0, "data.max_pixels is 0; it must be a whole number from 1 to"),
        ("data.pixels", "int8", "data.pixels is 'int8'; it must be one of uint8, float32"),
        ("data.mean", (0.5, 0.5), "data.mean (0.5, 0.5) must have one value per channel, 3"),
        ("data.crop_scale", (0.0, 1.0), "data.crop_scale is (0.0, 1.0)"),
        ("data.crop", "centre", "data.crop is 'centre'; it must be one of none, fixed, rando"),
        ("data.color_jitter", 1.5, "data.color_jitter is 1.5; it must be a number from 0 to 1"),
        ("train.accumulate", 3, "data.batch_size 4096 is not divisible by train.accumulate 3"),
        ("data.mean", ("a",), "data.mean is ('a',); it must be a tuple of numbers"),
        ("data.mean", ((0.5,),), "data.mean is ((0.5,),); it must be a tuple of numbers"),
        ("data.std", ("a",), "data.std is ('a',); it must be a tuple of numbers above 0"),
        ("data.crop_scale", (0.5, "x"), "data.crop_scale is (0.5, 'x'); it must be a tuple (low"),
        ("train.beta1", 1.0, "train.beta1 is 1.0; it must be a number at least 0 and below 1"),
        ("train.beta2", 1.0, "train.beta2 is 1.0; it must be a number at least 0 and below 1"),
        ("train.min_lr", 0.01, "train.min_lr 0.01 must be at most the peak of the learning rate"),
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


def test_several_class_tokens_need_one():
    config = valid()
    config.model.class_token, config.model.class_tokens = False, 4
    with pytest.raises(UsageError, match=r"class_tokens 4 needs model.class_token=True, and it is"):
        config_lib.validate(config)


def test_a_config_of_before_a_key_has_its_default():
    before = valid().to_dict()
    del before["model"]["mask_unit"]
    before["model"]["depth"] = 3
    found = config_lib.with_defaults(before)
    # What is unset today, and follows a source, is what every run did then.
    usual = settled_model(valid()).to_dict()
    assert found == valid().to_dict() | {"model": usual | {"depth": 3}}
    assert config_lib.differences(found, found | {"seed": 1}) == {"seed": "seed: 0 -> 1"}


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


def at(name, value):
    """A config with one value put in, whatever its kind."""
    values = valid().to_dict()
    node = values
    for part in name.split(".")[:-1]:
        node = node[part]
    node[name.split(".")[-1]] = value
    return config_dict.ConfigDict(values)


KEYS = dict(schema.all_keys())
ODD = [
    "text", "", -1, 0, 1, 7, 0.5, 1.5, 1e9, float("nan"), -float("inf"), 10**400, True, None, b"x",
    (), (1,), (0, 1), (1, "x"), (None,), ((1,), 2), (float("nan"), 1), (10**400, 1), [0.5, 1],
    {"a": 1}, 1j,
]  # fmt: skip


@pytest.mark.parametrize("name", KEYS)
def test_any_value_of_any_key_is_right_or_one_sentence_that_names_it(name):
    for value in ODD:
        try:
            config_lib.validate(at(name, value))
        except UsageError as error:
            assert name.split(".")[-1] in str(error) and "\n" not in str(error), value


OF_NAMES = ("log.trackers",)
OF_NUMBERS = [name for name, key in KEYS.items() if key.type is tuple and name not in OF_NAMES]


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_what_is_not_a_number_in_a_tuple_is_refused(name):
    for value in ((None,), ("a",), (1, "x"), ((1,), 2), (1, {}), (float("inf"), 1)):
        with pytest.raises(UsageError, match=f"config key {name} is "):
            config_lib.validate(at(name, value))


def test_differences_name_only_what_makes_another_run():
    old, new = valid(), valid()
    new.train.epochs, new.data.workers, new.model.mask_ratio = 2.0, 7, 0.5
    new.model.remat, new.data.name, new.log.every_steps = True, "other", 3
    new.parallel.tensor, new.train.base_lr = 2, 0.5
    assert config_lib.differences(old.to_dict(), new.to_dict()) == {
        "model.mask_ratio": "model.mask_ratio: 0.75 -> 0.5",
        "train.base_lr": "train.base_lr: 0.00015 -> 0.5",
    }


def test_the_source_of_the_encoder_is_the_same_by_another_path(tmp_path):
    old, new = valid(), valid()
    (tmp_path / "link").symlink_to(tmp_path)
    old.init_from, new.init_from = str(tmp_path / "run"), str(tmp_path / "link" / "run")
    assert config_lib.differences(old.to_dict(), new.to_dict()) == {}
    new.init_from = str(tmp_path / "other")
    assert len(config_lib.differences(old.to_dict(), new.to_dict())) == 1


def test_what_may_change_is_in_the_schema_and_has_a_reason():
    sections = {name.split(".")[0] for name in KEYS}
    for name, reason in config_lib.MAY_CHANGE.items():
        assert name in KEYS or name in sections
        assert reason


@pytest.mark.parametrize(
    ("given", "kept"),
    [({"data.folder"}, "data.folder"), ({"data.name", "seed"}, "data.name"), (set(), None),
     ({"data.folder", "data.name"}, None)],
)  # fmt: skip
def test_data_named_on_the_command_line_takes_the_place_of_the_files(given, kept):
    config = valid()
    config.data.folder = "photos"
    said = config_lib.take_given(config, given)
    if kept is None:
        assert not said
        with pytest.raises(UsageError, match="exactly one of data.name"):
            config_lib.validate(config)
        return
    config_lib.validate(config)
    assert len(said) == 1 and said[0].startswith(f"{kept} ")
    assert "takes the place of data." in said[0]
    assert (config.data.folder is None) == (kept == "data.name")


@pytest.mark.parametrize(
    ("file", "given", "holds"),
    [
        ({"epochs": 4.0}, {"steps": 9}, {"epochs": None, "steps": 9}),
        ({"epochs": None, "steps": 9}, {"epochs": 4.0}, {"epochs": 4.0, "steps": None}),
        ({"warmup_steps": 60}, {"warmup_epochs": 2}, {"warmup_epochs": 2.0, "warmup_steps": None}),
        ({"warmup_epochs": 2.5}, {"warmup_steps": 6}, {"warmup_epochs": 2.5, "warmup_steps": 6}),
        ({"settle_steps": 60}, {"settle_epochs": 2}, {"settle_epochs": 2.0, "settle_steps": None}),
        ({}, {"warmup_epochs": 2, "warmup_steps": 6}, {"warmup_epochs": 2.0, "warmup_steps": 6}),
        ({"epochs": None, "steps": 9}, {"steps": 5}, {"epochs": None, "steps": 5}),
        ({"warmup_steps": 60}, {"warmup_epochs": None}, {"warmup_steps": 60}),
    ],
)  # fmt: skip
def test_a_length_that_is_given_takes_the_place_of_the_files(file, given, holds):
    config = valid()
    config.update_from_flattened_dict({f"train.{name}": value for name, value in file.items()})
    config.update_from_flattened_dict(
        {f"train.{name}": value for name, value in given.items() if value is not None}
    )
    said = config_lib.take_given(
        config, [f"train.{name}" for name, value in given.items() if value is not None]
    )
    assert {name: config.train[name] for name in holds} == holds
    unset = [name for name in holds if holds[name] is None and file.get(name) is not None]
    assert [line.split()[6] for line in said] == [f"train.{name}" for name in unset]


def test_every_key_says_what_it_means():
    text = " ".join(config_lib.describe().split())
    for name, key in schema.all_keys():
        assert f"--config.{name}" in text and key.meaning in text
