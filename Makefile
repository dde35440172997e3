# Two commands need nothing but Python and make: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
SAMPLES = $$($(BIN)/python -c 'import skimage.data; print(skimage.data.__path__[0])')

.PHONY: demo test check fix bench wheel clean

demo: $(READY)  ## find the objects in three sample photos
	$(BIN)/detector-run --images $(SAMPLES)/astronaut.png $(SAMPLES)/chelsea.png \
		$(SAMPLES)/motorcycle_left.png --out build/demo/dets.json --visualize build/demo \
		--overwrite
	$(BIN)/python docs/examples/read_detections.py build/demo/dets.json

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

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@
