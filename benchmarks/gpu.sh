#!/usr/bin/env bash
# What wants a GPU, in one command of at most nine minutes; the same command again goes on.
#
#   benchmarks/gpu.sh                 # needs what `pip install mae_jax[digits]` brings, JAX for GPUs,
#                                     # and beside it torch and transformers
#   benchmarks/gpu.sh --out=runs/gpu --minutes=9 --only=device,step_large
#   benchmarks/gpu.sh --device=cpu    # the same, small: to try it
#
# A GPU machine without a network, which has jax, flax, optax, orbax-checkpoint, torch,
# transformers, scikit-learn and pytest for Python 3.12: first, where there is a network,
#
#   benchmarks/gpu.sh wheels          # the rest, 13 MB, into .whl/, to be taken there
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

if [ "${1:-}" = wheels ]; then
	mkdir -p .whl
	platforms=()
	for tag in manylinux_2_34 manylinux_2_28 manylinux_2_27 manylinux_2_24 manylinux_2_17 \
		manylinux2014 manylinux1; do
		platforms+=(--platform "${tag}_x86_64")
	done
	"$python" -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 \
		--implementation cp "${platforms[@]}" -d .whl ml_collections clu 'grain<0.3' \
		'array_record<0.9' cykooz-resizer simplejpeg tensorflow-datasets importlib_resources \
		dm-tree simple_parsing docstring-parser toml tensorflow-metadata immutabledict xxhash \
		googleapis-common-protos six wrapt
	"$python" -m pip wheel -q --no-deps -w .whl promise portpicker # these come as source
	ls .whl
	exit
fi
if [ -d .whl ]; then
	site=${TMPDIR:-/tmp}/mae_jax_site
	if [ ! -e "$site/.done" ]; then
		"$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \
			--target "$site" .whl/*.whl
		touch "$site/.done"
	fi
	export PYTHONPATH=$site:$PWD
fi
exec "$python" -u benchmarks/gpu.py "$@"
