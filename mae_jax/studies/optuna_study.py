"""What a search asks of Optuna: a study that several processes share, and settings."""

import contextlib
import hashlib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

from mae_jax.errors import UsageError
from mae_jax.studies import claims, grid

_JOURNAL = "search.journal"


def check() -> None:
    """Raises UsageError where there is no Optuna."""
    if importlib.util.find_spec("optuna") is None:
        raise UsageError("--search needs Optuna; pip install 'mae_jax[search]'")


def resumed(study, trial):
    """A trial that another process began, to go on with."""
    import optuna

    return optuna.trial.Trial(study, trial._trial_id)


def tell(trial, found: dict[str, Any]) -> None:
    """Ends a trial with what was found: an accuracy, a loss, or why there is none."""
    from optuna.trial import TrialState

    value, state = found.get("accuracy", found.get("loss")), TrialState.COMPLETE
    if value is None:
        state = TrialState.PRUNED if "pruned" in found else TrialState.FAIL
    trial.study.tell(trial.number, value, state=state)


def hopeless(trial, step: int, value: float) -> bool:
    """Whether Optuna gives a trial up by a value of it, as good as the study's goal is defined."""
    stored = trial.storage.get_trial(trial._trial_id)
    if step not in stored.intermediate_values:  # it was told before the process was killed
        trial.report(value, step)
    return trial.should_prune()


def suggested(trial, name, values):
    """The value of a key that Optuna chooses for a trial, of a `Range` or a tuple."""
    if not isinstance(values, grid.Range):
        plain = all(v is None or isinstance(v, bool | int | float | str) for v in values)
        if plain:
            return trial.suggest_categorical(name, values)
        shown = {grid.shown(value): value for value in values}
        return shown[trial.suggest_categorical(name, list(shown))]
    suggest = trial.suggest_int if isinstance(values.low, int) else trial.suggest_float
    return suggest(name, values.low, values.high, log=values.log)


def opened(url: str | None, folder: Path, agreed: dict[str, Any], seed: int, *, maximise: bool):
    """Optuna's study of a sweep, the same for all processes with the same storage.

    Args:
      url: of a database, or grpc://HOST:PORT; by default a file in the folder.
      agreed: what the sweep is; see `agreement`.
      seed: decides which settings are chosen.

    Raises:
      UsageError: the storage cannot be used.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    about = json.dumps([agreed[name] for name in ("config", "grid", "then")], sort_keys=True)
    name = f"mae_jax-{hashlib.sha256(about.encode()).hexdigest()[:12]}"
    try:
        return optuna.create_study(
            storage=_storage(url, folder),
            study_name=name,
            direction="maximize" if maximise else "minimize",
            sampler=_sampler(seed),
            pruner=optuna.pruners.MedianPruner(),
            load_if_exists=True,
        )
    except Exception as error:  # whatever drivers of databases raise
        if url is None:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        shown = re.sub("://[^@/]*@", "://…@", url)  # without a password
        raise UsageError(f"--storage={shown} cannot be used: {reason}") from error


def _storage(url, folder):
    import optuna

    if url is None:
        path = str(folder / _JOURNAL)
        backend = optuna.storages.journal.JournalFileBackend(path, lock_obj=_Lock(folder))
        return optuna.storages.JournalStorage(backend)
    if url.startswith("grpc://"):
        host, _, port = url.removeprefix("grpc://").rstrip("/").rpartition(":")
        proxy = optuna.storages.GrpcStorageProxy(host=host, port=int(port))
        proxy.wait_server_ready(timeout=60)
        return proxy
    return url


def in_folder(study) -> bool:
    """Whether its storage is the file in the sweep's folder."""
    import optuna

    return isinstance(study._storage, optuna.storages.JournalStorage)


class _Lock:
    """Of the journal, for Optuna: the kernel's, which a killed process does not leave behind."""

    def __init__(self, folder: Path):
        self._path, self._held = folder / ".journal", None

    def acquire(self) -> bool:
        self._held = contextlib.ExitStack()
        self._held.enter_context(claims.waiting(self._path))
        return True

    def release(self) -> None:
        self._held.close()


def _sampler(seed: int):
    """Optuna's TPE, whose random numbers are a function of the trial's number and the key alone:
    a search that was stopped goes on as if it had not been, and several processes do not begin
    with the same settings.
    """
    import optuna

    class Numbered(optuna.samplers.BaseSampler):
        def infer_relative_search_space(self, study, trial):
            return {}

        def sample_relative(self, study, trial, search_space):
            return {}

        def sample_independent(self, study, trial, param_name, param_distribution):
            text = f"{seed} {trial.number} {param_name}"
            drawn = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
            made = optuna.samplers.TPESampler(seed=drawn)
            return made.sample_independent(study, trial, param_name, param_distribution)

    return Numbered()
