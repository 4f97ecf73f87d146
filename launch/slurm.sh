#!/bin/bash
# mae-jax on SLURM: a process for each task, and the job is queued again until it is done.
#
#   sbatch --nodes=4 --ntasks-per-node=8 --gpus-per-node=8 --cpus-per-task=12 --time=24:00:00 \
#       launch/slurm.sh pretrain --config=configs/in1k/l16.py --workdir=/shared/runs/l16
#
# A sweep as an array, each job with a share of its runs:
#
#   sbatch --array=0-9 --gpus-per-node=1 --time=24:00:00 \
#       launch/slurm.sh sweep --config=configs/digits.py --grid model.mask_ratio=.5,.75,.9 \
#       --workdir=/shared/runs/ratios
#
# Dry run: the same with --test-only, and SLURM says when and where it would start. Activate the
# environment first, as sbatch hands it on. JAX gives every task one GPU: as many tasks as GPUs.
#SBATCH --job-name=mae-jax
#SBATCH --output=mae-jax-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
# Five minutes before the time limit, which is long enough to save.
#SBATCH --signal=TERM@300

if [ -n "$SLURM_ARRAY_TASK_ID" ] && [ "$1" = sweep ]; then
	step=${SLURM_ARRAY_TASK_STEP:-1}
	# shellcheck disable=SC2153 # no misspelling
	index=$(((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN) / step))
	# Of all that the array was asked for, not of what runs of it: a part queued again has its share.
	of=$(((SLURM_ARRAY_TASK_MAX - SLURM_ARRAY_TASK_MIN) / step + 1))
	set -- "$@" "--index=$index" "--of=$of"
fi
srun --kill-on-bad-exit=0 mae-jax "$@"
code=$?
again=
case "$code" in # as docs/faults.md has them
42) again=1 ;; # told to stop, and saved
43 | 137) [ "${SLURM_RESTART_COUNT:-0}" -ge 10 ] || again=1 ;; # if it goes on, somebody should look
esac
if [ -n "$again" ]; then
	scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
