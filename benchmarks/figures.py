"""The figures of `make demo`, wherever they are told: read, compared, and written from its runs.

    python benchmarks/figures.py [runs]

Without runs it says where two places differ; with the folder of the demo's runs it writes what
these gave into all of them.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
_SPREAD = r"(\d+\.\d ± \d+\.\d)"
_NUMBER = r"(\d+\.\d+)"
_TEN = r"(?m)^\| 10 \| \*\*"

# What is told, and where: of each file the only match of the pattern, whose group is the figure.
TOLD: dict[str, list[tuple[str, str]]] = {
    "held-out loss": [
        ("README.md", rf"held-out reconstruction loss is \*\*{_NUMBER}\*\*"),
        ("configs/digits.py", rf"held-out loss of {_NUMBER}"),
    ],
    "kNN accuracy": [("configs/digits.py", r"kNN accuracy of (\d+)%")],
    "pretrained": [
        ("README.md", rf"\| from the pre-trained encoder \| \*\*{_SPREAD} %"),
        ("docs/evaluate.md", rf"pre-trained encoder is at {_SPREAD} %"),
        ("configs/digits_finetune.py", rf"Expect {_SPREAD} % on held-out digits"),
    ],
    "scratch": [
        ("README.md", rf"\| the same network from scratch \| {_SPREAD} %"),
        ("docs/evaluate.md", rf"only begun to learn \({_SPREAD} %"),
        ("configs/digits_finetune.py", rf"and {_SPREAD} % from scratch"),
    ],
    "pixels": [
        ("README.md", rf"\| logistic regression on pixels \| {_SPREAD} %"),
        ("docs/evaluate.md", rf"{_TEN}.*\| {_SPREAD} % \|$"),
    ],
    "pretrained, 400 updates": [
        ("README.md", rf"with 400 of them it is {_SPREAD}"),
        ("docs/evaluate.md", rf"{_TEN}{_SPREAD} %"),
    ],
    "scratch, 400 updates": [
        ("README.md", rf"against\s+{_SPREAD} % from scratch"),
        ("docs/evaluate.md", rf"{_TEN}[^|]*\| {_SPREAD} %"),
    ],
}
# The paper's, at the head of the configs that pre-train and of those that measure.
for place, size in enumerate(("b16", "l16", "h14")):
    for what, file in (("fine-tuned", "finetune"), ("linear probe", "linear")):
        before = r"[\d.]+,? (?:and )?" * place
        TOLD[f"{what}, {size}"] = [
            (f"configs/in1k/{size}.py", rf"{_NUMBER} % {what}"),
            (f"configs/in1k/{file}.py", rf"Expect {before}{_NUMBER}"),
        ]


def told(name: str) -> dict[str, str]:
    """A figure as every place has it."""
    return {file: _match(file, pattern).group(1) for file, pattern in TOLD[name]}


def agree(figures: dict[str, str]) -> bool:
    """Whether they are one figure, written to more or fewer digits."""
    shortest = min(figures.values(), key=len)
    if "±" in shortest:
        return len(set(figures.values())) == 1
    digits = len(shortest.partition(".")[2])
    return len({f"{float(figure):.{digits}f}" for figure in figures.values()}) == 1


def measured(runs: Path) -> dict[str, float | str]:
    """What the demo's runs gave."""
    latest: dict[str, float] = {}
    for line in (runs / "digits" / "metrics.jsonl").read_text().splitlines():
        latest |= json.loads(line)
    found = {
        "held-out loss": latest["eval_loss"],
        "kNN accuracy": 100 * latest["eval_knn_accuracy"],
    }
    for row in json.loads((runs / "digits-finetune" / "comparison.json").read_text()):
        found[row["method"]] = f"{100 * row['mean']:.1f} ± {100 * row['deviation']:.1f}"
    return found


def write(name: str, value: float | str) -> None:
    """Puts a figure wherever it is told, to as many digits as are there."""
    for file, pattern in TOLD[name]:
        found = _match(file, pattern)
        digits = len(found.group(1).partition(".")[2])
        text = value if isinstance(value, str) else f"{value:.{digits}f}"
        whole, (start, end) = found.string, found.span(1)
        (ROOT / file).write_text(whole[:start] + text + whole[end:])


def _match(file, pattern):
    found = list(re.finditer(pattern, (ROOT / file).read_text()))
    if len(found) != 1:
        raise ValueError(f"{file} has {len(found)} places like {pattern!r}, and must have one")
    return found[0]


if __name__ == "__main__":
    if sys.argv[1:]:
        for figure, value in measured(Path(sys.argv[1])).items():
            write(figure, value)
    for figure in TOLD:
        print(f"{'ok ' if agree(told(figure)) else 'NOT'}  {figure}: {told(figure)}")
