"""One trial of a sweep: pre-training, then what is done with its encoder, each once."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from mae_jax import config as config_lib
from mae_jax import hosts, parallel
from mae_jax.config import named, overrides, take_given
from mae_jax.config.architecture import adopt_architecture
from mae_jax.data.progress import say
from mae_jax.errors import Diverged, UsageError
from mae_jax.studies import finetune, study
from mae_jax.studies.grid import Setting
from mae_jax.train import loop, task, watch, workdir
from mae_jax.weights import start, teacher

PRETRAIN, LOSS, KNN = "pretrain", "held-out loss", "kNN"
_RESULT = "result.json"
_SETTINGS_COMPILED = 20  # whose programs are kept in memory at most
_SAME_DATA = ("name", "folder", "mixture")


class Pruned(Exception):
    """A run that a search gave up; says at which step."""


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """What is done with every setting and seed.

    Attributes:
      config: of the pre-training.
      then: configs of what is done with the encoder, by the name of their column.
    """

    config: Any
    then: Mapping[str, Any]
    _met: list[Setting] = dataclasses.field(default_factory=list, init=False)

    def pretraining(self, setting: Setting, seed: int) -> Any:
        """The config of a pre-training; `seed` is counted from the config's.

        Raises:
          UsageError: it starts from a branch of the hub, or learns from one, which may move on
            while others train.
        """
        one = self.config.copy_and_resolve_references()
        overrides.apply(one, setting)
        take_given(one, [name for name, value in setting.items() if value is not None])
        for key, source in (("init_from", one.init_from), ("train.teacher", one.train.teacher)):
            if named.is_name(source) and named.parse(source).commit is None:
                raise UsageError(
                    f"{key} {source!r} may name other weights before all runs have begun; give a "
                    "commit, hf:OWNER/NAME@COMMIT, of 40 digits"
                )
        one.seed = self.config.seed + seed
        return one

    def following(self, name: str, before: Any, encoder: Path, seed: int) -> Any:
        """The config of what is done with an encoder.

        Where it names no data, it is that of the pre-training; draws of few labels go with seeds.

        Args:
          name: of it.
          before: the config of the pre-training.
          encoder: its work folder.
          seed: counted from the config's own.
        """
        one = self.then[name].copy_and_resolve_references()
        if not any(one.data[key] for key in _SAME_DATA):
            for key in (*_SAME_DATA, "labels"):
                one.data[key] = before.data[key]
        if one.data.dir is None:
            one.data.dir = before.data.dir
        one.init_from = str(encoder)
        one.seed += seed
        one.data.label_draw += seed
        return one

    def check(self, all_settings: list[Setting]) -> list[tuple[list[str], Any]]:
        """Makes every setting concrete before the first is begun.

        Returns:
          For each setting the columns that it fills, and the fingerprint of its data.

        Raises:
          UsageError: a setting that cannot work.
        """
        opened: dict[str, Any] = {}
        fitting: set[str] = set()
        teachers: dict[str, Any] = {}  # their arrays are read again by every run

        def prepared(config):
            # Reading what data there is may take long, and many settings share it.
            about = json.dumps([config.data.to_dict(), config.train.objective])
            taught = json.dumps([config.train.teacher, about, config.model.to_dict()])
            if taught not in teachers:
                read = teacher.read(config)
                teachers[taught] = read and read.teacher
            found = task.prepare(
                config,
                jax.device_count(),
                opened.get(about),
                teachers[taught],
                slices=parallel.slices_of(),
            )
            opened[about] = found.train, found.held_out
            return found

        def made(setting):
            one = self.pretraining(setting, 0)
            start.adopt(one)
            first = prepared(one)
            for name in self.then:
                one = self.following(name, first.config, Path(name), 0)
                adopt_architecture(one, first.config.to_dict())
                text = json.dumps(one.to_dict())
                if text not in fitting:
                    if one.data.eval_split is None:
                        raise UsageError(f"--then {name}: data.eval_split is not set")
                    prepared(one)
                    fitting.add(text)
            columns = self._measured(first)
            if not columns:
                raise UsageError(
                    "nothing would be measured: set data.eval_split, for the loss on held-out "
                    "images, or say --then"
                )
            return columns, _as_read(first.train.fingerprint())

        return [hosts.in_turn(lambda setting=setting: made(setting)) for setting in all_settings]

    def _measured(self, first) -> list[str]:
        columns = [] if first.held_out is None else [LOSS]
        columns += [KNN] if watch.has_neighbours(first.config, first.train, first.held_out) else []
        return [*columns, *self.then]

    def measure(
        self,
        setting: Setting,
        seed: int,
        columns: list[str],
        data: Any,
        folder: Path,
        measured: Callable[[int, dict[str, float]], None] | None = None,
    ) -> study.Found:
        """Does in a folder what was not done there yet; what comes to its end is kept.

        Args:
          columns, data: of the setting, as `check` gives them.
          measured: as of `train.loop.run`, of the pre-training; may raise Pruned.

        Returns:
          What was found for every column.
        """
        done = hosts.from_first(lambda: _read(folder, data))
        before = self.pretraining(setting, seed)
        self._make_room(setting)
        if PRETRAIN not in done:
            _say_begun(folder / PRETRAIN)
            done[PRETRAIN] = _pretrain(before, folder / PRETRAIN, measured)
            _keep(folder, data, done)
        for name in self.then:
            if name in done or set(done[PRETRAIN]) & {"diverged", "pruned"}:
                continue
            one = self.following(name, before, folder / PRETRAIN, seed)
            _say_begun(folder / name)
            done[name] = _follow(one, folder / name)
            _keep(folder, data, done)
        return _found(done, columns)

    def _make_room(self, setting) -> None:
        """Compiled programs take memory, and maps of it that a process has only so many of."""
        if setting not in self._met:
            self._met.append(setting)
            if not len(self._met) % _SETTINGS_COMPILED:
                jax.clear_caches()

    def kept(self, columns: list[str], data: Any, folder: Path) -> study.Found | None:
        """What `measure` returned, if it came to its end."""
        done = _read(folder, data)
        return _found(done, columns) if done else None


def _say_begun(where: Path) -> None:
    if hosts.is_first():
        say(f"at {where}")


def forget_diverged(folder: Path) -> None:
    """Lets what diverged in a trial's folder be tried again, from its last checkpoint."""
    path = folder / _RESULT
    if not path.is_file():
        return
    record = json.loads(path.read_text())
    kept = {name: found for name, found in record["done"].items() if "diverged" not in found}
    if kept != record["done"]:
        study.write(path, json.dumps(record | {"done": kept}, indent=1) + "\n")


