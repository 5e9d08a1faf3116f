# Every command of this project; CI calls nothing else. `make` alone lists them.
# Nothing needs to be installed first but Python 3.11 or newer and make.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
READY := $(PYTHON) deploy/bootstrap/bootstrap.py
PYTEST := -m pytest --numprocesses auto --maxprocesses 8 --dist loadscope
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-emit-index-url --no-emit-find-links
CODE := protocol node migrations client tests benchmarks deploy/bootstrap deploy/build deploy/container

# STORE=postgresql runs the tests on PostgreSQL, which they start by themselves.
# TRACE=1 makes `test` record which lines and branches it runs.
# TESTED=1 makes `check` judge that record instead of running the tests again.
STORE ?= sqlite
TRACE ?=
TESTED ?=

.NOTPARALLEL: # the targets share .venv
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-protocol check format lint types imports \
	coverage vectors lock oracle deploy-tools bench soak migration clean

help: ## List the commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv with everything that developing needs
	@$(READY) dev

demo: ## Three nodes on this machine share, find and withdraw a picture's hash (ARGS=--exit: do not stay)
	@$(READY) run
	@$(BIN)/hashlight demo $(ARGS)

test: ## Run the tests (ARGS="-k words tests/node": only some; STORE=postgresql)
	@$(READY) test
	$(if $(TRACE),$(BIN)/coverage erase)
	HASHLIGHT_TEST_STORE=$(STORE) \
		$(BIN)/python $(if $(TRACE),-m coverage run) $(PYTEST) $(ARGS)

test-protocol: ## Test the protocol where neither aiohttp nor SQLAlchemy is installed
	@$(READY) protocol
	.venv-protocol/bin/python $(PYTEST) tests/protocol $(ARGS)

check: setup lint types imports test-protocol ## Everything a change must pass: format, lint, types, imports, tests, coverage
	$(if $(TESTED),,$(MAKE) --no-print-directory test TRACE=1)
	@$(MAKE) --no-print-directory coverage

format: setup ## Put the code into the one format, and mend what ruff can
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

lint: setup ## Check the format and every ruff rule
	$(BIN)/ruff format --check
	$(BIN)/ruff check

types: setup ## Check types: mypy on everything, pyright on the protocol
	$(BIN)/mypy
	$(BIN)/pyright

imports: setup ## Check that imports follow the architecture
	PYTHONPATH=protocol:node:migrations:client $(BIN)/lint-imports --no-cache

coverage: setup ## Judge the last traced tests: all of the protocol, 95 % of the whole
	$(BIN)/coverage combine --quiet --append
	$(BIN)/coverage report --include='protocol/*' --fail-under=100
	$(BIN)/coverage report --fail-under=95

vectors: ## Make the test vectors anew; fails if they differ from the committed ones
	@$(READY) test oracle
	for file in tests/vectors/generate_*.py; do $(BIN)/python $$file || exit; done
	git diff --exit-code --stat -- tests/vectors

lock: setup ## Make requirements/ from pyproject.toml (ARGS=--upgrade: with newer releases)
	$(LOCK) -o requirements/dev.txt pyproject.toml --group dev $(ARGS)
	$(LOCK) -o requirements/test.txt pyproject.toml --group test --no-annotate -c requirements/dev.txt
	$(LOCK) -o requirements/run.txt pyproject.toml --no-annotate -c requirements/dev.txt
	$(LOCK) -o requirements/protocol.txt --group protocol --no-annotate -c requirements/dev.txt
	$(LOCK) -o requirements/oracle.txt --group oracle --no-annotate
	$(LOCK) -o requirements/deploy.txt --group deploy --no-deps --no-annotate $(ARGS)
	$(LOCK) -o requirements/bench.txt pyproject.toml --group bench --no-annotate -c requirements/dev.txt $(ARGS)
	$(LOCK) -o requirements/bench-reference.txt --group bench-reference --no-annotate -c requirements/bench.txt $(ARGS)

oracle: ## Add the reference PDQ to .venv, to compare ours with; needs a C++ compiler
	@$(READY) test oracle

deploy-tools: ## Add .venv-deploy: Helm, Caddy and the others that deploy/ is tested with
	@$(READY) deploy

bench: ## Measure this machine against faiss and threatexchange (ARGS=--quick: in minutes)
	@$(READY) bench
	@$(READY) bench-reference || echo "!! threatexchange cannot be installed: LEFT OUT"
	.venv-bench/bin/python -m benchmarks $(ARGS)

soak: ## Run the tests that take minutes: kills, restarts, load
	@$(READY) test
	HASHLIGHT_TEST_STORE=$(STORE) $(BIN)/python -m pytest -m slow --timeout 1800 $(ARGS)

migration: setup ## Draft a schema migration from store/tables.py (m="what changes")
	$(if $(m),,$(error say what changes: make migration m="add column x"))
	$(BIN)/alembic revision --autogenerate --message "$(m)"

clean: ## Remove everything that make has made
	rm -rf .venv .venv-protocol .venv-bench .venv-deploy .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	rm -f node/hashlight_node/matching/index/_kernel.abi3.so
	find $(wildcard $(CODE)) -name __pycache__ -type d -prune -exec rm -rf {} +
