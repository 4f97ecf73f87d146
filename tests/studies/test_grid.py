import pytest

from mae_jax.errors import UsageError
from mae_jax.studies import grid
from mae_jax.studies.grid import Range


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("model.mask_ratio=.9,.1,1", (0.9, 0.1, 1.0)),
        ("model.norm_pix=True,False", (True, False)),
        ("data.crop_scale=(0.2,1.0),(0.5,1.0)", ((0.2, 1.0), (0.5, 1.0))),
        ("model.patch_size=2,4", ((2,), (4,))),
        ("model.decoder_depth=None,2", (None, 2)),
        ("data.split=train[:50%],'a,b'", ("train[:50%]", "a,b")),
        ("train.base_lr=1e-4..1e-2:log", Range(1e-4, 1e-2, log=True)),
        ("model.depth=2..8", Range(2, 8)),
        ("data.folder=../a,b..c", ("../a", "b..c")),
    ],
)
def test_values_are_read_as_those_of_flags(text, values):
    assert grid.read(text) == (text.partition("=")[0], values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model.mask_rati=.1", "'model.mask_rati' is unknown; did you mean 'model.mask_ratio'"),
        ("model.mask_ratio", "values are missing"),
        ("model.mask_ratio=", "values are missing"),
        ("model.mask_ratio=.1,,.2", "--grid model.mask_ratio=.1,,.2 must be a number from 0.0"),
        ("model.depth=2.5", "must be a whole number at least 1"),
        ("model.depth=2..x", "must be a whole number at least 1"),
        ("model.depth=2..8:lin", "LOW..HIGH:log"),
        ("data.flip=None", "must have a value"),
        ("seed=1,2", "--seeds is"),
        ("train.objective=probe", "--then is"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(text, said):
    with pytest.raises(UsageError, match="^[^\n]*$") as error:
        grid.read(text)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model.mask_ratio": [1.5]}, "model.mask_ratio is 1.5; it must be a number from 0.0"),
        ({"model.mask_ratio": [0.5, 0.50]}, "has the value 0.5 twice"),
        ({"model.mask_ratio": []}, "has no values"),
        ({"model.mask_ratio": Range(0.1, 0.9)}, "needs --search"),
        ({"model.norm_pix": [1]}, "model.norm_pix is 1"),
    ],
)
def test_values_fit_the_schema(given, said):
    with pytest.raises(UsageError) as error:
        grid.checked(given)
    assert said in str(error.value)


@pytest.mark.parametrize("space", [Range(0.9, 0.1), Range(0.0, 0.5, log=True), Range(0.1, 1.1)])
def test_ranges_fit_the_schema(space):
    with pytest.raises(UsageError):
        grid.checked({"model.mask_ratio": space}, ranges=True)


def test_a_grid_does_not_depend_on_how_it_was_given():
    one = grid.checked({"model.norm_pix": (True, False), "model.mask_ratio": (1, 0.25)})
    other = grid.checked({"model.mask_ratio": [0.25, 1.0], "model.norm_pix": [False, True]})
    assert list(one.items()) == list(other.items())
    assert [grid.name(setting) for setting in grid.settings(one)] == [
        "mask_ratio=0.25,norm_pix=False", "mask_ratio=0.25,norm_pix=True",
        "mask_ratio=1.0,norm_pix=False", "mask_ratio=1.0,norm_pix=True",
    ]  # fmt: skip
    assert list(grid.settings({})) == [{}] and grid.name({}) == "base"


def test_names_are_folders_anywhere_and_never_the_same():
    texts = ["a", "A", "none", "../..", "a/b", "a\\b", "a:b", "été", "e*?", "x" * 300, "x" * 301,
             "", "a ", "a.", "con", "-", "\n", "\x00"]  # fmt: skip
    values = [*texts, None, (0.2, 1.0), (0.21, 0.0), (("a", 1.0), ("b/c", 2.0)), 0.75, 1e-5, 3]
    names = [grid.name({"data.split": value}) for value in values]
    assert len({name.lower() for name in names}) == len(values)
    for name in names:
        assert not set(name) & set('/\\:*?"<>|\n\x00 ') and len(name) <= 100 and name.isascii()
    assert grid.name({"data.crop_scale": (0.2, 1.0)}) == "crop_scale=0.2_1.0"
    long = {f"a.key{i}": "value" for i in range(30)}
    assert len(grid.name(long)) == 100 and grid.name(long) != grid.name(long | {"a.key29": "b"})
