"""Whether a run is learning: what it measured, and what `mae-jax diagnose` left in its folder."""

import json

from mae_jax.config import PRETRAINING
from mae_jax.reports import pictures, words
from mae_jax.reports.blocks import Cell, Pictures, Table, Text
from mae_jax.reports.read import Run

FOLDER = "diagnosis"  # in the work folder
_MOST = 20  # rows of a table


def of_run(run: Run, notes: list[str]) -> list:
    """The blocks of a section; nothing of a run that is no pre-training.

    Args:
      notes: gets a sentence for what cannot be read, or is not there.
    """
    if run.config.get("train.objective") not in PRETRAINING:
        return []
    measured, blocks = _measured(run), []
    if measured is not None:
        blocks.append(Text([measured]))
    folder = run.folder / FOLDER
    if not (folder / "diagnosis.json").is_file():
        if run.checkpoints:
            notes.append(
                "There is no diagnosis: mae-jax diagnose WORKDIR --out=WORKDIR/diagnosis says "
                "whether the model learns, and if not, why"
            )
        return blocks
    try:
        blocks += _diagnosis(json.loads((folder / "diagnosis.json").read_text()), run)
    except Exception as error:  # whatever stands there
        notes.append(f"diagnosis.json cannot be shown ({type(error).__name__})")
    sheet = folder / "neighbours.png"
    if sheet.is_file():
        caption = "Held-out images, and those whose features are most like theirs"
        blocks.append(Pictures(pictures.some([(caption, sheet)], notes)))
    return blocks


def _measured(run) -> str | None:
    held, train = run.last("eval_loss"), run.last("eval_train_loss")
    if held is None or train is None or held[0] != train[0]:
        return None
    first, second = (words.number(value, "eval_loss") for _, value in (held, train))
    text = (
        f"At step {held[0]} the loss is {first} on held-out images and {second} on training images "
        "that are seen and hidden likewise"
    )
    rank = run.last("eval_rank")
    return text + (f"; the effective rank of features is {rank[1]:.1f}." if rank else ".")


def _diagnosis(found, run):
    step = found.get("step")
    rows = [
        [str(one["name"]), f"{one['says']}: {one['evidence']}", str(one["advice"] or "—")]
        for one in found["verdict"][:_MOST]
    ]
    old = "" if step in (None, run.step) else f", at step {step} of {run.step}"
    blocks = [Table(f"What mae-jax diagnose found{old}", ("", "why", "what to do"), rows)]
    losses = found.get("losses")
    if losses:
        pairs = {"held-out images": losses["held_out"], "training images": losses["train"]}
        pairs |= losses["free"]
        caption = "Loss on hidden patches, beside that of predictions that cost nothing"
        rows = [[k, Cell(f"{v:.4f}", exact=v)] for k, v in pairs.items() if v is not None]
        blocks.append(Table(caption, ("of", "loss"), rows[:_MOST]))
        bands = [
            [name, f"{share:.1%}", f"{whole:.0%}"]
            for name, (share, whole) in (losses.get("bands") or {}).items()
        ]
        if bands:
            caption = "How much of hidden patches is predicted, by frequency"
            head = ("band", "predicted", "share of the variance")
            blocks.append(Table(caption, head, bands[:_MOST]))
    return blocks
