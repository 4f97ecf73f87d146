"""Trackers of experiments, beside TensorBoard: what is in `metrics.jsonl`, and panels, elsewhere.

A run speaks to `Senders`. Each tracker has a thread (`sender`) that reads the work folder (`feed`)
and hands on what the tracker lacks, as the tracker itself says. A library is one file in
`libraries`; what it has to do is in `tracker`.
"""

from mae_jax.train.trackers.senders import Senders, check
from mae_jax.train.trackers.told import FILE, of_study

__all__ = ["FILE", "Senders", "check", "of_study"]
