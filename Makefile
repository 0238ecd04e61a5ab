# The commands people call. `make` alone lists them; what is longer than a line lives in scripts/.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
export PYTHONUNBUFFERED := 1
PYTHON := .venv/bin/python
ARGS ?=
# Tests run in so many processes at once, each with servers of its own.
PROCESSES ?= 2

.NOTPARALLEL:
.PHONY: help demo test test-all lint bench chaos lock docs clean environment-run environment-dev java mariadb

help: ## list the targets
	@echo 'make <target> [ARGS="…"]'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: environment-run $(if $(findstring --kafka,$(ARGS)),java) ## start everything, run the main job, stay up (ARGS="--once", "--once --kafka")
	@exec .venv/bin/ngsp demo $(ARGS)

test: environment-dev java mariadb lint ## lint, then all tests but the long ones, on real PostgreSQL, MariaDB and Kafka
	@$(PYTHON) -m pytest -n $(PROCESSES) -m "not long" $(ARGS)

test-all: environment-dev java mariadb lint ## the long tests as well
	@$(PYTHON) -m pytest -n $(PROCESSES) $(ARGS)

lint: environment-dev ## ruff, mypy --strict (tests included), the direction of imports
	@echo 'ruff check'; $(PYTHON) -m ruff check --quiet .
	@echo 'ruff format --check'; $(PYTHON) -m ruff format --quiet --check .
	@echo 'mypy --strict'; $(PYTHON) -m mypy
	@echo 'lint-imports'; .venv/bin/lint-imports

bench: environment-dev java ## measure the floor and the full path, print their ratio
	@$(PYTHON) -m bench $(ARGS)

chaos: environment-dev java ## kill parts at random under load, then reconcile (ARGS="--kills 1000 --seed 7")
	@$(PYTHON) -m tests.faults.chaos $(ARGS)

lock: environment-dev ## recompile requirements/*.txt with hashes (ARGS="--upgrade" for newer versions)
	@scripts/lock $(ARGS)

docs: environment-dev ## make the pages in docs/ that come from the code
	@$(PYTHON) -m ngsp.docs $(ARGS)

clean: ## delete the environment and all caches; data folders stay
	@scripts/clean

environment-run:
	@scripts/environment run

environment-dev:
	@scripts/environment dev

java:
	@scripts/ensure-java

mariadb:
	@scripts/ensure-mariadb