def _pretrain(config, where, measured):
    start.adopt(config, where)
    try:
        summary = loop.run(
            config,
            where,
            quiet=True,
            read_weights=start.read_weights,
            teacher=teacher.read(config, where),
            measured=measured,
        )
    except Diverged as error:
        return {"diverged": str(error)}
    except Pruned as error:
        return {"pruned": str(error)}
    found = summary["measures"]
    columns = {}
    if "eval_loss" in found:
        columns[LOSS] = {"loss": found.get("eval_ema_loss", found["eval_loss"])}
    if "eval_knn_accuracy" in found:
        columns[KNN] = {"accuracy": found["eval_knn_accuracy"]}
    return columns


def _follow(config, where):
    if workdir.begun(where):  # by another path to the same folder, perhaps
        config.init_from = workdir.read_config(where)["init_from"]
    try:
        return {"accuracy": finetune.accuracy_of(finetune.run(config, where, quiet=True))}
    except Diverged as error:
        return {"diverged": str(error)}


def _found(done, columns) -> study.Found | None:
    """For every column what was found, or why there is nothing; None where something is to do."""
    first = done.get(PRETRAIN)
    if first is None:
        return None
    ended = {reason: first[reason] for reason in ("diverged", "pruned") if reason in first}
    if ended:
        return dict.fromkeys(columns, ended)
    found = first | done
    return {c: found[c] for c in columns} if found.keys() >= set(columns) else None


def _read(folder, data) -> dict[str, Any]:
    try:
        record = json.loads((folder / _RESULT).read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        raise UsageError(
            f"{str(folder / _RESULT)!r} cannot be read; remove it, and the trial is measured again"
        ) from None
    changed = config_lib.changes(record["data"], data)
    if changed:
        raise UsageError(
            f"the data has changed since {str(folder)!r} was measured; give back what there was, "
            "or another --workdir. Different are: " + "; ".join(changed)
        )
    return record["done"]


def _keep(folder, data, done) -> None:
    if hosts.is_first():
        study.write(folder / _RESULT, json.dumps({"data": data, "done": done}, indent=1) + "\n")


def _as_read(value):
    return json.loads(json.dumps(value))
