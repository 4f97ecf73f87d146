"""The steps of gpu.py, each a function of the device's kind and a folder to leave files in."""

import collections
import functools
import gzip
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).parents[1]
PRETRAIN = [
    sys.executable, "-c", "import sys; from mae_jax.cli import command; sys.exit(command())",
    "pretrain",
]  # fmt: skip
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


class Step(NamedTuple):
    """One of the steps: what it does, the fewest seconds it is begun with, and how it is made."""

    does: str
    seconds: int
    make: Callable[[str, Path], dict[str, Any]]


# ------------------------------------------------------------------------------------ the device


def _fastest(run, rounds: int = 5) -> float:
    """Seconds of the fastest of some rounds, after one that is not counted."""
    import jax

    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - began)
    return min(times[1:])


def device(kind: str, out: Path) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp

    first = jax.devices()[0]
    size, many = (8192, 20) if kind == "gpu" else (512, 2)
    x = jax.random.normal(jax.random.key(0), (size, size), jnp.bfloat16)

    @jax.jit
    def products(x):
        return jax.lax.fori_loop(0, many, lambda _, y: (y @ x) * (1 / size), x)

    y = jnp.ones((size * size * 4,), jnp.float32)
    copy = jax.jit(lambda y: y + 1)
    return {
        "device": first.device_kind,
        "cores": os.cpu_count(),
        "versions": _versions("jax", "jaxlib", "flax", "torch", "transformers"),
        "memory_bytes": (first.memory_stats() or {}).get("bytes_limit"),
        "product_tflops_per_second": many * 2 * size**3 / _fastest(lambda: products(x)) / 1e12,
        "copied_terabytes_per_second": 2 * y.nbytes / _fastest(lambda: copy(y)) / 1e12,
    }


def _versions(*names: str) -> dict[str, str]:
    from importlib import metadata

    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not there"
    return found


# ---------------------------------------------------------------------------------------- it runs


def _digits(out: Path) -> Path:
    """scikit-learn's digits as a folder of PNG files, the same split as the embedded set's."""
    from sklearn.datasets import load_digits

    folder, digits = out / "digits", load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(pixels))
    for split, indices in (("train", order[:-360]), ("test", order[-360:])):
        for index in indices:
            path = folder / split / str(digits.target[index]) / f"{index:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[index]).save(path)
    return folder


def _pretrain(out: Path, name: str, platform: str, *given: str, flags: str = "", **environment):
    """A pre-training on the digits, started; and its work folder."""
    workdir = out / "runs" / name
    log = (out / f"{name}.log").open("w")
    process = subprocess.Popen(
        [
            *PRETRAIN, "--config=configs/digits.py", "--config.data.name=None",
            f"--config.data.folder={out / 'digits'}", "--config.data.split=train",
            "--config.data.eval_split=test", "--config.log.tensorboard=False",
            "--config.train.epochs=None", "--config.train.warmup_epochs=0", *given,
            f"--workdir={workdir}",
        ],
        cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        env=os.environ | {"JAX_PLATFORMS": platform, "XLA_FLAGS": flags} | environment,
    )  # fmt: skip
    return process, workdir


def _ended(process: subprocess.Popen, log: Path) -> None:
    if process.wait():
        raise SystemExit(f"code {process.returncode}: {log.read_text()[-3000:]}")


