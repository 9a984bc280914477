# The same verbs that CI runs. Each builds .venv first where it is not there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint type docs check bench clean

help: ## say what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(STAMP) ## build .venv with the versions CI proved (constraints.txt)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "cxr needs Python 3.11 or newer; type make PYTHON=python3.11 (or a newer one)"; exit 1; }
	@echo "Installing into $(VENV): 7 GB on disk, of which 5 GB are torch with its libraries for GPUs; a few minutes."
	@echo "Without a GPU 4 GB less will do. Interrupt this, type $(PYTHON) -m venv $(VENV), and install the CPU builds of"
	@echo "torch and torchvision there, both together, as the selector on pytorch.org says, in the versions that"
	@echo "constraints.txt names; then type make setup again, which leaves them as they are. (A CPU build of torch alone"
	@echo "does not fit the torchvision that pip would add.)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
	@echo "Ready. Type: . $(BIN)/activate"

demo: $(STAMP) ## draw phantom films, train a detector, test it, write a page of test films (3 to 6 minutes)
	$(BIN)/python train.py experiment=demo

test: $(STAMP) ## all tests: the fast ones, then the end-to-end ones
	# a process a core, a thread each: twice as fast on two cores as one process with two threads
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m 'not slow and not soak' -n auto --dist loadfile
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow -n auto --dist loadfile

lint: $(STAMP) ## style, imports, common mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(STAMP) ## mypy --strict
	$(BIN)/mypy

docs: $(STAMP) ## the site, into build/site: open index.html there; ends at any broken link
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

check: lint type test ## everything CI runs

bench: $(STAMP) ## what this machine reaches, held against its own figures (30 minutes; a quiet machine, please)
	$(BIN)/python -m benchmarks

clean: ## remove the environment and caches; outputs/ and data/ stay
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache *.egg-info
