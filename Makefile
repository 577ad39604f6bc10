PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run test train lint clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.serve  ## set up what serving needs and serve on http://127.0.0.1:8000
	$(BIN)/gunicorn wsgi:app

test: $(VENV)/.all lint  ## set up everything and run every check
	$(BIN)/python -m pytest

train: $(VENV)/.all  ## train the digit model again (RECIPE=digits-baseline for the other)
	$(BIN)/python -m training train $(or $(RECIPE),digits)

lint: $(VENV)/.all  ## ruff and the type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: requirements-serve.txt requirements-common.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-serve.txt
	@touch $@

$(VENV)/.all: $(wildcard requirements*.txt) | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@ $(VENV)/.serve
