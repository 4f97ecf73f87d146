# mae-jax in a container, for CPUs, NVIDIA GPUs or TPUs:
#
#   docker build --build-arg EXTRA=tpu --tag REGISTRY/mae-jax:tpu .
#   docker run --rm -v "$PWD/runs:/runs" REGISTRY/mae-jax:cpu pretrain --config=configs/digits.py \
#       --workdir=/runs/digits
#
# EXTRA: cpu, cuda or tpu. It runs as user 1000, to whom a mounted work folder has to belong.
FROM python:3.12-slim

ARG EXTRA=cpu
WORKDIR /mae_jax
# What is needed first, so that a change of the code alone builds in seconds.
COPY setup.py constraints.txt README.md ./
COPY mae_jax/__init__.py mae_jax/
RUN if [ "$EXTRA" = cpu ]; then extras=tensorflow,digits; else extras="$EXTRA,tensorflow,digits"; fi \
    && pip install --no-cache-dir -c constraints.txt -e ".[$extras]"
COPY mae_jax mae_jax
COPY configs configs
RUN useradd --uid 1000 --create-home mae
USER 1000
ENTRYPOINT ["mae-jax"]
