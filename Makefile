# The few things that one does with this project. `make test` and `make demo` set up what they need by themselves.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
CODE := agent benchmarks tests tools
LOCK := $(BIN)/uv pip compile --quiet --universal --no-strip-extras --python-version 3.11 --generate-hashes --custom-compile-command "make lock"

# Stamps: a step runs again when what it depends on has changed.
SYSTEM_STAMP := $(VENV)/.system-packages
PYTHON_STAMP := $(VENV)/.python-packages
NODE_STAMP := $(VENV)/.node-packages

# What `make simulate` and `make campaign` play: how many cuts, from which seed on, in how many processes.
CUTS ?= 20000
KILLS ?= 100
SEED ?= 1
WORKERS ?= $(shell nproc)

.PHONY: help setup test coverage bench simulate campaign demo deb drill lint types imports unit format lock states clean

help: ## What can be made
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

setup: $(NODE_STAMP) ## System packages, .venv and test tools, as far as they are missing

$(SYSTEM_STAMP): tools/install-system-packages.sh
	@echo "setup: system packages"
	@tools/install-system-packages.sh
	@mkdir -p $(VENV) && touch $@

$(PYTHON_STAMP): $(SYSTEM_STAMP) pyproject.toml requirements/runtime.txt requirements/test.txt requirements/build.txt
	@echo "setup: Python packages in $(VENV)"
	@test -x $(BIN)/python || "$$(tools/install-system-packages.sh --print-python)" -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes \
		-r requirements/build.txt -r requirements/runtime.txt -r requirements/test.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(NODE_STAMP): $(PYTHON_STAMP) $(wildcard tests/package-lock.json)
	@echo "setup: Node packages for tests"
	@npm ci --prefix tests --silent --no-audit --no-fund
	@touch $@

test: setup lint types imports unit ## Everything that must be green

lint: $(PYTHON_STAMP)
	@echo "lint: ruff"
	@$(BIN)/ruff check --quiet $(CODE)
	@$(BIN)/ruff format --quiet --check $(CODE)

types: $(PYTHON_STAMP)
	@echo "types: mypy --strict"
	@$(BIN)/mypy --no-error-summary

imports: $(PYTHON_STAMP)
	@echo "imports: layers and decisions without I/O"
	@$(BIN)/lint-imports --no-logo

unit: setup
	@echo "tests"
	@$(BIN)/python -m pytest -q

coverage: setup ## The tests once more, and which lines of agent/ they do not reach
	@$(BIN)/python -m pytest -q --cov --cov-report=
	@$(BIN)/coverage report

bench: $(PYTHON_STAMP) ## The figures of docs/figures.md, measured here: ONLY="page idle" some of them, JSON=FILE for machines
	@$(BIN)/python -m benchmarks $(ONLY) $(if $(JSON),--json $(JSON))

simulate: $(PYTHON_STAMP) ## Power cuts without end: CUTS=N SEED=S WORKERS=W, EXHAUSTIVE=first|sampled|whole with EVERY=N, REPLAY=1
	@$(BIN)/python -m tests.simulation --cuts $(CUTS) --seed $(SEED) --workers $(WORKERS) \
		$(if $(EXHAUSTIVE),--exhaustive $(EXHAUSTIVE)) $(if $(EVERY),--every $(EVERY)) $(if $(REPLAY),--replay)

campaign: $(PYTHON_STAMP) ## The real agent killed at random moments: KILLS=N SEED=S KIND=all|agent|office|printer|cable WORKERS=W
	@$(BIN)/python -m tests.campaign --kills $(KILLS) --seed $(SEED) --workers $(WORKERS) $(if $(KIND),--kind $(KIND))

demo: setup ## A working day of 80 books on the virtual printer, with two power cuts
	@$(BIN)/print-agent demo

deb: $(PYTHON_STAMP) ## The Debian package for Debian 12 and 13, in dist/
	@$(BIN)/python -m tools.build_deb

drill: $(PYTHON_STAMP) ## The package's whole life in booted Debian 12 and 13 (root; some minutes)
	@PYTHON=$(BIN)/python tools/install-drill.sh

format: $(PYTHON_STAMP) ## Formats the code and sorts the imports
	@$(BIN)/ruff check --quiet --fix $(CODE) || true
	@$(BIN)/ruff format --quiet $(CODE)

lock: $(PYTHON_STAMP) ## Pins newer versions in requirements/*.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check uv
	@$(LOCK) --upgrade pyproject.toml -o requirements/runtime.txt
	@$(LOCK) --upgrade requirements/test.in -o requirements/test.txt
	@$(LOCK) --upgrade requirements/build.in -o requirements/build.txt

states: $(PYTHON_STAMP) ## Draws the state diagram of docs/architecture.md from the table
	@$(BIN)/python -m tools.write_states

clean: ## Removes everything that was made
	@rm -rf $(VENV) tests/node_modules build dist demo *.egg-info
	@rm -rf .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
