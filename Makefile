# `make quickstart` and `make test` need only Python 3.10+ and make: they set up .venv themselves.
PYTHON ?= python3

# `make test TORCH=2.6.0` runs in an environment of its own, with this PyTorch, the torchvision that belongs to it, and no package that needs
# a newer one.
TORCH ?=
VENV := .venv$(addprefix -torch-,$(TORCH))
BIN := $(VENV)/bin
ifneq ($(TORCH),)
NUMBERS := $(subst ., ,$(TORCH))
PINNED := torch==$(TORCH) torchvision==0.$(shell expr $(word 2,$(NUMBERS)) + 15).$(word 3,$(NUMBERS))
endif

# Development follows the newest release of transformers; `make test TRANSFORMERS=5.23.0` exchanges it for that one first.
TRANSFORMERS ?=
DEV := $(VENV)/transformers-$(or $(TRANSFORMERS),newest)

# The tests run on one thread each (tests/conftest.py). A file stays in one process, so that its tests share what they set up.
TWO_PROCESSES := --numprocesses 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-examples test-slow research conformance upstream lint release-check pictures clean
.PHONY: check-gpu benchmark-training benchmark-parity benchmark-modes benchmark-solar-cells benchmark-speed benchmark-images benchmark-deployment benchmark-using

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 30

# A stamp per set of packages, renewed when the requirements change. torch and torchvision are installed together, as a pair.
# The folders are named because the installation is a folder of links: a new file needs its link.
$(VENV)/training: setup.py pyproject.toml modeling_crossvit modeling_crossvit/data modeling_crossvit/inference modeling_crossvit/weights configuration image_processing
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install $(or $(PINNED),torch torchvision)
	$(BIN)/pip install --editable ".[training]" $(PINNED)
	@touch $@

$(VENV)/dev: $(VENV)/training
	$(BIN)/pip install --editable ".[$(if $(TORCH),test,dev)]" $(PINNED)
	@touch $@

# There is one such stamp at a time: it names the release of transformers that is installed.
$(DEV): $(VENV)/dev
	$(BIN)/pip install --upgrade --editable . $(PINNED) transformers$(if $(TRANSFORMERS),==$(TRANSFORMERS))
	@rm -f $(VENV)/transformers-*
	@touch $@

quickstart: $(VENV)/training  ## Train a small CrossViT on handwritten digits, see examples/quickstart.py
	$(BIN)/python examples/quickstart.py

test: $(DEV)  ## Run the tests of the library
	$(BIN)/python -m pytest --ignore tests/examples $(TWO_PROCESSES)

test-examples: $(DEV)  ## Run the tests of the training examples
	$(BIN)/python -m pytest tests/examples $(TWO_PROCESSES)

test-slow: $(DEV)  ## Run the heavier tests: interrupted training, FSDP2, the largest model
	$(BIN)/python -m pytest -m slow $(TWO_PROCESSES)

research: $(DEV)  ## Run the tests of research/, and a quick form of its study
	$(BIN)/python -m pytest research $(TWO_PROCESSES)

conformance: $(DEV)  ## Run transformers' own tests on the model in transformers' tree and on this package: tests/conformance
	$(BIN)/python -m pytest tests/conformance --quiet -rN

upstream: $(DEV)  ## Write the model into a tree of transformers, `make upstream TREE=../transformers`: docs/upstream.md
	$(BIN)/python -m upstream.export $(TREE)

lint: $(DEV)  ## Check style, transformers' model rules and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mlinter --no-progress modeling_crossvit configuration image_processing
	$(BIN)/mypy

release-check: $(DEV)  ## Build the wheel and the source distribution, and try each in a clean environment
	$(BIN)/pip install --quiet build twine
	$(BIN)/python tests/release_check.py

benchmark-parity: $(DEV)  ## Measure the differences to timm again: docs/parity.md
	$(BIN)/python -m benchmarks.parity

benchmark-modes: $(DEV) quickstart  ## Measure what compilation, export and quantisation change: docs/execution_modes.md
	$(BIN)/python -m benchmarks.execution_modes

benchmark-training: $(DEV) quickstart  ## Measure what the training examples reach: docs/training.md
	$(BIN)/python -m benchmarks.training

benchmark-solar-cells: $(DEV)  ## Measure how well solar cells are judged: docs/solar_cells.md
	$(BIN)/python -m benchmarks.solar_cells

benchmark-speed: $(DEV)  ## Measure the speed beside timm and ViT: docs/speed.md and the README
	$(BIN)/python -m benchmarks.speed

check-gpu: $(DEV)  ## On a machine with a GPU: its tests and its speed, in 4 minutes: docs/speed.md and the README
	$(BIN)/python -m benchmarks.check_gpu

benchmark-deployment: $(DEV) quickstart  ## Run the command that finds the fastest form: docs/deployment.md
	$(BIN)/python -m benchmarks.deployment

benchmark-using: $(DEV) quickstart  ## Run the commands of docs/using_a_model.md, and measure its maps
	$(BIN)/python -m benchmarks.using_a_model

benchmark-images: $(DEV)  ## Measure the image processors and pipelines: docs/images.md
	$(BIN)/python -m benchmarks.images

pictures: $(DEV) quickstart  ## Draw the pictures of the documents again
	$(BIN)/python -m benchmarks.draw_architecture
	$(BIN)/python -m benchmarks.draw_demo

clean:  ## Remove everything that was built or written
	rm -rf $(VENV) build dist outputs *.egg-info
