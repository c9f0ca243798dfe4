# Each target makes its own virtual environment from constraints.txt and needs only Python, a C++
# compiler and make.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= dev
BIN := $(VENV)/bin

.PHONY: help train test devices devices-packages integrations integrations-packages lint soak sanitize bench wheel docs gpu-pack clean

train: $(VENV)/.installed  ## train a small transformer on the device that is found, in about a minute
	$(BIN)/accel run examples/train.py

test: $(VENV)/.installed  ## run the tests
	$(BIN)/python -m pytest -m "not soak and not launched" -n 2 --dist loadfile

# Kernels for XPU, ROCm and CUDA without those devices. An environment of its own: 3 GB of packages.
devices: devices-packages  ## run the tests of kernels for XPU, ROCm and CUDA, without those devices (3 GB of packages)
	$(VENV)-devices/bin/python -m pytest -m "xpu or portable"

devices-packages:  ## install what `make devices` needs
	$(MAKE) VENV=$(VENV)-devices EXTRAS=dev,xpu-test,portable-test $(VENV)-devices/.installed

# Lightning, transformers, PEFT, Ray and others. An environment of its own: 2 GB of packages.
integrations: integrations-packages  ## run the tests with other frameworks (2 GB of packages)
	$(VENV)-integrations/bin/python -m pytest tests/integrations

integrations-packages:  ## install what `make integrations` needs
	$(MAKE) VENV=$(VENV)-integrations EXTRAS=dev,integrations $(VENV)-integrations/.installed

soak: $(VENV)/.installed  ## run the long storms that `make test` leaves out
	$(BIN)/python -m pytest -m soak --timeout 3600

# The CPU kernels alone, with a C++ driver; needs g++ and its sanitizers.
sanitize:  ## run the CPU kernels under the sanitizers, with a C++ driver
	$(MAKE) --no-print-directory --silent -C tests/native

lint: $(VENV)/.installed  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed  ## measure builds and optimizers
	$(BIN)/accel bench build
	$(BIN)/accel bench optim

# auditwheel is installed for this target only.
wheel: $(VENV)/.installed  ## make the wheels of a release: pure, and with prebuilt CPU ops
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[release]'
	$(BIN)/python tools/wheel.py --out dist

# An environment of its own. mkdocs-material says in each build that a successor exists.
docs:  ## build the documentation as a site, in build/site; a warning is an error
	$(MAKE) VENV=$(VENV)-docs EXTRAS=docs $(VENV)-docs/.installed
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/python -m mkdocs build --strict

# What benchmarks/gpu.py needs on a machine with a GPU, libraries included; needs nvcc.
gpu-pack: $(VENV)/.installed  ## pack what benchmarks/gpu.py needs on a machine with a GPU; needs nvcc
	rm -rf build/gpu
	mkdir -p build/gpu/accel
	git archive HEAD accel benchmarks csrc op_builder README.md LICENSE | tar -x -C build/gpu/accel
	$(BIN)/accel build --accelerator cuda --arch 8.0,9.0,10.0 --out build/gpu/accel/prebuilt
	tar -czf build/accel-gpu.tar.gz -C build/gpu accel
	ls -sh build/accel-gpu.tar.gz

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Once: packages into $(VENV), torch among them. A few minutes; 0.5 GB, or 3 GB where torch brings CUDA."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

help:  ## say what each target does
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/\1\t\2/p' Makefile | expand -t 23

clean:  ## remove environments, builds and caches
	rm -rf $(VENV) $(VENV)-devices $(VENV)-integrations $(VENV)-docs build dist runs *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
