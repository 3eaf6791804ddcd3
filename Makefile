# hitstream: `make demo` from a fresh checkout, `make test` and `make check` before a commit.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
# What was installed last: the box (demo), with the tools of tests, with those of benchmarks.
BOX := $(VENV)/.box
TOOLS := $(VENV)/.tools
BENCH := $(VENV)/.bench
# Byte code is compiled when it is first used: most of what pip would compile never is. And it is kept, beside the tree:
# each of a box's processes would compile all of its own anew, which takes more CPU than the rest of its start.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/pycache
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt

.PHONY: help install compiled demo kafka test outside check guard soak bench clean

help: ## show this
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20

install: $(TOOLS) compiled ## install into .venv, with the exact versions of constraints.txt

# Of the Pythons that are there the fastest: one built without profile-guided optimization takes a third more CPU a hit.
PYTHONS := python3.13 python3.12 python3.11 python3 /usr/bin/python3
SPEED := import sys, timeit; \
  sys.exit(1) if sys.version_info < (3, 11) else print(int(min(timeit.repeat("str(7).encode()", number=100000)) * 1e6))

$(BIN)/python:
	@found=""; python=""; least=""; \
	for candidate in $(PYTHONS); do \
	  speed=$$($$candidate -c '$(SPEED)' 2>/dev/null) || continue; found=$$candidate; \
	  $$candidate -c 'import ensurepip' 2>/dev/null || continue; \
	  if [ -z "$$python" ] || [ "$$speed" -lt "$$least" ]; then python=$$candidate; least=$$speed; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "hitstream needs Python 3.11 or newer: apt-get install python3 python3-venv (Debian 12, Ubuntu 24.04)," \
	    "or dnf install python3.12 (Fedora, RHEL)" >&2; exit 1; \
	fi; \
	if [ -z "$$python" ]; then \
	  echo "$$found has no venv module: apt-get install python3-venv" >&2; exit 1; \
	fi; \
	$$python -m venv $(VENV)

$(BOX): $(BIN)/python pyproject.toml constraints.txt
	@echo "installing into $(VENV); about a minute"
	$(PIP_INSTALL) --editable '.[embedded,compile]'
	@touch $@

# The hot path by mypyc, where a C compiler is; the same source runs as plain Python where none is.
compiled: $(BOX)
	@$(BIN)/hitstream compile || echo "going on with plain Python: hits cost more"

$(TOOLS): $(BIN)/python pyproject.toml constraints.txt
	@echo "installing into $(VENV); about a minute"
	$(PIP_INSTALL) --editable '.[embedded,compile,test]'
	@touch $(BOX) $@

$(BENCH): $(TOOLS)
	$(PIP_INSTALL) --editable '.[embedded,compile,test,bench]'
	@touch $@

demo: $(BOX) compiled ## run the box on free ports, send shop traffic, show ledger and reports; KEEP=1 leaves it running, KAFKA=1 goes through Kafka
	@$(BIN)/hitstream demo $(if $(KEEP),--keep) $(if $(KAFKA),--kafka)

kafka: $(BOX) ## run a local Apache Kafka until Ctrl-C; needs Java 17 and Maven
	@$(BIN)/hitstream kafka

# With the compiled hot path where it is there (`make install`), as plain Python else: compiling takes over a minute.
test: $(TOOLS) ## run the tests, under 10 minutes
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder -m 'not soak and not outside'

outside: $(TOOLS) compiled ## run the tests that need a browser, nginx, HAProxy or Prometheus; Debian's packages, see .ci/run
	$(BIN)/python -m pytest -m outside

check: $(TOOLS) ## lint, format, types, import law
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_import_law.py

guard: $(TOOLS) compiled ## fail when a hit got dearer than benchmarks/guard.json allows; needs valgrind and wrk
	$(BIN)/python -m benchmarks.guard

soak: $(TOOLS) ## the full-length kill, outage and figure runs; takes an hour
	$(BIN)/python -m pytest -m soak --timeout=7200

bench: $(BENCH) compiled ## measure; results go to benchmarks/results
	$(BIN)/python -m benchmarks

clean: ## remove what was built, data of the demo included
	rm -rf $(VENV) infra/_compiled build dist *.egg-info demo-data .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