def _lines(workdir: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    except (OSError, ValueError):
        return []


def _platform(kind: str) -> str:
    return "cpu" if kind == "cpu" else "cuda"


def runs(kind: str, out: Path) -> dict[str, Any]:
    _digits(out)
    length = ["--config.train.steps=300", "--config.log.every_steps=100"]
    precise = {"JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    started = {
        "float32": _pretrain(
            out, "float32", _platform(kind), *length, "--config.model.dtype=float32", **precise
        ),
        "bfloat16": _pretrain(
            out, "bfloat16", _platform(kind), *length, "--config.model.dtype=bfloat16"
        ),
        "float32 on the CPU": _pretrain(
            out, "on_the_cpu", "cpu", *length, "--config.model.dtype=float32", **precise
        ),
    }
    result = {}
    for name, (process, workdir) in started.items():
        _ended(process, out / f"{workdir.name}.log")
        result[name] = {
            key: value for line in _lines(workdir) for key, value in line.items() if "loss" in key
        }
    return result


def resume(kind: str, out: Path) -> dict[str, Any]:
    """Killed on the way and started again: losses of the same steps, and the last weights."""
    _digits(out)
    length = [
        "--config.train.steps=120", "--config.log.every_steps=20",
        "--config.log.eval_every_epochs=2", "--config.checkpoint.every_epochs=2",
    ]  # fmt: skip
    flags = DETERMINISTIC if kind == "gpu" else ""
    process, whole = _pretrain(out, "whole", _platform(kind), *length, flags=flags)
    _ended(process, out / "whole.log")
    process, broken = _pretrain(out, "killed", _platform(kind), *length, flags=flags)
    while process.poll() is None and not any(line["step"] >= 60 for line in _lines(broken)):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    at = max((line["step"] for line in _lines(broken)), default=0)
    process, broken = _pretrain(out, "killed", _platform(kind), *length, flags=flags)
    _ended(process, out / "killed.log")
    kept = ("step", "loss", "grad_norm", "eval_loss")
    one, other = (
        [{k: line[k] for k in kept if k in line} for line in _lines(folder)]
        for folder in (whole, broken)
    )
    return {"killed_at": at, "same": one == other, "last": [one[-1], other[-1]]}


def golden(kind: str, out: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "tests/models/test_golden.py"],
        cwd=REPOSITORY, capture_output=True, text=True,
        env=os.environ | {
            "JAX_PLATFORMS": _platform(kind), "JAX_DEFAULT_MATMUL_PRECISION": "highest",
        },
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{done.stdout[-3000:]}\n{done.stderr[-1000:]}")
    return {"said": done.stdout.splitlines()[-1]}


# ------------------------------------------------------------------------------------------ steps


def beside_pytorch(size: str, batch: int, kind: str, out: Path) -> dict[str, Any]:
    small = ["--size=tiny", "--batch=2", "--rounds=2", "--steps=1"]
    large = [f"--size={size}", f"--batch={batch}", "--rounds=4", "--steps=4"]
    done = subprocess.run(
        [
            sys.executable, "benchmarks/step_vs_pytorch.py", "--json", f"--device={kind}",
            "--precision=bfloat16", *(small if kind == "cpu" else large),
        ],
        cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    print(done.stdout)
    if done.returncode:
        raise SystemExit(done.returncode)
    return json.loads(done.stdout.splitlines()[-1])[0]


class Trainer:
    """Trains a masked autoencoder on images that are there already.

    Args:
      size: of the model.
      batch: images of a step.
      model: other keys of its config.
      options: for the compiler.
    """

    def __init__(self, size: str, batch: int, *, model: dict[str, Any] | None = None, options=None):
        import jax

        from mae_jax.config import default_config
        from mae_jax.models import flops
        from mae_jax.parallel import Layout, Split
        from mae_jax.train import state
        from mae_jax.train.objectives import Reconstruct
        from mae_jax.train.optimizer import Recipe
        from mae_jax.train.step import lowered, put

        config = default_config()
        config.model.size, config.model.image_size, config.model.dtype = size, (224,), "bfloat16"
        config.model.update(model or {})
        config.data.batch_size = batch
        objective = Reconstruct.from_config(config)
        recipe = Recipe.from_config(
            config, steps=10**6, steps_per_epoch=1, undecayed=(), depth=objective.dimensions.depth
        )
        layout = Layout.of(Split(1, 1, 1, False), jax.devices()[:1])
        images = np.random.default_rng(0).integers(0, 256, (batch, 224, 224, 3), np.uint8)
        given = {"image": images, "label": np.zeros(batch, np.int32)}
        self._batch, self._rates = put(given, layout, batch), recipe.rates()
        self._state = state.create(objective, recipe, 0, layout)
        began = time.perf_counter()
        self._step = lowered(
            self._state, self._batch, np.uint32(0), objective=objective, recipe=recipe,
            layout=layout,
        ).compile(compiler_options=options)  # fmt: skip
        self.compile_seconds = time.perf_counter() - began
        self.memory = self._step.memory_analysis()
        self.batch, self.flops = batch, batch * flops.training_flops(objective.dimensions, 0.75)

    def run(self, steps: int) -> float:
        """Seconds a step, and the loss is finite."""
        import jax

        began = time.perf_counter()
        for _ in range(steps):
            self._state, numbers = self._step(self._state, self._batch, np.uint32(0), self._rates)
        jax.block_until_ready((self._state, numbers))
        assert np.isfinite(float(numbers["loss"]))
        return (time.perf_counter() - began) / steps

    def measured(self, seconds: float) -> dict[str, float]:
        return {
            "batch": self.batch,
            "step_seconds": seconds,
            "images_per_second": self.batch / seconds,
            "tflops_per_second": self.flops / seconds / 1e12,
            "compile_seconds": self.compile_seconds,
        }


def largest(kind: str, out: Path) -> dict[str, Any]:
    """Larger and larger batches, each with its peak of memory beside the compiler's word."""
    import jax

    result = {}
    sizes = {"large": (256, 512, 1024, 2048), "huge": (256, 512)}
    for size, batches in sizes.items() if kind == "gpu" else [("tiny", (2, 4))]:
        for batch in batches:
            try:
                trainer = Trainer(size, batch)
                trainer.run(2)
                found = trainer.measured(trainer.run(4))
            except jax.errors.JaxRuntimeError as error:
                print(f"{size}, batch {batch}: {str(error)[:200]}", flush=True)
                break
            found["planned_bytes"] = trainer.memory.peak_memory_in_bytes
            # Of the process so far: batches grow, so that it is this one's.
            found["peak_bytes"] = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
            print(size, found, flush=True)
            result[f"{size} {batch}"] = found
            del trainer
    return result


LEVERS = {
    "cudnn attention": {"model": {"attention": "cudnn"}},
    "packed attention": {"model": {"attention": "packed"}},
    "grouped attention": {"model": {"attention": "grouped"}},
    "no Triton products": {"options": {"xla_gpu_enable_triton_gemm": False}},
    "scanned blocks": {"model": {"scan": True}},
    "all Triton tilings tried": {"options": {"xla_gpu_exhaustive_tiling_search": True}},
    "no command buffers": {"options": {"xla_gpu_enable_command_buffer": ""}},
    "latency hiding": {"options": {"xla_gpu_enable_latency_hiding_scheduler": True}},
}


def levers(kind: str, out: Path) -> dict[str, Any]:
    """Each beside the step as it is, in turns; what was found so far is printed on the way."""
    import jax

    size, batch, steps = ("large", 256, 4) if kind == "gpu" else ("tiny", 2, 1)
    base = Trainer(size, batch)
    base.run(2)
    result = {"as it is": base.measured(base.run(steps))}
    for name, change in LEVERS.items():
        if kind == "cpu" and "options" in change:
            continue
        try:
            other = Trainer(size, batch, **change)
            other.run(2)
            turns = [(base.run(steps), other.run(steps)) for _ in range(3)]
        except (jax.errors.JaxRuntimeError, ValueError, NotImplementedError, RuntimeError) as error:
            result[name] = {"error": str(error)[:300]}
        else:
            seconds = statistics.median(b for _, b in turns)
            ratios = [a / b for a, b in turns]
            result[name] = {"times_as_fast": ratios} | other.measured(seconds)
            del other
        print(name, result[name], flush=True)
    return result


# ---------------------------------------------------------------------------------------- profile

KINDS = {
    "attention": r"flash|fmha|sdpa|attention|softmax",
    "products": r"gemm|cutlass|xmma|cublas|dot|nvjet|wgmma",
    "copies": r"memcpy|memset|copy|transpose",
    "reductions": r"reduce|norm",
}


def profile(kind: str, out: Path) -> dict[str, Any]:
    """Where the time of a step goes, by kernel; the trace is kept, too."""
    import jax

    size, batch, steps = ("large", 256, 3) if kind == "gpu" else ("tiny", 2, 2)
    trainer = Trainer(size, batch)
    trainer.run(3)
    folder = out / "trace"
    with jax.profiler.trace(str(folder)):
        seconds = trainer.run(steps)
    path = max(folder.rglob("*.xplane.pb"), key=lambda found: found.stat().st_mtime)
    (out / "trace.xplane.pb.gz").write_bytes(gzip.compress(path.read_bytes()))
    return {"step_seconds": seconds} | _shares(jax.profiler.ProfileData.from_file(str(path)), steps)


def _shares(data, steps: int) -> dict[str, Any]:
    result = {}
    for plane in data.planes:
        if "/device:" not in plane.name and "Client" not in plane.name:
            continue
        for line in plane.lines:
            spent = collections.Counter()
            for event in line.events:
                spent[event.name] += event.duration_ns / 1e6 / steps
            if not spent:
                continue
            kinds = collections.Counter()
            for name, took in spent.items():
                fits = (k for k, wanted in KINDS.items() if re.search(wanted, name, re.IGNORECASE))
                kinds[next(fits, "else")] += took
            result[f"{plane.name} {line.name}"] = {
                "milliseconds_a_step": sum(spent.values()),
                "kinds": dict(kinds.most_common()),
                "longest": {name[:120]: took for name, took in spent.most_common(25)},
            }
    return result


# ---------------------------------------------------------------------------------- the whole run


def loader(kind: str, out: Path) -> dict[str, Any]:
    """Images a second from JPEG files of ImageNet's size, by processes; then a run of ViT-L."""
    import photographs

    from mae_jax.commands import configs
    from mae_jax.parallel import Layout
    from mae_jax.planning import bench
    from mae_jax.train.task import prepare

    folder = out / "photographs"
    if not folder.exists():
        photographs.write(folder, 512 if kind == "gpu" else 32, photographs.SMALL)
    config = configs.read("configs/in1k/l16.py")
    config.data.name, config.data.folder = None, str(folder)
    config.data.split, config.data.eval_split = "all", None
    config.data.batch_size, config.train.warmup_epochs = (256, 0) if kind == "gpu" else (4, 0)
    if kind == "cpu":
        config.model.size = "tiny"
    cores, result = os.cpu_count() or 1, {}
    for workers in dict.fromkeys((0, cores // 4, cores // 2, cores)):
        config.data.workers = workers
        task = prepare(config, 1)
        made = task.batches(Layout.of(task.split), steps=2**31)
        seconds, count = 8.0 if kind == "gpu" else 2.0, 0
        next(made)
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            next(made)
            count += config.data.batch_size
        result[f"{workers} processes"] = count / (time.perf_counter() - began)
        made.close()
        print(f"{workers} processes: {result[f'{workers} processes']:.0f} images/s", flush=True)
    config.data.workers = cores
    return result | {"bench": bench.bench(config, steps=10 if kind == "gpu" else 3)}


def _pytorch_step(size: str, batch: int) -> Step:
    does = f"ViT-{size}, {batch} images a step, beside PyTorch"
    return Step(does, 90, functools.partial(beside_pytorch, size, batch))


STEPS = {
    "device": Step("what it is, and what it reaches by itself", 15, device),
    "step_large": _pytorch_step("large", 256),
    "runs": Step("the digits, in float32 and bfloat16, beside the CPU", 60, runs),
    "golden": Step("outputs and gradients of the reference", 40, golden),
    "levers": Step("what might be faster, one by one, ViT-large", 90, levers),
    "profile": Step("where the time of ViT-large goes", 60, profile),
    "step_base": _pytorch_step("base", 256),
    "step_huge": _pytorch_step("huge", 256),
    "resume": Step("killed and resumed", 60, resume),
    "loader": Step("JPEG files of 500 x 375 to a GPU", 90, loader),
    "largest": Step("larger batches, and memory beside the plan", 90, largest),
}
