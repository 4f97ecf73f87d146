# make demo: pre-train on the embedded digits, then fine-tune on ten labels of each
# make test: the tests
# make test-interop: the tests against torch, transformers (two versions), timm, onnxruntime, W&B
#   and MLflow, in .venv-interop: about 1.7 GB and two minutes to install
# make test-beam: data preparation on Apache Beam's direct runner, in .venv-beam
# make docs: the site, in build/site
# make docs-test: what README and the pages tell a reader to type, in a small form
# make ablation: the paper's curve of masking ratios on Fashion-MNIST
# make ablation-all: its other tables, in hours; what was interrupted goes on, here as there
# make ablation-decoding: the whole decoder beside less of it
# make ablation-labels: what pre-training is worth by the number of labels
# All make .venv with $(PYTHON) first, from setup.py and the versions in constraints.txt.

PYTHON ?= python3
VENV ?= .venv
RUNS ?= runs

BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
	-c constraints.txt

# torch for CPUs alone, 190 MB: where pip looks anyway, or else from PyTorch's own index. PyPI has
# it for Linux only with CUDA, which does not import without several GB more: never that.
INTEROP = .venv-interop
TORCH ?= torch==2.13.0+cpu
TORCH_INDEX = https://download.pytorch.org/whl/cpu
INTEROP_PIP = $(INTEROP)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile
PINNED = -c constraints.txt -c constraints-interop.txt

BEAM = .venv-beam

# Of tests: over processes, a file's in one of them.
SPREAD = -n logical --maxprocesses=4 --dist loadfile

# Of `make ablation`: so many processes divide the runs. On an accelerator: make ablation JOBS=1.
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)
TABLES = $(RUNS)/ablation
SETTING = configs/fashion/ablation.py
ABLATE = seq $(JOBS) | xargs -P $(JOBS) -I {} $(BIN)/mae-jax sweep --config=$(SETTING) --seeds=3 \
	--then=$(SETTING):finetune,$(SETTING):probe

.PHONY: demo test test-interop test-beam docs docs-test lint clean
.PHONY: ablation ablation-all ablation-decoding ablation-labels

demo: $(VENV)/.demo
	$(BIN)/mae-jax pretrain --config=configs/digits.py --workdir=$(RUNS)/digits
	$(BIN)/mae-jax finetune --config=configs/digits_finetune.py \
		--config.init_from=$(RUNS)/digits --workdir=$(RUNS)/digits-finetune --draws=5 --baselines

ablation: $(VENV)/.ablation
	$(ABLATE) --workdir=$(TABLES)/mask_ratio --grid model.mask_ratio=.1,.3,.5,.65,.75,.9

# Each changes one thing of what masking 75% is in `ablation`, whose row stands in every table.
ablation-all: ablation
	$(ABLATE) --workdir=$(TABLES)/encoder --grid model.mask_tokens_in_encoder=True
	$(ABLATE) --workdir=$(TABLES)/decoder_depth --grid model.decoder_depth=2,4
	$(ABLATE) --workdir=$(TABLES)/decoder_width --grid model.decoder_width=16,64,128
	$(ABLATE) --workdir=$(TABLES)/norm_pix --grid model.norm_pix=False
	$(ABLATE) --workdir=$(TABLES)/pca --grid model.target=pca --config.model.norm_pix=False \
		--config.model.pca_components=4
	$(ABLATE) --workdir=$(TABLES)/sampling --grid model.sampling=block,grid
	$(ABLATE) --workdir=$(TABLES)/block_half --grid model.sampling=block --config.model.mask_ratio=.5
	$(ABLATE) --workdir=$(TABLES)/augmentation --grid data.crop=fixed,none
	$(ABLATE) --workdir=$(TABLES)/length --grid train.epochs=1,4,8

# What is lost where less is decoded, which the paper has no table of.
ablation-decoding: ablation
	$(ABLATE) --workdir=$(TABLES)/decode_ratio --grid model.decode_ratio=.5
	$(ABLATE) --workdir=$(TABLES)/cross --grid model.decode_ratio=1.0,.3333 \
		--config.model.decoder_attention=cross

# What the encoder of eight epochs is worth, by labels of each class: number, then draws of them.
LABELS = 10:5 100:5 1000:2 all:1

ablation-labels: ablation-all
	for each in $(LABELS); do count=$${each%:*}; $(BIN)/mae-jax finetune \
		--config=configs/fashion/labels.py:$$count \
		--scratch=configs/fashion/labels.py:$${count}_scratch \
		--config.init_from=$(TABLES)/length/epochs=8.0/seed=0/pretrain \
		--draws=$${each#*:} --baselines --workdir=$(TABLES)/labels/$$count || exit; done

test: $(VENV)/.test
	$(BIN)/python -m pytest tests $(SPREAD)

test-interop: $(INTEROP)/.done
	$(INTEROP)/bin/python -m pytest tests/interop $(SPREAD)
	PYTHONPATH=$(INTEROP)/transformers4 $(INTEROP)/bin/python -m pytest \
		tests/interop/test_transformers.py tests/interop/test_own_preprocessing.py $(SPREAD)

$(INTEROP)/.done: setup.py constraints.txt constraints-interop.txt
	$(PYTHON) -m venv $(INTEROP)
	$(INTEROP_PIP) --no-deps $(TORCH) || \
		$(INTEROP_PIP) --no-deps --retries 1 --timeout 30 --index-url $(TORCH_INDEX) \
		$(TORCH) || \
		{ echo '$(TORCH) is neither where pip looks nor at $(TORCH_INDEX);' \
		'have its wheel in a folder and set PIP_FIND_LINKS to that' >&2; exit 1; }
	$(INTEROP_PIP) $(PINNED) -e '.[interop]' filelock jinja2 networkx setuptools transformers
	$(INTEROP_PIP) $(PINNED) --no-deps timm torchvision jax2onnx==0.17.1
	$(INTEROP_PIP) --no-deps --upgrade --target $(INTEROP)/transformers4 \
		transformers==4.57.6 tokenizers==0.22.2 huggingface_hub==0.36.2
	touch $@

# Without constraints.txt: Beam wants older releases of what it has.
test-beam: $(BEAM)/.done
	$(BEAM)/bin/python -m pytest tests/data/test_prepare.py

$(BEAM)/.done: setup.py
	$(PYTHON) -m venv $(BEAM)
	$(BEAM)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
		-e '.[beam,digits]' 'pytest>=8.3,<10' 'hypothesis>=6.100,<7'
	touch $@

docs: $(VENV)/.docs
	$(BIN)/python -m mae_jax.config.page docs/config.md
	$(BIN)/zensical build --clean --strict

docs-test: $(VENV)/.test
	$(BIN)/python tests/docs/run_pages.py

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/shellcheck launch/*.sh benchmarks/*.sh
	$(BIN)/hadolint Dockerfile

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.%: setup.py constraints.txt | $(VENV)/bin/python
	$(INSTALL) -e '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) $(INTEROP) $(BEAM) $(RUNS) build *.egg-info
