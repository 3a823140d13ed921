# make demo   a fresh machine -> .venv/ -> a GAN trained on digits -> a picture
# make test   a fresh machine -> .venv/ -> every test
# make check  the fast loop: style, types, layers, contract tests
# make bench  the figures of the README and docs/LOG.md

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo test check bench install-dev clean

demo: $(VENV)/.installed
	$(BIN)/elegan train

test: $(VENV)/.installed-dev
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) tests

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) tests/contract

bench: $(VENV)/.installed-dev
	for program in benchmarks/[a-z]*.py; do $(BIN)/python $$program || exit 1; done

# A torch that is there and new enough stays; otherwise the one of constraints.txt is taken.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	sh install.sh $(BIN)/python .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	sh install.sh $(BIN)/python ".[dev]"
	touch $@

install-dev: $(VENV)/.installed-dev

clean:
	rm -rf $(VENV)
