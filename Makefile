# make demo   all set-up, then the main job: forget a label and show how far that went
# make test   all set-up, then the tests: 10 to 20 minutes on 2 cores
# make test-all   the same with every case, where `make test` takes a fixed part of them: for the day before a release
# make test-quick   the same with some files of every room: about 90 seconds, for while you write
# make check  format, lint, types, import layers, docs
# make bench  how fast the program is here, as ratios in one run
# make docs   the manual, as pages in site/
PYTHON ?= python3
PIP_FLAGS := --quiet --disable-pip-version-check --no-compile
BIN := .venv/bin
# pip writes bytecode on one core; `compileall` takes all. Some packages hold files for other Pythons: it fails on
# those, and goes on.
COMPILE := $(BIN)/python -m compileall -qq -j 0 .venv/lib src || true

# Files that test one room each and train hardly anything; tests marked slow are left out. `tests/test_docs.py` sees to it that no room lacks one.
QUICK := $(addprefix tests/, \
	audit/test_claims.py audit/test_deciding.py \
	bench/test_bench.py \
	cli/test_settings.py cli/test_commands.py \
	compare/test_table.py compare/test_page.py \
	core/test_loss.py core/test_randomness.py core/test_recipe.py core/test_request.py \
	data/test_batches.py data/test_folder.py data/test_splits.py \
	exchange/test_export.py \
	forget/test_edit.py forget/test_feature_layer.py forget/test_pipeline.py forget/test_select.py \
	models/test_build.py models/test_features.py models/test_head.py \
	report/test_card.py report/test_page.py \
	reproduce/test_measures.py reproduce/test_plan.py \
	runs/test_folder.py \
	statement/test_canonical.py statement/test_schema.py statement/test_tensors.py \
	statistics/test_estimate.py \
	testing/test_cheats.py training/test_fit.py \
	test_docs.py)

.PHONY: demo test test-all test-quick check check-types check-style check-docs bench docs format clean

demo: .venv/run.stamp
	$(BIN)/unlabel demo --out demo

test: .venv/dev.stamp
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

test-all: .venv/dev.stamp
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --all

test-quick: .venv/dev.stamp
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m 'not slow' $(QUICK)

bench: .venv/run.stamp
	$(BIN)/unlabel bench --out bench.json --force

# Three parts, which `make --jobs 2 check` runs side by side.
check: check-types check-style check-docs

check-types: .venv/dev.stamp
	$(BIN)/basedpyright

check-style: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

check-docs: .venv/dev.stamp
	$(BIN)/python -m pytest -q -m 'not slow' tests/test_docs.py

# The options and the figures come from the program; `make docs` also writes their pages anew.
docs: .venv/dev.stamp
	$(BIN)/python -c 'from unlabel.cli.app import build_app; from unlabel.forget.methods import METHODS; print(build_app(METHODS).generate_docs(usage_name="unlabel").rstrip())' > docs/options.md
	$(BIN)/python -m unlabel.audit.figures > docs/figures.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo site/index.html

format: .venv/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv demo site

# A half-made environment is removed again, so that the next call makes it anew.
# A stamp is newer than pyproject.toml once its install has succeeded, so a second call is quick.
.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "unlabel needs Python 3.11 or later; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/run.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install $(PIP_FLAGS) --editable .
	$(COMPILE)
	touch $@

.venv/dev.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install $(PIP_FLAGS) --editable '.[dev]'
	$(COMPILE)
	touch $@ .venv/run.stamp
