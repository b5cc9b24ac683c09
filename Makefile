# postmean: `make setup`, `make test`, `make demo`, `make check` each work on a fresh machine with git, make and Python >= 3.11.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# one more than cores, because some tests wait for Ray to start; up to 8, because each takes some 2 GB
TEST_PROCESSES ?= $(shell PYTHONPATH=pipeline $(PYTHON) -c 'from postmean.base.cores import usable_cores; print(min(8, usable_cores() + 1))')

.PHONY: setup test test-slow chaos check docs wheels demo paper gpu clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "postmean needs Python >= 3.11, found $$($(PYTHON) --version): run make PYTHON=/path/to/python3.11 setup" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable '.[dev]'
	@touch $(STAMP)

test: setup
	$(BIN)/pytest -n $(TEST_PROCESSES) --dist worksteal

test-slow: setup
	$(BIN)/pytest -m slow

# random kills and stops of every process of a run; POSTMEAN_CHAOS_SEED=N repeats an order
chaos: setup
	$(BIN)/pytest -m slow -s tests/chaos

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

# the site in site/, every link and anchor checked
docs: setup
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[docs]'
	$(BIN)/mkdocs build --strict

# wheel and sdist in clean environments of every supported Python that uv finds
wheels: setup
	$(BIN)/pytest -m slow -rs tests/packaging/test_wheels.py

# what two cores carry of the paper: make paper STORE=cifar10.store
paper: setup
	$(BIN)/python benchmarks/paper.py --store $(STORE) --out paper-out

demo: setup
	$(BIN)/python -m postmean demo

# with a torch, numpy and scipy that are already there, on a machine with a GPU; without pytest the tests are skipped
gpu:
	@export PYTHONPATH=pipeline:training:.; \
	if $(PYTHON) -c 'import pytest' 2>/dev/null; then $(PYTHON) -m pytest -o addopts= -q -m gpu tests/gpu || exit 1; \
	else echo "no pytest: tests/gpu is skipped"; fi; \
	$(PYTHON) benchmarks/gpu.py

clean:
	rm -rf .venv demo-out
