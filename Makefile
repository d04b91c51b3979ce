# `make run` and `make test` do all their own set-up.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python

.PHONY: run test test-slow lint bench shipped-pair screenshots clean

run: $(VENV)/.run-ready
	MALLOC_ARENA_MAX=2 $(PY) app.py  # two heaps for all threads: a third less memory

test: $(VENV)/.dev-ready lint
	$(PY) -m pytest

test-slow: $(VENV)/.dev-ready
	$(PY) -m pytest -m slow

lint: $(VENV)/.dev-ready
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: $(VENV)/.dev-ready
	$(PY) -m tests.bench

# How good the shipped adapters are, written into docs/embedded-model.md; after every change to them or to the judge.
shipped-pair: $(VENV)/.dev-ready
	$(PY) -m tests.bench.shipped_pair

screenshots: $(VENV)/.dev-ready
	$(PY) -m tests.browser.screenshots

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis tests/artifacts

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first: with the pinned version there, nothing later pulls another build.
$(VENV)/.run-ready: requirements.txt | $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check "$$(grep -o '^torch==[0-9.]*' requirements.txt)"
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.dev-ready: requirements-dev.txt $(VENV)/.run-ready
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
