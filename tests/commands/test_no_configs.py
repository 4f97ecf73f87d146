"""Config files that give no config, from Python and on the command line; and full disks there."""

import errno

import pytest

from mae_jax import cli, errors
from mae_jax.commands import configs
from mae_jax.train import host_memory, loop


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def config(): ...", "has no get_config"),
        ("def get_config(): return 3", "returns int; it must return what mae_jax.config.default"),
        (
            "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict({'a': 1})",
            "returns a config without 'checkpoint'; it must return what mae_jax.config.default",
        ),
        ("def get_config(:", "cannot be used: SyntaxError: invalid syntax"),
        (
            "from mae_jax.config import default_config\n"
            "def get_config():\n    c = default_config()\n    c.train.epoch = 3\n    return c",
            "config key 'epoch' is unknown; did you mean 'train.epochs'?",
        ),
    ],
)
def test_what_is_no_config(tmp_path, capsys, text, said):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(errors.UsageError) as error:
        configs.read(path)
    assert said in str(error.value)
    assert cli.main(["mae-jax", "pretrain", f"--config={path}", f"--workdir={tmp_path}/w"]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_a_full_disk_has_its_code_whatever_the_verb_writes(tmp_path, capsys, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device", "made.npz")

    monkeypatch.setattr(loop, "run", full)
    monkeypatch.setattr(host_memory, "keep", lambda: None)
    arguments = ["pretrain", "--config=configs/digits.py", f"--workdir={tmp_path}/w"]
    assert cli.main(["mae-jax", *arguments]) == errors.NoSpace.exit_code == 6
    assert "no space is left for 'made.npz'; make room" in capsys.readouterr().err
