"""The verb of docs/extend.md: one file, and it is there."""

import json
import re
import sys
from pathlib import Path

import pytest

from mae_jax import cli, commands
from mae_jax.commands.completion import completion

PAGE = Path(__file__).parents[2] / "docs" / "extend.md"


@pytest.fixture
def added(tmp_path, monkeypatch):
    (code,) = re.findall(r'```python\n("""mae-jax colours.*?)```', PAGE.read_text(), re.DOTALL)
    (tmp_path / "colours.py").write_text(code)
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    commands.verbs.cache_clear()
    yield
    sys.modules.pop("mae_jax.commands.colours", None)
    commands.verbs.cache_clear()


def test_one_file_is_a_verb(added, capsys, photos):
    assert cli.main(["mae-jax", "colours", str(photos), "--count=5", "--json"]) == 0
    measures = json.loads(capsys.readouterr().out)["measures"]
    assert all(0 < measures[name] < 1 for name in ("red", "green", "blue"))
    assert cli.main(["mae-jax", "colours", str(photos), "--count=0"]) == 2
    assert "--count=0 must be at least 1" in capsys.readouterr().err
    for line, words in (("--help", "  colours  "), ("colours --help", "--count=N")):
        assert cli.main(["mae-jax", *line.split()]) == 0
        assert words in capsys.readouterr().out
    assert '"colours") echo "--count=' in completion("bash")["script"]
