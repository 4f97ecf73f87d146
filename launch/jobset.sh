#!/bin/bash
# mae-jax on TPU slices of GKE, as the JobSet of jobset.yaml, which says more.
#
#   export ACCELERATOR=tpu-v5-lite-podslice TOPOLOGY=8x8 HOSTS=16 CHIPS=4 \
#       IMAGE=REGISTRY/mae-jax:tpu BUCKET=mine
#   launch/jobset.sh l16 pretrain --config=configs/in1k/l16.py --workdir=/bucket/runs/l16
#
# HOSTS are those of one slice, with CHIPS each; SLICES=2 takes as many slices. A sweep, each JobSet
# with a share of its runs:
#
#   for i in $(seq 0 9); do
#       launch/jobset.sh ratios-$i sweep --config=configs/in1k/b16.py \
#           --grid model.mask_ratio=.5,.75,.9 --workdir=/bucket/runs/ratios --index=$i --of=10
#   done
#
# Dry run: DRY_RUN=1 in front prints what would be applied; no cluster is needed.
set -euo pipefail

if [ $# -lt 2 ]; then
	sed -n '2,/^set/{s/^# \{0,1\}//p}' "$0" >&2
	exit 2
fi
export NAME=$1 SLICES=${SLICES:-1}
shift
: "${ACCELERATOR:?, such as tpu-v5-lite-podslice}" "${TOPOLOGY:?, such as 8x8}"
: "${HOSTS:?of a slice}" "${CHIPS:?of a host}" "${IMAGE:?}" "${BUCKET:?}"
ARGS=$(printf '%q ' "$@")
export ACCELERATOR TOPOLOGY HOSTS CHIPS IMAGE BUCKET ARGS

manifest() {
	# shellcheck disable=SC2016 # names of variables, for envsubst to find
	envsubst '$NAME $SLICES $ACCELERATOR $TOPOLOGY $HOSTS $CHIPS $IMAGE $BUCKET $ARGS' \
		< "$(dirname "$0")/jobset.yaml"
}

if [ -n "${DRY_RUN:-}" ]; then
	manifest
else
	manifest | kubectl apply -f -
fi
