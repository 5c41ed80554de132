# make help lists the targets. PYTHON=python3.12 make ... chooses the interpreter.

PYTHON ?= python3
PY := $(shell tools/find-python $(PYTHON) 2>/dev/null)
# The default interpreter lives in .venv, a chosen one in .venv-X.Y beside it.
VENV ?= .venv$(if $(filter-out python3,$(PYTHON)),$(if $(PY),-$(shell \
    $(PY) -c 'import sys; print("%d.%d" % sys.version_info[:2])')))
VENV := $(VENV)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)
PYTEST_ARGS ?=
SECONDS ?= 600
SEED ?=
FUZZ_SECONDS ?= 300
FUZZ = CACHEKIT_WITH=clang $(MAKE) --no-print-directory -s system && \
    $(BIN)/python tools/run_fuzz.py --jobs $(JOBS)
CSRC := $(shell find csrc -name '*.[ch]')
CTEST = $(MAKE) --no-print-directory -s -f tools/ctest.mk -j$(JOBS)

export CACHEKIT_WERROR ?= 1
export PIP_ROOT_USER_ACTION := ignore

.DEFAULT_GOAL := help
.PHONY: help system build demo test test-c test-py test-all bench bench-quick
.PHONY: lint lint-code typing format sanitize sanitize-c sanitize-py valgrind coverage
.PHONY: soak fuzz fuzz-quick fuzz-coverage clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' Makefile
	@echo
	@echo 'PYTHON=python3.12 make test   chooses the interpreter'

system:
	@tools/find-python $(PYTHON) >/dev/null
	@PYTHON=$(PY) tools/setup-system

# The environment with everything the tests need, and the package linked into it.
$(VENV)/.made: pyproject.toml | system
	@echo "cachekit: making $(VENV)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PY) -m venv --clear $(VENV)
	@$(PIP) install 'setuptools>=77'
	@$(BIN)/python setup.py -q build_ext --inplace
	@$(PIP) install --no-build-isolation --config-settings editable_mode=compat -e '.[test]'
	@touch $@

# Objects are reused; a source file that did not change is not compiled again.
$(VENV)/.built: $(VENV)/.made setup.py tools/core.map $(CSRC)
	@$(BIN)/python setup.py -q build_ext --inplace
	@touch $@

$(VENV)/.linted: $(VENV)/.made
	@$(PIP) install $$($(BIN)/python tools/extra.py lint)
	@touch $@

$(VENV)/.benched: $(VENV)/.made
	@$(PIP) install $$($(BIN)/python tools/extra.py bench)
	@touch $@

build: $(VENV)/.built ## make the environment with the package in it

demo: build ## see it work on real input, through an outage
	@$(BIN)/python examples/demo.py

test: test-c test-py ## run all tests

test-c: | system ## run the tests of the C core, and seed faults that they must catch
	@$(PY) tools/seed_faults.py
	@$(CTEST) run

test-py: build ## run the Python tests (PYTEST_ARGS="-k name" chooses)
	@$(BIN)/pytest $(PYTEST_ARGS)

test-all: test-c ## run the tests on Python 3.10 to 3.13 where present
	@tools/test-interpreters

soak: build ## trouble for SECONDS=600; SEED=n chooses it, and repeats it
	@PYTHONPATH=tests $(BIN)/python -m soak --seconds $(SECONDS) $(SEED:%=--seed %)

bench: build $(VENV)/.benched ## measure against the rivals, print the table
	@$(BIN)/python benchmarks/run.py

bench-quick: build $(VENV)/.benched ## the same in less time, with more noise
	@$(BIN)/python benchmarks/run.py --quick

lint: lint-code typing ## check layers, symbols, style and types

lint-code: build $(VENV)/.linted
	@$(CTEST) archive
	@$(BIN)/python tools/lint.py --clang-format $(BIN)/clang-format \
	    --archive build/c/plain/libck.a --extension cachekit/_core.*.so
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check .

typing: build $(VENV)/.linted ## check the types with mypy, pyright and stubtest
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@$(BIN)/stubtest cachekit._core

format: $(VENV)/.linted ## lay out C and Python as lint wants it
	@$(BIN)/python tools/lint.py --write --clang-format $(BIN)/clang-format
	@$(BIN)/ruff check -q --fix --exit-zero .
	@$(BIN)/ruff format -q .

sanitize: sanitize-c sanitize-py ## run all tests under ASan and UBSan, threads under TSan

sanitize-c: | system
	@$(CTEST) run VARIANT=asan
	@$(CTEST) run VARIANT=tsan

sanitize-py: build
	@VENV=$(VENV) tools/sanitize-python $(PYTEST_ARGS)

valgrind: | system ## run the tests of the C core under valgrind
	@$(CTEST) run VARIANT=valgrind

coverage: | system ## say how much of the C core its own tests reach
	@$(CTEST) run VARIANT=coverage
	@tools/coverage build/c/coverage

# Each target for FUZZ_SECONDS, as many at a time as there are processors.
fuzz: $(VENV)/.made ## fuzz each decoder for FUZZ_SECONDS=300
	@$(FUZZ) --seconds $(FUZZ_SECONDS)

fuzz-quick: $(VENV)/.made ## replay what the fuzzer found, then 20 s for each decoder
	@$(FUZZ) --optional --seconds 20

fuzz-coverage: $(VENV)/.made ## say how much of each decoder its corpus reaches
	@$(FUZZ) --optional --coverage

clean: ## remove what the build made, keep the environments
	@rm -rf build dist out *.egg-info cachekit/_core.*.so .mypy_cache .pytest_cache
	@rm -rf .ruff_cache .hypothesis .venv/.built .venv-*/.built
	@find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +

distclean: clean ## remove the environments too
	@rm -rf .venv .venv-*
