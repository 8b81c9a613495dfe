# `make demo` and `make test` each work on a fresh clone with nothing but Python.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-faults lint docs
.DELETE_ON_ERROR:

demo: .venv/installed
	$(BIN)/une-jax demo --out demo

test: .venv/installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Each kill, power cut, refusal, race and flipped byte, and many more examples: hours.
test-faults: .venv/installed-test
	UNE_FAULTS=all $(BIN)/python -m pytest -n 2 tests/une_jax/faults

lint: .venv/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

# Into site/; a warning is an error.
docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e .
	touch $@

.venv/installed-test: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) torch==2.13.0
	$(PIP) -e '.[test]'
	touch $@ .venv/installed

.venv/installed-docs: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[docs]'
	touch $@ .venv/installed
