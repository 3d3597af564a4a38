# `make quickstart` and `make test` need only Python 3.10+ and make: they set up .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-slow conformance lint parity modes training pictures clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

# A stamp per set of packages, renewed when the requirements change. torch and torchvision are installed together, as a pair.
$(VENV)/training: setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install torch torchvision
	$(BIN)/pip install --editable ".[training]"
	@touch $@

$(VENV)/dev: $(VENV)/training
	$(BIN)/pip install --editable ".[dev]"
	@touch $@

quickstart: $(VENV)/training  ## Train a small CrossViT on handwritten digits, see examples/quickstart.py
	$(BIN)/python examples/quickstart.py

test: $(VENV)/dev  ## Run the tests
	$(BIN)/python -m pytest

test-slow: $(VENV)/dev  ## Run the heavier tests: interrupted training, FSDP2, the largest model
	$(BIN)/python -m pytest -m slow

conformance: $(VENV)/dev  ## Run transformers' own common tests on our classes: tests/conformance
	$(BIN)/python -m pytest tests/conformance --quiet -rN

lint: $(VENV)/dev  ## Check style, transformers' model rules and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mlinter --no-progress modeling_crossvit configuration image_processing
	$(BIN)/mypy

parity: $(VENV)/dev  ## Measure the differences to timm again: docs/parity.md
	$(BIN)/python benchmarks/parity.py

modes: $(VENV)/dev quickstart  ## Measure what compilation, export and quantisation change: docs/execution_modes.md
	$(BIN)/python benchmarks/execution_modes.py

training: $(VENV)/dev quickstart  ## Measure what the training examples reach: docs/training.md
	$(BIN)/python benchmarks/training.py

pictures: $(VENV)/dev  ## Draw the pictures of the documents again
	$(BIN)/python docs/draw_architecture.py

clean:  ## Remove everything that was built or written
	rm -rf $(VENV) build dist outputs *.egg-info
