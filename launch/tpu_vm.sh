#!/bin/bash
# mae-jax on a slice of TPU VMs of Google Cloud, as a queued resource: made if it is not there,
# set up, the same command started on all hosts, its output followed, started again while the exit
# code says so or after a preemption, and deleted at the end if it was made here.
#
#   ZONE=us-west4-a TYPE=v5litepod-64 RUNTIME=v2-alpha-tpuv5-lite BUCKET=mine \
#       launch/tpu_vm.sh l16 pretrain --config=configs/in1k/l16.py --workdir=/bucket/runs/l16
#
# Dry run: DRY_RUN=1 in front prints the commands, and runs none; no account is needed.
# SPOT=1 asks for preemptible TPUs; KEEP=1 leaves the slice there. BUCKET is mounted at /bucket, and
# has the prepared data sets in tfds/. Stopped here (Ctrl-C), the run goes on there, and the same
# command follows it again. For a sweep, a slice for each share: this once for each, under a name of its
# own, with --index=I --of=N.
set -euo pipefail

if [ $# -lt 2 ]; then
	sed -n '2,/^set/{s/^# \{0,1\}//p}' "$0" >&2
	exit 2
fi
name=$1
shift
: "${ZONE:?}" "${TYPE:?, such as v5litepod-64}" "${RUNTIME:?, the software that goes with TYPE}"
: "${BUCKET:?}"
place=("--zone=$ZONE")
made="" assumed=ABSENT

call() {
	if [ -n "${DRY_RUN:-}" ]; then
		printf '%q ' "$@"
		echo
	else
		"$@"
	fi
}

queued() {
	call gcloud compute tpus queued-resources "$1" "$name" "${place[@]}" "${@:2}"
}

on() { # WORKER COMMAND
	call gcloud compute tpus tpu-vm ssh "$name" "${place[@]}" --worker="$1" --command="$2"
}

state() {
	if [ -n "${DRY_RUN:-}" ]; then
		echo "$assumed"
	else
		queued describe --format='value(state.state)' 2>/dev/null || echo ABSENT
	fi
}

obtain() {
	local now
	now=$(state)
	case $now in
	SUSPENDED | SUSPENDING | FAILED) # preempted, or never given: such a request is of no more use
		echo "$name is $now; asking for it again" >&2
		queued delete --force --quiet
		now=ABSENT
		;;
	esac
	if [ "$now" = ABSENT ]; then
		queued create --node-id="$name" --accelerator-type="$TYPE" \
			--runtime-version="$RUNTIME" ${SPOT:+--spot}
		made=1
		assumed=ACTIVE
	fi
	until [ "$(state)" = ACTIVE ]; do
		echo "$name is $(state)" >&2
		sleep "${PAUSE:-30}"
	done
}

files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT
git -C "$(dirname "$0")/.." archive --format=tar.gz --output="$files/mae_jax.tgz" HEAD
cat > "$files/mae_jax_run.sh" << END
cd ~/mae_jax
export TFDS_DATA_DIR=/bucket/tfds
.venv/bin/mae-jax $(printf '%q ' "$@") > log 2>&1
echo \$? > code
END
install="set -e; rm -rf mae_jax/mae_jax; mkdir -p mae_jax; tar -xzf mae_jax.tgz -C mae_jax; cd mae_jax
command -v uv > /dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh
export PATH=\$HOME/.local/bin:\$PATH
uv venv --quiet --allow-existing --python 3.12 .venv
uv pip install --quiet --python .venv -e '.[tpu,tensorflow]' -c constraints.txt
sudo mkdir -p /bucket
mountpoint -q /bucket || sudo gcsfuse -o allow_other --implicit-dirs --rename-dir-limit=100000 --uid=\$(id -u) \
--gid=\$(id -g) $BUCKET /bucket"
# systemd hands SIGTERM on when a machine is taken away, and a lost connection ends nothing.
unit=mae-jax
start="rm -f mae_jax/code mae_jax/log; sudo systemd-run --unit=$unit --uid=\$(id -u) \
-p TimeoutStopSec=300 bash \$PWD/mae_jax_run.sh"
follow="cd mae_jax && tail -n +1 -F log --pid=\$(systemctl show -p MainPID --value $unit)"
busy="systemctl is-active --quiet $unit"

obtain
if [ -n "${DRY_RUN:-}" ] || ! on 0 "$busy" 2>/dev/null; then
	fresh=1
fi
while true; do
	if [ -n "${fresh:-}" ]; then
		if [ -n "${DRY_RUN:-}" ]; then
			sed 's/^/# mae_jax_run.sh: /' "$files/mae_jax_run.sh"
		fi
		call gcloud compute tpus tpu-vm scp "$files/mae_jax.tgz" "$files/mae_jax_run.sh" "$name:" \
			"${place[@]}" --worker=all
		on all "$install"
		on all "$start"
		fresh=
	fi
	on 0 "$follow" || true # a lost connection says nothing of the run
	if [ -n "${DRY_RUN:-}" ]; then
		on 0 'cat mae_jax/code'
		code=0
	elif on 0 "$busy" 2>/dev/null; then
		continue
	else
		code=$(on 0 'cat mae_jax/code' 2>/dev/null || echo lost)
	fi
	case $code in
	42 | 43 | 137 | lost) # told to stop, and saved; a process is missing; killed; a machine is gone
		obtain
		fresh=1
		on all "sudo systemctl stop $unit" || true
		;;
	*) break ;;
	esac
done
if [ -n "$made" ] && [ -z "${KEEP:-}" ]; then
	queued delete --force --quiet
fi
exit "$code"
