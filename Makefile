# Everything sets itself up: `make demo` and `make test` work in a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo test test-all lint format serve bench torture clean
.DEFAULT_GOAL := help

help: ## show this
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11) and "triage-node needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

setup: $(READY) ## make .venv with the pinned packages and the program

demo: $(READY) ## the main job, end to end, on this machine
	$(BIN)/triage-node demo

test: $(READY) ## the tests
	$(BIN)/python -m pytest -m "not slow"

test-all: $(READY) ## the tests, the slow ones too
	$(BIN)/python -m pytest

lint: $(READY) ## style, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## put the code into the house's form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

serve: $(READY) ## run the service with ./service.toml
	$(BIN)/triage-node serve

bench: $(READY) ## measure: receiving, loading, and time to the alert
	$(BIN)/python -m tests.bench.receive
	$(BIN)/python -m tests.bench.load
	$(BIN)/python -m tests.bench.latency
	$(BIN)/python -m tests.bench.nodule

torture: $(READY) ## kill processes at random moments; KILLS=20 by default
	$(BIN)/python -m tests.system.killing --kills $(or $(KILLS),20)

clean: ## remove what was built
	rm -rf $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
