# `make demo` and `make test` need Python 3.11 to 3.13 and make, nothing else.
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
READY := $(VENV)/ready
# Two files of tests at a time; those of one file share what they prepare.
TWO := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo unit test slow chaos coverage lint types check bench schema pins docs screenshots

help:
	@echo "make setup   virtual environment with the pinned versions"
	@echo "make demo    generate data, then check, build, split, train, evaluate, report"
	@echo "make unit    the tests without TensorFlow and other processes: under a minute"
	@echo "make test    all tests but the slow ones"
	@echo "make slow    the tests that take longer"
	@echo "make coverage  which lines make test runs, as a table"
	@echo "make chaos   tests of many minutes, and a thousand drawn mishaps around a store"
	@echo "make check   what CI runs: lint, types, test, slow, demo"
	@echo "make docs    the pages of docs/ as a site, in site/"
	@echo "make screenshots  the pictures in README and docs anew (needs Chromium)"
	@echo "make bench   the benchmarks, as ratios within one run"
	@echo "make pins    resolve requirements.txt anew (needs uv)"
	@echo "make schema  write docs/data_catalog.schema.json anew"

setup: $(READY)

$(READY): requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: Python 3.11, 3.12 or 3.13 is needed; set PYTHON=/path/to/python3"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: setup
	rm -rf demo
	$(BIN)/viptt demo demo

unit: setup
	$(BIN)/python -m pytest $(TWO) -m "unit and not slow" --ignore=tests/model

test: setup
	$(BIN)/python -m pytest $(TWO) -m "not slow"

slow: setup
	$(BIN)/python -m pytest $(TWO) -m "slow and not chaos" --durations=40

coverage: setup
	$(BIN)/python -m pytest -q -m "not slow" --cov --cov-report=term:skip-covered

chaos: setup
	$(BIN)/python -m pytest -m chaos
	$(BIN)/python tests/pipeline/trials.py 1000

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

check: lint types test slow demo

docs: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

screenshots: setup
	$(BIN)/python tests/screenshots.py

bench: setup
	for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

schema: setup
	$(BIN)/python -c 'import json; from pipeline.catalog import json_schema; print(json.dumps(json_schema(), indent=2))' > docs/data_catalog.schema.json

# One set of pins for all: the platform that uv resolved for is taken out of its markers.
pins:
	uv pip compile pyproject.toml --extra all --universal --fork-strategy fewest --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links --output-file requirements.txt
	sed -i -E "s/ ; python_full_version < '3.14' and sys_platform == 'linux' / /; s/ and sys_platform == 'linux'//; \
		s/\(?python_full_version < '3.14' and platform_python_implementation/platform_python_implementation/" requirements.txt
