# Each target makes its own virtual environment from constraints.txt and needs only Python, a C++
# compiler and make.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= dev
BIN := $(VENV)/bin

.PHONY: train test devices devices-packages lint soak sanitize bench gpu-pack clean

train: $(VENV)/.installed
	$(BIN)/python examples/train.py

test: $(VENV)/.installed
	$(BIN)/python -m pytest -m "not soak"

# Kernels for XPU, ROCm and CUDA without those devices. An environment of its own: 3 GB of packages.
devices: devices-packages
	$(VENV)-devices/bin/python -m pytest -m "xpu or portable"

devices-packages:
	$(MAKE) VENV=$(VENV)-devices EXTRAS=dev,xpu-test,portable-test $(VENV)-devices/.installed

soak: $(VENV)/.installed
	$(BIN)/python -m pytest -m soak --timeout 3600

# The CPU kernels alone, with a C++ driver; needs g++ and its sanitizers.
sanitize:
	$(MAKE) --no-print-directory --silent -C tests/native

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/build.py
	$(BIN)/python benchmarks/optim.py

# What benchmarks/gpu.py needs on a machine with a GPU, libraries included; needs nvcc.
gpu-pack: $(VENV)/.installed
	rm -rf build/gpu
	mkdir -p build/gpu/accel
	git archive HEAD accel benchmarks csrc op_builder README.md LICENSE | tar -x -C build/gpu/accel
	$(BIN)/accel build --accelerator cuda --arch 8.0,9.0,10.0 --out build/gpu/accel/prebuilt
	tar -czf build/accel-gpu.tar.gz -C build/gpu accel
	ls -sh build/accel-gpu.tar.gz

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-devices build dist runs *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
