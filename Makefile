PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LIGHT := .venv-light
OLDEST := .venv-oldest
# Files of tests side by side, one a core; each has a browser and servers, which need memory.
SPREAD := -n auto --maxprocesses 4 --dist loadfile
LOCK := --universal --python-version 3.13 --generate-hashes --upgrade --quiet -o requirements.lock

.DEFAULT_GOAL := help
.PHONY: help run light test test-oldest train lint lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.serve  ## set up what serving needs and serve on http://127.0.0.1:8000
	$(BIN)/gunicorn wsgi:app

light: $(LIGHT)/.serve  ## the same without torch, in a fifth of the disk
	$(LIGHT)/bin/gunicorn wsgi:app

test: $(VENV)/.all lint  ## set up everything and run every check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SPREAD)

test-oldest: $(OLDEST)/.all  ## the tests with the oldest allowed versions, but for browsers and lint
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest $(SPREAD) -W default --ignore=tests/browser --ignore=tests/test_contributing.py

train: $(VENV)/.all  ## train the digit model again (RECIPE=digits-baseline for the other)
	$(BIN)/python -m training train $(or $(RECIPE),digits)

lint: $(VENV)/.all  ## ruff and the type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: $(VENV)/.serve  ## pin what the Docker image installs, with hashes, to the newest versions
	$(BIN)/python -m pip install --disable-pip-version-check uv
	$(BIN)/uv pip compile requirements-light.txt $(LOCK)

clean:  ## remove the virtual environments and caches
	rm -rf $(VENV) $(LIGHT) $(OLDEST) .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: requirements-serve.txt requirements-common.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-serve.txt
	@touch $@

$(LIGHT)/.serve: requirements-light.txt requirements-common.txt
	$(PYTHON) -m venv $(LIGHT)
	$(LIGHT)/bin/python -m pip install --disable-pip-version-check -r requirements-light.txt
	@touch $@

$(VENV)/.all: $(wildcard requirements*.txt) | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@ $(VENV)/.serve

$(OLDEST)/.all: $(wildcard requirements*.txt)
	$(PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/bin/python -m pip install --disable-pip-version-check uv
	$(OLDEST)/bin/uv pip install --python $(OLDEST) --resolution lowest-direct -r requirements.txt
	@touch $@
