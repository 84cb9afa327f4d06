# Each target is a thin name for a command; what it does stands with the command.
PYTHON ?= python3
BIN := .venv/bin

# Where the environment tells Python to keep nothing that it compiled, as images of it do, each process of tests would
# rewrite all of them, 7 s of a core. What is kept is in folders that git ignores and `make clean` removes.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo up down test test-full check format schemas lock lock-check bench clean

help: ## What can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: .venv/.done ## Python packages into .venv, PostgreSQL and RabbitMQ for this machine's own use

.venv/.done: requirements.lock pyproject.toml
	$(PYTHON) -m deploy.local.bootstrap .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	$(BIN)/python -m deploy.local.prepare
	@touch $@

demo: setup ## Everything, simulated, live in this terminal, until Ctrl-C
	$(BIN)/expressync demo

up: setup ## The four services, against the SteVe and Lago of .env
	$(BIN)/expressync up

down: setup ## Stop what runs, delete the private data of the demo
	$(BIN)/expressync down

# Four files at a time, in the order of tests/costs.py, each process with servers of its own: much of a test is waiting.
# More would fill both cores, and tests of deadlines compare what they see with what the same machine did a moment ago.
PYTEST := $(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder

test: setup ## The test suite, large cases scaled down
	$(PYTEST) -m "not full"

test-full: setup ## The test suite with the large cases as written
	$(PYTEST)

check: setup ## Formatting, lint, types, the rules of the house, current schemas
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m deploy.local.documents --check

format: setup ## Put the code into its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schemas: setup ## Write the exported OpenAPI, AsyncAPI, JSON Schemas and .env.example anew
	$(BIN)/python -m deploy.local.documents

lock: setup ## Resolve requirements.lock anew, after a change of the dependencies in pyproject.toml
	$(BIN)/python -m deploy.local.lock

lock-check: setup ## Try requirements.lock under each supported Python of this machine
	$(BIN)/python -m deploy.local.lock --check

bench: setup ## All benchmarks; `make bench-outbox` runs one
	$(BIN)/python -m tests.bench

bench-%: setup
	@$(BIN)/python -m tests.bench $*

clean: ## Stop everything, remove .venv, .local and caches (data of `up` only after asking)
	@[ ! -x $(BIN)/expressync ] || $(BIN)/expressync down
	rm -rf .local/demo .local/packages .local/tools .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	@rmdir .local 2>/dev/null || true
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@[ ! -e .local/live ] || echo "Kept .local/live, the data of your stack: rm -rf .local/live deletes it, make up goes on with it."
