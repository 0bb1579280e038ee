# make demo   all set-up, then the main job: forget a label and show how far that went
# make test   all set-up, then the tests
# make check  format, lint, types, import layers, docs
PYTHON ?= python3
PIP_FLAGS := --quiet --disable-pip-version-check
BIN := .venv/bin

.PHONY: demo test check format clean

demo: .venv/run.stamp
	$(BIN)/unlabel demo --out demo

test: .venv/dev.stamp
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

check: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_docs.py

format: .venv/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv demo

# A stamp is newer than pyproject.toml once its install has succeeded, so a second call is quick.
.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "unlabel needs Python 3.11 or later; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv

.venv/run.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/pip install $(PIP_FLAGS) --editable .
	touch $@

.venv/dev.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/pip install $(PIP_FLAGS) --editable '.[dev]'
	touch $@ .venv/run.stamp
