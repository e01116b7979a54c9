# Everything a contributor runs. The environment is .venv, made once from the dev extra, pinned by constraints.txt.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RUN ?= runs/demo

.DEFAULT_GOAL := help
.PHONY: help demo test check bench fields docs test-core test-pythons pictures clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(READY) ## train a growing network on real data, told end to end (about two minutes)
	rm -rf $(RUN)
	$(BIN)/esper train --task digits --run-dir $(RUN)

test: check ## every check and every test
	$(BIN)/pytest
	$(MAKE) test-core

check: $(READY) ## formatting, lint, types (mypy and pyright), import arrows
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy src/esper/
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

test-core: $(READY) ## the wheel alone, without any extra, in an environment of its own
	rm -rf build/core
	$(BIN)/python -m build --wheel --outdir build/core/dist . > /dev/null
	$(PYTHON) -m venv build/core/venv
	build/core/venv/bin/pip install --quiet --disable-pip-version-check build/core/dist/*.whl
	build/core/venv/bin/python tests/core_alone.py

clean: ## what the other targets made, but for the environment
	rm -rf build dist runs .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
