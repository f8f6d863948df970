# make quickstart   an environment, one embedded data set, four methods from base to new, one table
# make test         an environment, with what tests need beside it, then the tests, on all cores; PYTEST_ARGS="-n 0 -k name" goes on top
# make fuzz         thousands of spoilt inputs: SEED=1 BUDGET=20000 (inputs) or BUDGET=600s (seconds)
# make compare      all methods on the embedded data sets, one table; about an hour on two cores, goes on where it stopped
SHELL := /bin/bash
# The active virtual or conda environment is used as it is; otherwise .venv is made from requirements.txt.
ACTIVE := $(or $(VIRTUAL_ENV),$(CONDA_PREFIX))
VENV := $(or $(ACTIVE),.venv)
ifneq ($(words $(VENV)),1)
$(error make takes no environment with a space in its path: deactivate $(VENV), or make another)
endif
export PATH := $(abspath $(VENV))/bin:$(PATH)
export PYTHON := python
PYTEST_ARGS ?=
# A process a core, with one thread each. They begin with a half (a third, ...) of the files in order, so that fixtures
# are made once, and who is done first takes over tests of the others.
PYTEST := python -m pytest -n auto --maxprocesses 8 --dist worksteal

.PHONY: quickstart compare test test-slow fuzz lint environment environment-test

quickstart: environment
	bash scripts/quickstart.sh

# On a CPU fresh memory costs more than small matrices do, so freed memory is kept.
compare: export OMP_NUM_THREADS := 1
compare: export MALLOC_MMAP_THRESHOLD_ := 1000000000
compare: export MALLOC_TRIM_THRESHOLD_ := 10000000000
compare: environment
	python -m datasets.embedded
	python -m benchmarks.compare $(COMPARE_ARGS)

test: environment-test lint
	$(PYTEST) $(PYTEST_ARGS)

test-slow: environment-test
	$(PYTEST) -m "slow or not slow" $(PYTEST_ARGS)

fuzz: export OMP_NUM_THREADS := 1
fuzz: environment
	python -m tests.fuzz --seed $(or $(SEED),0) --budget $(or $(BUDGET),12000)

lint: environment
	python -m ruff check . && python -m ruff format --check . && python -m mypy

# CONSTRAINTS=constraints.txt: the versions last seen green, in place of the newest ones.
# Stamps are as old as the last installation from these files.
STAMP := $(VENV)/.spotlighter-requirements$(if $(CONSTRAINTS),-constrained)
TEST_STAMP := $(VENV)/.spotlighter-requirements-test$(if $(CONSTRAINTS),-constrained)
INSTALL := python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS:%=-c %)
environment: $(STAMP)
environment-test: $(TEST_STAMP)

$(STAMP): requirements.txt $(CONSTRAINTS)
	test -x $(VENV)/bin/python || python3 -m venv $(VENV)
	$(INSTALL) -r requirements.txt
	cp requirements.txt $@

$(TEST_STAMP): $(STAMP) requirements-test.txt requirements-export.txt
	$(INSTALL) -r requirements-test.txt
	cp requirements-test.txt $@
