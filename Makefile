# Two commands on a fresh machine: `make simulate`, `make test`. Everything lives in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One process more than processors: real deployments, whose tests mostly wait, leave them idle.
PROCESSES := $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
PARALLEL := --numprocesses $(PROCESSES) --maxprocesses 4 --dist loadfile --no-loadscope-reorder

export FLWR_TELEMETRY_ENABLED := 0
export RAY_USAGE_STATS_ENABLED := 0
# Tests start many interpreters, each of which would compile the app anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install simulate test test-all audit deployment-test wheel-test check docs format clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; choose one with make PYTHON=python3.11")'
	@echo "Installing into $(VENV) (a few minutes the first time) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: $(STAMP) ## Create .venv and install everything

simulate: $(STAMP) ## Train the default federation and print what it cost in privacy
	@$(BIN)/flower-simulation

test: $(STAMP) ## Run the tests; of the exhaustive ones a sample
	@$(BIN)/pytest $(PARALLEL)

test-all: $(STAMP) ## Run the tests with every exhaustive one (not deployment-test)
	@$(BIN)/pytest $(PARALLEL) -m "not deployment"

audit: $(STAMP) ## Send canary patients through whole trainings; reconcile with every ledger
	@$(BIN)/flower-simulation audit --data

deployment-test: $(STAMP) ## Deploy here: the default scenario, then faults (FAULT=name for one)
	@$(BIN)/pytest -m "deployment or not deployment" tests/deployment/test_deployed.py
	@$(BIN)/pytest -m deployment tests/asclepias/test_example_apps.py
	@$(BIN)/pytest -m deployment tests/deployment/test_faults.py $(if $(FAULT),-k "$(FAULT)")

wheel-test: $(STAMP) ## Run the fast tests against the built wheel, alone (ROOM=crypto for one)
	@$(BIN)/pytest -m deployment tests/asclepias/test_wheel.py $(if $(ROOM),-k "$(ROOM)")

check: $(STAMP) docs ## Lint, types, the rules about who may import whom, and the site
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: $(STAMP) ## Build the site into _site/; any broken link fails, and nothing is fetched
	@$(BIN)/python -m sphinx --builder html --quiet --fail-on-warning --keep-going \
		--doctree-dir _site/.doctrees --conf-dir docs . _site

format: $(STAMP) ## Sort imports and format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## Remove the environment and caches (never runs/)
	@rm -rf $(VENV) _site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
