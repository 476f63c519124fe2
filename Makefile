# Everything a fresh machine needs is Python 3.11 or newer, pip, make and git.
#   make up      a cluster in the foreground        (ARGS="--nodes 5" passes options on)
#   make test    every test                         (ARGS="-k kubectl" passes options on)
#   make check   formatting, lint, types, layers
#   make bench   the benchmarks, into benchmarks/results
#   make bench-actors  the actor runtime beside Pykka, Thespian and memory channels, and the search of orders
#   make bench-store   the store beside a real etcd (Debian's etcd-server) and PySyncObj
#   make campaign-store  the store's proofs, TIMES=20 times as long as in the tests, from SEED=1000 on
#   make clean   removes what the others made

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin

# The folder `mailbox` must never be taken for the standard library's module of that name.
export PYTHONSAFEPATH := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help up test check lint types layers bench bench-actors bench-store campaign-store clean

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, and $(PYTHON) is older: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# Installed in place, so that only a change of the dependencies calls for another installation.
$(VENV)/.installed: pyproject.toml | $(VENV)/.made
	$(BIN)/pip install --quiet --editable .
	@$(BIN)/python -m compileall -q src/understudy src/understudy/*/  # so that the first start is as fast as the others
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.made
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $(VENV)/.installed $@

up: $(VENV)/.installed
	@exec $(BIN)/understudy up $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/pytest $(ARGS)

check: lint types layers

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pytest tests/test_world_lint.py

types: $(VENV)/.installed-dev
	$(BIN)/mypy -p understudy

layers: $(VENV)/.installed-dev
	$(BIN)/lint-imports

bench: $(VENV)/.installed-bench
	@set -e; for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file $(ARGS); done

$(VENV)/.installed-bench: pyproject.toml | $(VENV)/.made
	$(BIN)/pip install --quiet --editable '.[dev,bench]'
	@touch $(VENV)/.installed $(VENV)/.installed-dev $@

bench-actors: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/bench_actors.py $(ARGS)
	$(BIN)/python benchmarks/bench_search.py $(ARGS)

bench-store: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/bench_store.py $(ARGS)

# The core's storms; comparison with a real etcd, histories under faults in simulation, real processes killed: see
# tests/raftstore/proof.
TIMES ?= 20
SEED ?= 1000
campaign-store: $(VENV)/.installed-dev
	UNDERSTUDY_CAMPAIGN=$(TIMES) UNDERSTUDY_SEED=$(SEED) $(BIN)/pytest \
		tests/raftstore/test_raft_properties.py tests/raftstore/proof -s --durations=5 $(ARGS)

clean:
	rm -rf $(VENV) dist build .understudy .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
