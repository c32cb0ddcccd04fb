# Marquee. `make` prints this help; `make demo` is the only command that a newcomer needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Where it is set, every process would compile every package that it imports, each time.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NIGHTS := $(VENV)/nights.log
PYTHON ?= $(firstword $(foreach name,python3.12 python3.11 python3,$(shell $(name) -c 'import sys; print(sys.executable) if (3,11) <= sys.version_info[:2] <= (3,12) else None' 2>/dev/null)))

SOURCE ?=
DATA ?=
RECIPE ?=
APPROVE ?= yes

.PHONY: help install demo demo-down up down status test lint bench bench-table clean

help: ## this help
	@echo "Marquee: the nightly release train of a streaming service's recommender"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  make demo SOURCE=movielens DATA=path/to/ml-1m    the same on MovieLens (ml-1m, ml-latest-small)"
	@echo "  make demo APPROVE=ask                            stop at the question: a person answers in the UI (no: reject)"
	@echo "  make demo RECIPE=nano                            a very small world"
	@echo "  MARQUEE_HOME=/some/folder make demo              a second copy beside the first: own ports, own state"

install: $(STAMP) ## set up .venv and Spark's jars; does nothing where that is done

$(STAMP): requirements/dev.txt requirements/uv.txt requirements/jars.txt pyproject.toml
	@PYTHON="$(PYTHON)" local/install.sh

demo: install ## one whole night through the scheduler, to the live shelf; again: the next night
	@$(BIN)/marquee demo --approve "$(APPROVE)" $(if $(SOURCE),--source "$(SOURCE)") $(if $(RECIPE),--recipe "$(RECIPE)") $(if $(DATA),--data "$(DATA)")

demo-down: down ## stop what the demo started

up: install ## start Milvus Lite, Airflow and serving
	@$(BIN)/marquee up

down: ## stop them
	@if [ -x $(BIN)/marquee ]; then $(BIN)/marquee down; else echo "Nothing was running."; fi

status: install ## what runs, what is live, what waits
	@$(BIN)/marquee status

test: install ## all tests; needs nothing but this clone
	@$(BIN)/python -m pytest tests/end_to_end > $(NIGHTS) 2>&1 & nights=$$!; \
	 $(BIN)/python -m pytest --ignore=tests/end_to_end; rest=$$?; \
	 wait $$nights; nights=$$?; echo "The nights through the scheduler, which ran beside:"; cat $(NIGHTS); \
	 exit $$((rest ? rest : nights))

lint: install ## ruff and the import rules
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports

bench: install ## latency of the shelf, of the home that runs now
	@$(BIN)/python -m bench

bench-table: install ## README's quality table, from bench/results
	@$(BIN)/python -m bench.table

clean: down ## stop everything and forget the environment and caches; the home stays
	@rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .import_linter_cache *.egg-info
