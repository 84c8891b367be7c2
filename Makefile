# The two commands of the README are `make demo` and `make test`; each sets up what it needs first.

PYTHON ?= python3
DEVICE ?= cpu
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(DEVICE)
UV_VERSION := 0.13.8

# uv knows PyTorch's CPU builds by name; if PIP_FIND_LINKS names a folder of wheels, uv looks there first.
UV := $(if $(PIP_FIND_LINKS),UV_FIND_LINKS="$(PIP_FIND_LINKS)") $(if $(PIP_CERT),SSL_CERT_FILE="$(PIP_CERT)") $(BIN)/uv
export PYTHONDONTWRITEBYTECODE :=  # tests start hundreds of processes, each of which would compile the package anew
BACKEND := $(if $(PIP_FIND_LINKS),,$(if $(filter cpu,$(DEVICE)),--torch-backend cpu))

.PHONY: install demo test test-long test-fast coverage chaos check docs format lock clean

install: $(STAMP)

$(STAMP): requirements/$(DEVICE).txt requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"stj needs Python 3.11 to 3.13; $(PYTHON) is {v[0]}.{v[1]}. Name another: make $(or $(MAKECMDGOALS),install) PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION)
	$(UV) pip install -q --compile-bytecode --python $(BIN)/python --no-deps $(BACKEND) -r requirements/$(DEVICE).txt -r requirements/dev.txt
	$(UV) pip install -q --python $(BIN)/python --no-deps -e .
	@touch $@

demo: install  ## three self-taught iterations of the mini configuration, on two CPU cores
	$(BIN)/stj run conf/mini.yaml
	@echo "report: runs/mini/report.html"

test: install  ## all tests, including those with real engines
	$(BIN)/python -m pytest -n 2 -m "not engine and not long"
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "engine and not long"  # half of their time they wait for a process to start

test-long: install  ## whole runs on real engines: Ray jobs, machines lost and drained, drivers killed on a cluster, checkpoints torn, model selection, two seeds of chaos; properties on hundreds of examples each
	$(BIN)/python -m pytest -m long
	$(BIN)/python -m pytest -n 2 -m "hypothesis and not engine and not long" --hypothesis-profile=thorough

chaos: install  ## 20 small runs in which a seeded killer takes engines, ranks, machines, drivers and heads; about an hour
	$(BIN)/python -m tests.chaos --seeds 20

test-fast: install  ## the quick ones of the tests without engines
	$(BIN)/python -m pytest -n 2 -m "not engine and not long and not slow"

coverage: install  ## what the tests without engines run of the package
	$(BIN)/python -m pytest -n 2 -m "not engine and not long" --cov

check: install  ## format, lint, types, which room may import which, the docs and their links
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(MAKE) docs

docs: install  ## the pages, into docs/_build/html, without network; a warning, such as a broken link, is an error
	$(BIN)/python -m sphinx -q -W --keep-going -n -d docs/_build/doctrees docs docs/_build/html
	@echo "docs: docs/_build/html/index.html"

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# One resolution serves Python 3.11 to 3.13; lines for other platforms than Linux are left out.
COMPILE = $(UV) pip compile -q --universal --python-version 3.11 --no-header --no-annotate
OTHERS = "'never'|== 'win32'|== 'emscripten'|; platform_machine == 's390x'"
lock: $(BIN)/uv  ## pins move only where requirements/*.in asks for it; delete a line of a .txt to let it move
	for list in cpu gpu dev cloud; do cp requirements/$$list.txt .$$list.tmp; done
	$(COMPILE) --override requirements/cpu-overrides.txt requirements/cpu.in -o .cpu.tmp && grep -vE $(OTHERS) .cpu.tmp > requirements/cpu.txt
	$(COMPILE) requirements/gpu.in -o .gpu.tmp && grep -vE $(OTHERS) .gpu.tmp > requirements/gpu.txt
	$(COMPILE) --override requirements/dev-overrides.txt -c requirements/cpu.txt requirements/dev.in -o .dev.tmp && grep -vE $(OTHERS) .dev.tmp > .devall.tmp
	awk -F '[=; ]' 'NR == FNR { there[$$1]; next } !($$1 in there)' requirements/cpu.txt .devall.tmp > requirements/dev.txt  # torch is there, for this device
	$(COMPILE) --override requirements/dev-overrides.txt -c requirements/gpu.txt requirements/cloud.in -o .cloud.tmp && grep -vE $(OTHERS) .cloud.tmp > .cloudall.tmp
	awk -F '[=; ]' 'NR == FNR { there[$$1]; next } !($$1 in there)' requirements/gpu.txt .cloudall.tmp > requirements/cloud.txt  # beside gpu.txt, in one image
	rm .cpu.tmp .gpu.tmp .dev.tmp .devall.tmp .cloud.tmp .cloudall.tmp
	$(BIN)/python requirements/check.py requirements/gpu.txt && sha256sum requirements/gpu.txt > requirements/gpu.sha256

$(BIN)/uv: install

clean:
	rm -rf $(VENV) build dist docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
