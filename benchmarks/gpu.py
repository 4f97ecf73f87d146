r"""What wants a GPU, step by step: see gpu.sh, which brings what this needs.

    benchmarks/gpu.sh [--out=runs/gpu] [--minutes=9] [--only=device,step_large] [--device=cpu]

Every step is a process of its own that ends in time, and leaves its result in `--out`; steps that
have one are not made again. The most telling ones come first. With --device=cpu all of them run on
small models, so that they can be tried where there is no GPU.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import gpu_steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="runs/gpu")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--device", choices=["gpu", "cpu"], default="gpu")
    parser.add_argument("--only", help=f"of {', '.join(gpu_steps.STEPS)}")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    options = parser.parse_args()
    out = Path(options.out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    if options.step:
        return _make(options.step, options.device, out)
    names = options.only.split(",") if options.only else list(gpu_steps.STEPS)
    if unknown := [name for name in names if name not in gpu_steps.STEPS]:
        parser.error(
            f"--only={','.join(unknown)} is unknown; known are {', '.join(gpu_steps.STEPS)}"
        )
    ends = time.monotonic() + 60 * options.minutes
    for name in names:
        if (out / f"{name}.json").exists():
            print(f"{name}: done before", flush=True)
            continue
        left = ends - time.monotonic()
        needs = gpu_steps.STEPS[name].seconds if options.device == "gpu" else 0
        if left < max(needs, 5):
            print(f"{name}: needs {needs} s, {left:.0f} are left; the next run does it", flush=True)
            continue
        print(f"\n{name}: {gpu_steps.STEPS[name].does}", flush=True)
        _start(name, options, left - 2)
    _report(out)


def _start(name: str, options: argparse.Namespace, seconds: float) -> None:
    command = [sys.executable, "-u", __file__, f"--step={name}", f"--out={options.out}"]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu" if options.device == "cpu" else "cuda,cpu",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several processes share the device
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    environment.setdefault("JAX_COMPILATION_CACHE_DIR", f"{options.out}/programs")
    began = time.monotonic()
    try:
        done = subprocess.run(
            [*command, f"--device={options.device}"], env=environment, timeout=seconds
        )
        said = "done" if done.returncode == 0 else f"FAILED, code {done.returncode}"
    except subprocess.TimeoutExpired:
        said = "out of time; the next run begins it again"
    print(f"{name}: {said} after {time.monotonic() - began:.0f} s", flush=True)


def _make(name: str, device: str, out: Path) -> None:
    result = gpu_steps.STEPS[name].make(device, out)
    print(json.dumps(result, indent=1))
    partial = out / f"{name}.partial"
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.rename(out / f"{name}.json")


def _report(out: Path) -> None:
    missing = [name for name in gpu_steps.STEPS if not (out / f"{name}.json").exists()]
    lines = [f"# On {_device(out)}", ""]
    for name, step in gpu_steps.STEPS.items():
        if name not in missing:
            text = (out / f"{name}.json").read_text().strip()
            lines += [f"## {name}: {step.does}", "", "```json", text, "```", ""]
    (out / "report.md").write_text("\n".join(lines))
    print(f"\nreport: {out / 'report.md'}; missing: {', '.join(missing) or 'nothing'}")


def _device(out: Path) -> str:
    try:
        return json.loads((out / "device.json").read_text())["device"]
    except OSError:
        return "a device that was not asked"


if __name__ == "__main__":
    main()
