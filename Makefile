# Two commands need nothing but Python and make: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
DEMO_VENV := build/demo-venv
DEMO_BIN := $(DEMO_VENV)/bin

.PHONY: demo test check fix bench wheel clean

demo: $(DEMO_VENV)/ready  ## find the objects in two sample photos; needs no torch
	$(DEMO_BIN)/detector-run --images examples/photos --out build/demo/dets.json \
		--visualize build/demo --overwrite
	$(DEMO_BIN)/python examples/read_detections.py build/demo/dets.json

test: $(READY)  ## run all tests
	$(BIN)/pytest

check: $(READY)  ## formatting, lint and types
	$(BIN)/hadolint Dockerfile
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fix: $(READY)  ## mend formatting and what lint can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## every claim about speed beside its baseline
	$(BIN)/python -m benchmarks.speed

wheel: $(READY)  ## build dist/*.whl
	rm -rf dist
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## remove the environment and all that was built
	rm -rf $(VENV) build dist

$(DEMO_VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DEMO_VENV)
	$(DEMO_BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@
