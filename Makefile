# Each target makes its own virtual environment from constraints.txt and needs only Python, a C++
# compiler and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: train test lint soak sanitize bench clean

train: $(VENV)/.installed
	$(BIN)/python examples/train.py

test: $(VENV)/.installed
	$(BIN)/python -m pytest -m "not soak"

soak: $(VENV)/.installed
	$(BIN)/python -m pytest -m soak --timeout 3600

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/build.py
	$(BIN)/python benchmarks/optim.py

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist runs *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
