# Everything a contributor runs. The environment is .venv, made once from the dev extra, pinned by constraints.txt.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
# the first that runs and is new enough; the oldest first, because the pins were made with it
PYTHON ?= $(shell for each in python3.11 python3.12 python3.13 python3.14 python3 python; do \
  $$each -c '$(NEW_ENOUGH)' 2> /dev/null && { echo $$each; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RUN ?= runs/demo

# The tests start hundreds of processes: what one has compiled is kept for the next, elsewhere if not beside the sources.
ifdef PYTHONDONTWRITEBYTECODE
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/build/bytecode
endif

.DEFAULT_GOAL := help
.PHONY: help demo test check lint mypy pyright types test-core test-wheel dist test-pythons pictures bench verdicts mutants soak fields contract docs links clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

# Not compiled beforehand: half of the time would go to modules that nobody imports.
$(READY): pyproject.toml constraints.txt
	@$(or $(PYTHON),false) -c '$(NEW_ENOUGH)' || { \
	  echo "esper needs Python 3.11 or newer: install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --no-compile --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(READY) ## train a growing network on real data, recorded end to end (about two minutes)
	rm -rf $(RUN)
	$(BIN)/esper train --task digits --run-dir $(RUN)

test: $(READY) ## every check, the documentation and every test, with the branch coverage of src
	$(MAKE) --jobs 2 check docs test-core $(ALSO)
	$(BIN)/pytest -n 3 --dist worksteal --cov

check: lint mypy pyright ## formatting, lint, types (mypy and pyright), import arrows

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

mypy: $(READY)
	$(BIN)/mypy

pyright: $(READY)
	$(BIN)/pyright
	$(BIN)/pyright -p tests/typing

PYTHONS := 3.12 3.13 3.14

types: $(READY) ## mypy and pyright for the later Pythons; make check has the first
	set -e; for version in $(PYTHONS); do \
	  $(BIN)/mypy --python-version $$version; \
	  $(BIN)/pyright --pythonversion $$version; \
	  $(BIN)/pyright --pythonversion $$version -p tests/typing; done

test-core: $(READY) ## the wheel alone, without any extra, in an environment of its own
	rm -rf build/core
	$(BIN)/python -m build --wheel --outdir build/core/dist . > /dev/null
	$(BIN)/python -m venv build/core/venv
	build/core/venv/bin/pip install --quiet --disable-pip-version-check build/core/dist/*.whl
	build/core/venv/bin/python tests/core_alone.py

dist: $(READY) ## sdist and wheel as they would be released: checked, the sdist's own tests, the wheel alone with each extra and page
	rm -rf build/dist build/unpacked
	$(BIN)/python -m build --outdir build/dist . > /dev/null
	$(BIN)/twine check --strict build/dist/*
	mkdir build/unpacked
	tar -xzf build/dist/*.tar.gz -C build/unpacked --strip-components 1
	cd build/unpacked && PYTHONPATH=src ../../$(BIN)/pytest -q -n 2 --dist worksteal
	$(BIN)/python tests/extras_alone.py build/dist/*.whl build/alone constraints.txt $(if $(TORCH),--torch)

test-wheel: ## the contract's tests against the built wheel, with any Python: make test-wheel PYTHON=python3.14
	rm -rf build/wheel
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/pip install --quiet --disable-pip-version-check build
	build/wheel/venv/bin/python -m build --wheel --outdir build/wheel/dist . > /dev/null
	build/wheel/venv/bin/pip install --quiet --disable-pip-version-check build/wheel/dist/*.whl \
	  --requirement tests/pythons/requirements.txt
	build/wheel/venv/bin/python -m pytest -c tests/pythons/pytest.ini --rootdir . -q tests/golden/test_golden.py tests/typing/test_accepted.py \
	  tests/leyline/test_payload.py tests/leyline/test_event.py tests/leyline/test_codec.py tests/leyline/test_wire.py

test-pythons: $(READY) ## the contract on CPython 3.12, 3.13 and 3.14, in WebAssembly; needs Node
	mkdir -p build/pythons/wheels
	cp tests/pythons/package.json build/pythons/
	npm install --prefix build/pythons --silent --no-audit --no-fund
	$(BIN)/pip download --quiet --disable-pip-version-check --only-binary :all: --dest build/pythons/wheels \
	  --requirement tests/pythons/requirements.txt
	for version in $(PYTHONS); do node --stack-size=7000 tests/pythons/run.mjs build/pythons $$version || exit 1; done

pictures: $(READY) ## the pictures in docs, of stages, rooms and the run of make demo; needs Chromium
	$(BIN)/python docs/picture_seed_life.py
	$(BIN)/python docs/picture_rooms.py
	$(BIN)/python docs/picture_dashboard.py $(RUN)
	$(BIN)/python docs/picture_report.py $(RUN)

$(VENV)/.bench: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt 'pip>=25.1'  # the first that knows groups
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group bench
	touch $@

bench: $(VENV)/.bench ## ratios against the alternatives, measured beside them; nothing is asserted
	@for table in contract end_to_end reading delivery aggregator training_share foreign_trainer checkpoint training_loop views; do \
	  echo "## $$table"; echo; $(BIN)/python benchmarks/$$table.py; echo; done

verdicts: $(READY) ## the verdict on trouble and on healthy runs, beside what others say (the first time an hour: it trains them)
	$(BIN)/python benchmarks/verdicts.py

mutants: $(READY) ## the fold with one thing changed at a time: what its tests let live is printed (minutes; SAMPLE=20 of each module: fewer)
	$(BIN)/python benchmarks/mutants.py $(if $(SAMPLE),--sample $(SAMPLE))

soak: $(READY) ## runs under signals, failing system calls, hostile values, damaged files, another trainer, and ten times the drawn examples: SECONDS=600; needs gcc
	$(BIN)/python benchmarks/soak.py kills --times 100
	PYTHONPATH=. $(BIN)/python tests/killed_runs.py --times $(or $(RUNS),100)
	$(BIN)/python benchmarks/faults.py --seconds $(or $(SECONDS),600)
	PYTHONPATH=. $(BIN)/python tests/mutations.py --times $(or $(MUTATIONS),100000)
	LINES=$(or $(LINES),100000) $(BIN)/pytest -q --timeout 0 tests/leyline/test_plain_way.py -k to_the_byte
	$(BIN)/python benchmarks/maskable.py
	EVERY_CASE=1 $(BIN)/pytest -q tests/integrations/test_watched_update.py
	EFFORT=10 $(BIN)/pytest -q -m hypothesis

fields: $(READY) ## run every mode briefly, and what became of each field in it (docs/fields.md)
	@PYTHONPATH=. $(BIN)/python tests/field_census.py

contract: $(READY) ## after a payload was edited: write what is derived from it and kept (docs/changing-the-contract.md)
	@mkdir -p build
	@$(BIN)/python -m tests.golden.contract
	@PYTHONPATH=. $(BIN)/python tests/field_census.py > build/fields.md; mv build/fields.md docs/fields.md

docs: $(READY) ## the documentation as a site, build/site/index.html; a warning is an error (its examples run in make test)
	$(BIN)/sphinx-build --quiet --fail-on-warning --builder html --doctree-dir build/doctrees docs build/site

links: $(READY) ## whether the links out of the documentation lead somewhere; needs the network
	$(BIN)/sphinx-build --quiet --builder linkcheck --doctree-dir build/doctrees docs build/links

clean: ## what the other targets made, but for the environment
	rm -rf build dist runs node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
