# make demo: pre-train on the embedded digits, then fine-tune on ten labels of each
# make test: the tests
# Both make .venv with $(PYTHON) first, from setup.py and the versions in constraints.txt.

PYTHON ?= python3
VENV ?= .venv
RUNS ?= runs

BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
	-c constraints.txt

.PHONY: demo test lint clean

demo: $(VENV)/.demo
	$(BIN)/mae-jax pretrain --config=configs/digits.py --workdir=$(RUNS)/digits
	$(BIN)/mae-jax finetune --config=configs/digits_finetune.py \
		--config.init_from=$(RUNS)/digits --workdir=$(RUNS)/digits-finetune --draws=5 --baselines

test: $(VENV)/.test
	$(BIN)/python -m pytest tests

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.%: setup.py constraints.txt | $(VENV)/bin/python
	$(INSTALL) -e '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) $(RUNS) build *.egg-info
