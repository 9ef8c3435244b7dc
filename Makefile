# Each target sets up what it needs in .venv by itself; `make demo` and `make test` run on a bare
# machine with Python 3.11 or newer.
PYTHON ?= python3
# Files of tests are spread over the cores.
PYTEST_ARGS ?= -n logical --dist loadfile
VENV := .venv
BIN := $(VENV)/bin
# One thread that waits passively: forwards of a tiny model slow down by spinning otherwise.
TEST_ENV := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE HF_HUB_OFFLINE=1

# Packages come without bytecode, to be kept at their first import: else every process, workers
# and those of the tests included, compiles thousands of modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test screenshots lint format bench setup display clean

demo: $(BIN)/python
	$(BIN)/python tools/setup_env.py
	$(BIN)/napari-digseg demo --output demo-output --overwrite

test: setup display
	$(TEST_ENV) $(BIN)/python -m pytest $(PYTEST_ARGS)

# What a person sees, on a virtual display; the pictures of the tutorial stay as they are.
screenshots: setup display
	$(TEST_ENV) $(BIN)/python tools/screenshots.py --folder screenshots

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m benchmarks

setup: $(BIN)/python
	$(BIN)/python tools/setup_env.py dev

display:
	sh tools/setup_display.sh

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build dist demo-output screenshots
