# Everything runs in .venv, made from requirements.lock; an environment that is active is left alone.

PORT ?= 7860
HOST ?= 127.0.0.1

# The lock was made on 3.11, so that is tried first. Each is run, for PATH may hold stubs that do not.
PYTHON := $(shell for name in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
UV := $(if $(shell uv --version 2>/dev/null),uv,.uv/bin/uv)
export UV_PYTHON_DOWNLOADS := never

.PHONY: help demo test setup lint bench lock clean

help:
	@echo "make demo    open the gallery at http://$(HOST):$(PORT), elsewhere with PORT=... HOST=..."
	@echo "make test    run the tests"
	@echo "make setup   only make the environment, .venv"
	@echo "make lint    ruff and pyright"
	@echo "make bench   measure speed, an hour; beside checkouts of the originals with PEER=folder NEUROPBR=folder"
	@echo "make lock    resolve pyproject.toml into requirements.lock again"
	@echo "make clean   remove the environment and caches"

demo: setup
	HOST=$(HOST) PORT=$(PORT) .venv/bin/python spaces/gallery/app.py

test: setup
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -q -n 2 --dist loadfile -m "not gpu"

setup: .venv/.done

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright --pythonpath .venv/bin/python

bench: setup
	.venv/bin/python -m benchmarks.distill --psnr 24 $(if $(PEER),--peer $(PEER))
	.venv/bin/python -m benchmarks.neuropbr $(if $(NEUROPBR),--peer $(NEUROPBR))
	.venv/bin/python -m benchmarks.pixelscene
	.venv/bin/python -m benchmarks.lens

lock: | $(UV)
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV) pip compile pyproject.toml --all-extras --universal \
		--python-version 3.11 --no-annotate --no-emit-index-url --no-emit-find-links -o requirements.lock

clean:
	rm -rf .venv .uv .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/.done: requirements.lock pyproject.toml | $(UV)
	@test -n "$(PYTHON)" || { echo "hubmodels needs Python 3.11 or newer on PATH: install it, then make again" >&2; exit 1; }
	@rm -f $@
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv
	$(UV) pip sync --quiet --python .venv/bin/python requirements.lock
	$(UV) pip install --quiet --python .venv/bin/python --no-deps --editable .
	@touch $@

# A uv on PATH is used as it is.
.PHONY: uv
uv:

# Debian forbids pip outside of environments, and may lack either of the two ways.
.uv/bin/uv:
	@test -n "$(PYTHON)" || { echo "hubmodels needs Python 3.11 or newer on PATH: install it, then make again" >&2; exit 1; }
	@rm -rf .uv
	@{ $(PYTHON) -m venv .uv && .uv/bin/python -m pip install --quiet uv; } >/dev/null 2>&1 \
		|| { rm -rf .uv; $(PYTHON) -m pip install --quiet --target .uv uv; } \
		|| { rm -rf .uv; echo "cannot install uv: give $(PYTHON) its venv or pip (Debian: apt install python3-venv)" \
			"and a network, or install uv yourself, then make again" >&2; exit 1; }
