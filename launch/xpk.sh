#!/bin/bash
# mae-jax on a GKE cluster through XPK (pip install xpk), which writes a JobSet much like jobset.yaml.
#
#   CLUSTER=mine ZONE=us-west4-a TYPE=v5litepod-64 IMAGE=REGISTRY/mae-jax:tpu \
#       launch/xpk.sh l16 pretrain --config=configs/in1k/l16.py --workdir=/bucket/runs/l16
#
# Dry run: DRY_RUN=1 in front lets XPK print the JobSet and what it would do; no account is needed.
# SLICES=2 takes as many slices. /bucket is what `xpk storage attach` has attached there. For a sweep,
# this once for each share, with --index=I --of=N, as in jobset.sh.
set -euo pipefail

if [ $# -lt 2 ]; then
	sed -n '2,/^set/{s/^# \{0,1\}//p}' "$0" >&2
	exit 2
fi
name=$1
shift
# 42: told to stop, and saved; 43: a process is missing or stuck; 137: killed as a whole. XPK adds 127
# and all above it.
exec xpk workload create --cluster="${CLUSTER:?}" --zone="${ZONE:?}" --workload="$name" \
	--tpu-type="${TYPE:?, such as v5litepod-64}" --num-slices="${SLICES:-1}" \
	--docker-image="${IMAGE:?}" --max-restarts=100 --restart-on-exit-codes=42,43,137 \
	--termination-grace-period-seconds=300 \
	--env="TFDS_DATA_DIR=/bucket/tfds" ${DRY_RUN:+--dry-run} \
	--command="exec mae-jax $(printf '%q ' "$@")"
