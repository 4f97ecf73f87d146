"""The command line as a user meets it: in a process of its own."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from mae_jax import cli, errors
from mae_jax import config as config_lib
from mae_jax.commands import finetune, pretrain, verbs
from mae_jax.commands.flags import NOT_ARGUMENTS, TYPED, every_flag, parse
from mae_jax.commands.verb import Group
from mae_jax.config import schema
from mae_jax.errors import UsageError
from mae_jax.planning import bench
from mae_jax.train import host_memory, loop

DIGITS = "--config=configs/digits.py"


def call(capsys, *arguments):
    code = cli.main(["mae-jax", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def flags(tfds_dir, tmp_path):
    small = [
        "model.width=16", "model.heads=2", "model.depth=1", "model.decoder_width=16",
        "model.decoder_depth=1", "model.decoder_heads=2", "data.batch_size=16",
        "data.split=train[:100]", "data.eval_split=test[:13]", "train.epochs=1",
        "train.warmup_epochs=0.1", "log.tensorboard=False", f"data.dir={tfds_dir}",
    ]  # fmt: skip
    return [*(f"--config.{setting}" for setting in small), f"--workdir={tmp_path / 'run'}"]


def test_help(capsys):
    for arguments in (["--help"], [], ["pretrain", "--help"]):
        code, out, _ = call(capsys, *arguments)
        assert code == 0 and "mae-jax pretrain --config=" in out
    assert "--config.model.mask_ratio [0.75]" in out
    assert call(capsys, "--version")[1].startswith("mae_jax 0.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["trian"],
            "verb 'trian' is unknown; known are pretrain, finetune, probe, sweep, diagnose, ",
        ),
        (["pretrain", "--workdir=w"], "--config is missing"),
        (["pretrain", DIGITS], "--workdir is missing"),
        (
            ["pretrain", DIGITS, "--workdir=gs://b/run"],
            "--workdir 'gs://b/run' is a URL and must be a path; mount the bucket .gcsfuse .* b F",
        ),
        (["embed", "w", "--out=s3://b/f.npz"], "--out 's3://b/f.npz' is a URL.*.s3fs b FOLDER.*"),
        (
            ["pretrain", "--config=no.yaml", "--workdir=w"],
            "config 'no.yaml' is not Python; it must",
        ),
        (["pretrain", "--config", "no.json", "--workdir=w"], "config 'no.json' is not Python; it"),
        (["pretrain", "--config=no.py", "--workdir=w"], "config 'no.py' does not exist; give"),
        (["probe", DIGITS, "a", "--workdir=w"], "--workdir trains one probe"),
        (["probe", DIGITS], "--out is missing; or --workdir"),
        (["probe", DIGITS, "--out=o"], "SOURCE is missing"),
        (["probe", DIGITS, "--workdir=w"], "train.objective is 'reconstruct'; .*'probe'"),
        (["probe", DIGITS, "nowhere", "--out=o", "--methods=svm"], "method 'svm' is unknown"),
        (["evaluate", DIGITS], "SOURCE is missing"),
        (["evaluate", "nowhere"], "--config is missing"),
        (["evaluate", "nowhere", DIGITS], "'nowhere' does not exist"),
        (
            ["finetune", "--config=configs/digits_finetune.py", "--workdir=w", "--labels=ten"],
            "--labels: 'ten' is not a number",
        ),
        (["finetune", DIGITS, "--workdir=w"], "train.objective is 'reconstruct'; .*'classify'"),
    ],
)
def test_commands_that_are_wrong(capsys, arguments, message):
    code, out, err = call(capsys, *arguments)
    assert code == 2 and out == ""
    assert_one_sentence(err, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--config.model.mask_ration=0.5", "'model.mask_ration' is unknown; .*'model.mask_ratio'"),
        ("--config.model.mask_ratio=0.99", "must leave at least one patch visible"),
        ("--config.model.mask_ratio=0", "must leave at least one patch visible and one hidden"),
        ("--config.model.mask_ratio=much", "--config.model.mask_ratio=much"),
        ("--config.model.image_size=(9,8)", "image_size 9 is not divisible by patch_size 2"),
        ("--config.model.width=15", "width 15 is not divisible by heads 2"),
        ("--config.model.width=6", "width 6 is not divisible by 4"),
        ("--config.data.batch_size=12", "12 is not divisible by 8 devices"),
        ("--config.data.name=digitz", "'digitz' is not a tfds data set"),
        ("--config.data.split=validation", "split 'validation' is unknown; known are test, train"),
        ("--config.data.eval_split=all[", "split 'all\\[' is unknown"),
        ("--config.train.epochs=-1", "train.epochs is -1.0; it must be a number above 0"),
        ("--config.init_from=nowhere", "init_from 'nowhere' does not exist"),
        ("--nonsense", "nonsense"),
        ("stray", "'stray' is not a flag"),
    ],
)
def test_mistakes_create_nothing(capsys, flags, tmp_path, change, message):
    code, out, err = call(capsys, "pretrain", DIGITS, *flags, change)
    assert code == 2 and out == ""
    assert_one_sentence(err, message)
    assert not (tmp_path / "run").exists()


def test_folder_mistakes_create_nothing(capsys, tmp_path):
    run, empty = tmp_path / "run", tmp_path / "empty"
    empty.mkdir()
    for folder, message in (
        (tmp_path / "no", "is neither a folder nor a file"),
        (empty, "has no images"),
    ):
        code, _, err = call(
            capsys, "pretrain", "--config=configs/folder.py", f"--config.data.folder={folder}",
            f"--workdir={run}",
        )  # fmt: skip
        assert code == 2
        assert_one_sentence(err, message)
    assert not run.exists()


@pytest.mark.parametrize("name", ["config.yaml", "config.json", "config"])
def test_a_config_that_is_not_called_python_is_not_run(capsys, tmp_path, name):
    program = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    (tmp_path / name).write_text(program)
    (tmp_path / "config.py").write_text(program)
    for given, ran in ((name, False), ("config.py", True)):
        arguments = ["pretrain", f"--config={tmp_path / given}", f"--workdir={tmp_path / 'run'}"]
        assert cli.main(["mae-jax", *arguments]) == 2
        assert (tmp_path / "ran").exists() == ran
    assert "is not Python" in capsys.readouterr().err


def test_a_config_file_with_a_typo(capsys, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from mae_jax.config import default_config\n"
        "def get_config():\n    c = default_config()\n    c.train.epoch = 3\n    return c\n"
    )
    code, _, err = call(capsys, "pretrain", f"--config={path}", f"--workdir={tmp_path / 'w'}")
    assert code == 2
    assert_one_sentence(err, "config key 'epoch' is unknown; did you mean 'train.epochs'")
    path.write_text("def get_config():\n    return undefined\n")
    code, _, err = call(capsys, "pretrain", f"--config={path}", f"--workdir={tmp_path / 'w'}")
    assert code == 2
    assert_one_sentence(err, "NameError")


@pytest.mark.slow
def test_pretrain_then_finetune_in_processes(flags, tmp_path):
    def mae_jax(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "mae_jax.cli", *arguments],
            env=os.environ, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    out = mae_jax("pretrain", DIGITS, *flags)
    for name in ("panel", "metrics", "checkpoint", "eval loss"):
        assert name in out
    tuned = tmp_path / "tuned"
    shared = [f for f in flags if "workdir" not in f and "epochs" not in f and "split" not in f]
    arguments = [
        "finetune", "--config=configs/digits_finetune.py", *shared,
        f"--config.init_from={tmp_path / 'run'}", f"--workdir={tuned}",
        "--config.data.labels_per_class=2", "--config.data.eval_split=test[:50]",
        "--config.train.steps=2", "--config.train.warmup_steps=1",
    ]  # fmt: skip
    result = json.loads(mae_jax(*arguments, "--draws=2", "--baselines", "--json"))
    assert [row["method"] for row in result["accuracy"]] == ["pretrained", "scratch", "pixels"]
    for row in result["accuracy"]:
        assert len(row["accuracies"]) == 2 and 0 <= row["mean"] <= 1
    assert (tuned / "comparison.json").is_file()
    again = ["--config=configs/digits_finetune.py", *(f for f in shared if "data.dir" in f)]
    out = mae_jax("evaluate", str(tuned / "pretrained-0"), *again, "--json")
    assert json.loads(out)["images"] == 360
    out = mae_jax(
        "probe", str(tmp_path / "run"), str(tuned / "pretrained-1"), *again, "--methods=knn",
        f"--out={tmp_path / 'probe'}",
    )  # fmt: skip
    assert "| run | " in out and "| pretrained-1 | " in out and "comparison.md" in out
    assert (tuned / "pretrained-1" / "config.json").is_file()


def assert_one_sentence(text, message):
    import re

    ours = [line for line in text.splitlines() if line.startswith("mae-jax: ")]
    assert len(ours) == 1 and re.search(message, ours[0]), text
    assert "Traceback" not in text


@pytest.mark.parametrize("verb", ["pretrain", "bench"])
def test_verbs_that_train_keep_their_memory(verb, capsys, monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(host_memory, "keep", lambda: called.append("keep"))
    monkeypatch.setattr(loop, "run", lambda *args, **options: called.append("train") or {})
    monkeypatch.setattr(bench, "bench", lambda config, steps: called.append("train") or {})
    folder = [f"--workdir={tmp_path}"] if verb == "pretrain" else []
    assert call(capsys, verb, DIGITS, *folder, "--json")[0] == 0
    assert called == ["keep", "train"]


def every_verb():
    for verb in verbs().values():
        yield from verb.actions if isinstance(verb, Group) else (verb,)


@pytest.mark.parametrize("verb", list(every_verb()), ids=lambda verb: verb.name)
def test_help_of_a_verb_is_about_it(capsys, verb):
    code, out, _ = call(capsys, *verb.name.split(), "--help")
    assert code == 0 and out.startswith(f"mae-jax {verb.name}: {verb.summary}")
    for flag in verb.flags:
        assert f"--{flag.name}" in out or f"--[no]{flag.name}" in out
    others = [other for other in verbs() if other not in (verb.name.split()[0], "pretrain")]
    assert not any(f"  mae-jax {other} " in out for other in others)
    assert ("--config.data.label_draw [0]" in out) == (verb.name == "pretrain")
    *group, name = verb.name.split()
    assert f"\n  {name} " in call(capsys, *group, "--help")[1]
    assert f"mae-jax {verb.name} {verb.example}"[:60] in out.replace(" \\\n     ", "")


def test_every_argument_of_a_verb_has_a_flag_and_every_flag_an_argument():
    for verb in every_verb():
        said = {flag.name for flag in every_flag(verb)} - set(NOT_ARGUMENTS)
        said |= {positional.name for positional in verb.positionals}
        said |= {"config"} if verb.config else set()
        assert verb.arguments.keys() - said <= {"quiet", "overrides", TYPED}, verb.name
        assert said <= verb.arguments.keys(), verb.name


def test_defaults_and_kinds_of_flags_are_those_of_the_arguments():
    verb = verbs()["embed"]
    kinds = {flag.name: verb.type(flag) for flag in verb.flags}
    assert (
        kinds["heads"] is int
        and kinds["step"] is str
        and kinds["norm_pix"] is bool
        and kinds["image_size"] is str
    )
    assert verb.default("output") == "mean" and verb.needed == ["source", "out"]
    values = parse(verb, ["mae-jax", "runs", "--out=x.npz", "--image_size=48x64", "--nonorm_pix"])
    assert values == {
        "source": "runs", "out": "x.npz", "image_size": (48, 64), "norm_pix": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "key", "value"),
    [
        (["train.epochs=None", "train.steps=3"], "train.epochs", None),
        (["data.name=None", "data.folder=x"], "data.name", None),
        (["model.width=None"], "model.width", None),
        (["model.width=None", "model.width=32"], "model.width", 32),
        (["model.width=32", "model.width=None"], "model.width", None),
        (["model.width=None", "model.width=None"], "model.width", None),
        (["data.mean=(0.5,)"], "data.mean", (0.5,)),
        (["data.mean=0.5"], "data.mean", (0.5,)),
        (["data.mean=0.1", "data.mean=0.2"], "data.mean", (0.1, 0.2)),
        (["model.image_size=(8,8)", "model.image_size=(4,4)"], "model.image_size", (4, 4)),
        (["model.patch_size=(4,4)", "model.patch_size=None"], "model.patch_size", None),
    ],
)
def test_keys_that_may_be_empty_can_be_unset(changes, key, value):
    flags = [f"--config.{change}" for change in changes]
    section, name = key.split(".")
    apart = [word for flag in flags for word in flag.split("=")]
    for line in ([DIGITS, *flags], [*flags, DIGITS], [DIGITS, *apart]):
        config = parse(verbs()["pretrain"], ["mae-jax", *line, "--workdir=w"])["config"]
        assert config[section][name] == value


def test_every_key_that_may_be_empty_can_be_unset():
    for name, key in schema.all_keys():
        said = ["mae-jax", DIGITS, "--workdir=w", f"--config.{name}=None"]
        if key.default is None:
            config = parse(verbs()["pretrain"], said)["config"]
            assert config_lib.flatten(config.to_dict())[name] is None
        else:
            with pytest.raises(UsageError, match=f"config.{name}=None: this key must have a value"):
                parse(verbs()["pretrain"], said)


def test_switches_among_the_keys():
    line = ["mae-jax", DIGITS, "--workdir=w", "--config.data.flip", "--noconfig.model.norm_pix"]
    config = parse(verbs()["pretrain"], line)["config"]
    assert config.data.flip and not config.model.norm_pix


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seed=None", "--config.seed=None: this key must have a value, a whole number from 0 to"),
        ("model.width=1.5", "--config.model.width=1.5 must be a whole number at least 1"),
        ("data.flip=5", "--config.data.flip=5 must be True or False"),
        ("data.std=x", "data.std is \\('x',\\); it must be a tuple"),
        ("data.std=(1,'x')", "data.std is \\(1, 'x'\\); it must be a tuple"),
        ("data.crop_scale=(1", "data.crop_scale"),
        ("model.image_size=8.5", "model.image_size is \\(8.5,\\); it must be a tuple of one side"),
        ("data.crop_ratio=x", "data.crop_ratio"),
        ("data.crop_scale=0.5", "data.crop_scale"),
    ],
)
def test_values_of_the_wrong_kind(capsys, tmp_path, change, message):
    code, _, err = call(capsys, "pretrain", DIGITS, f"--workdir={tmp_path}", f"--config.{change}")
    assert code == 2
    assert_one_sentence(err, message)


def test_keys_without_a_file(capsys, tmp_path):
    rng = np.random.default_rng(0)
    for index in range(3):
        np.save(tmp_path / f"{index}.npy", rng.normal(280, 12, (8, 8)).astype(np.float32))
    arguments = ["--config.model.channels=1", "--config.data.pixels=float32", "--json"]
    code, out, err = call(capsys, "data", "stats", str(tmp_path), *arguments)
    assert code == 0 and json.loads(out)["mean"][0] == pytest.approx(280, abs=3), err
    code, out, err = call(capsys, "data", "check", str(tmp_path), *arguments)
    assert code == 0 and json.loads(out)["records"] == 3, err
    code, _, err = call(capsys, "data", "stats", str(tmp_path), "--config.data.name=mnist")
    assert code == 2
    assert_one_sentence(err, "exactly one of FOLDER and a --config that names data")
    code, _, err = call(capsys, "embed", "x", "--out=x.npz", "--images=y", "--config.seed=1")
    assert code == 2
    assert_one_sentence(err, "--config.seed changes a config, and --config=FILE is missing")


def test_verbs_are_functions_that_can_be_called_again(tmp_path, digits_config):
    digits_config.train.steps = 1
    given = digits_config.to_json()
    for folder in ("a", "b"):
        result = pretrain.pretrain(digits_config, tmp_path / folder, quiet=True)
        assert result["steps"] == 1 and digits_config.to_json() == given
    with pytest.raises(UsageError, match="train.objective is 'reconstruct'; .*'classify'"):
        finetune.finetune("configs/digits.py", tmp_path / "c")
    with pytest.raises(UsageError, match="'no.py' does not exist"):
        pretrain.pretrain("no.py", tmp_path / "c")


def test_a_reader_that_has_read_enough_is_no_error():
    program = f"{sys.executable} -m mae_jax.cli pretrain --help | head -1"
    done = subprocess.run(program, shell=True, capture_output=True, text=True)
    assert done.stdout.startswith("mae-jax pretrain") and done.stderr == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NoUsableCheckpoint, 4),
        (errors.Diverged, 5),
        (errors.NoSpace, 6),
        (errors.Preempted, 42),
        (errors.Corrupted, 44),
    ],
)
def test_every_way_a_run_ends_has_its_code(capsys, monkeypatch, tmp_path, error, code):
    def ends(*args, **options):
        raise error("it ended")

    monkeypatch.setattr(loop, "run", ends)
    monkeypatch.setattr(host_memory, "keep", lambda: None)
    found, _, err = call(capsys, "pretrain", DIGITS, f"--workdir={tmp_path}")
    assert found == code
    assert_one_sentence(err, "it ended")


@pytest.mark.parametrize("returned", ["", "return {}"])
def test_a_config_file_that_returns_none_of_ours(tmp_path, capsys, returned):
    path = tmp_path / "mine.py"
    path.write_text(f"def get_config():\n    config = 1\n    {returned}\n")
    code, _, err = call(capsys, "pretrain", f"--config={path}", f"--workdir={tmp_path / 'run'}")
    assert code == 2
    assert_one_sentence(err.splitlines()[-1], "it must return what mae_jax.config.default_config()")
