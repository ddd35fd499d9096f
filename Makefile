# Every target sets itself up: on a fresh machine with Python >= 3.11, `make demo` or `make test` is enough.
# Nothing is installed twice: the stamps in .venv are renewed only when setup.cfg or constraints.txt changes.

PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install -c constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# One environment: two installs into it at once (make -j) would break it.
.NOTPARALLEL:
.PHONY: help demo test test-slow lint format notebook benchmark clean

help: ## Show this list
	@echo "make TARGET (PYTHON=python3.12 chooses the interpreter the environment is made from)"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.demo ## Run the demonstration; it writes to out/demo
	MPLBACKEND=Agg $(BIN)/udehydro demo --out out/demo

# A file of tests stays in one process: what it compiles and trains once would else be done in each.
test: $(VENV)/.dev ## Run the fast tests (ARGS="-k name -n 0" adds pytest options)
	MPLBACKEND=Agg $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

test-slow: $(VENV)/.dev ## Run the slow tests
	MPLBACKEND=Agg $(BIN)/python -m pytest -m slow -n auto --maxprocesses 4 --dist loadfile $(ARGS)

lint: $(VENV)/.ruff ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.ruff ## Repair style and format in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# An empty MPLBACKEND lets the kernel choose the inline one, which keeps the figures in the notebook. When each cell
# ran is taken out again. To renew the notebooks stored beside the scripts: cp out/notebooks/*.ipynb examples/
notebook: $(VENV)/.dev ## Execute every example as a notebook; they are written to out/notebooks
	@mkdir -p out/notebooks
	@set -e; found=; for script in examples/[0-9]*.py; do \
	  test -f "$$script" || continue; found=yes; \
	  echo "$$script"; name=$$(basename "$$script" .py); \
	  MPLBACKEND= $(BIN)/jupytext --quiet --to ipynb --set-kernel python3 --run-path examples --execute \
	    --output "out/notebooks/$$name.ipynb" "$$script"; \
	  $(BIN)/jupyter nbconvert --log-level WARN --to notebook --inplace --ClearMetadataPreprocessor.enabled=True \
	    --ClearMetadataPreprocessor.clear_notebook_metadata=False "out/notebooks/$$name.ipynb"; \
	done; test -n "$$found" || { echo "notebook: no examples/[0-9]*.py to execute" >&2; exit 1; }

benchmark: $(VENV)/.benchmark ## Run every script in examples/benchmarks
	@set -e; found=; for script in examples/benchmarks/[!_]*.py; do \
	  test -f "$$script" || continue; found=yes; \
	  echo "$$script"; MPLBACKEND=Agg $(BIN)/python "$$script" $(ARGS); \
	done; test -n "$$found" || { echo "benchmark: no examples/benchmarks/*.py to run" >&2; exit 1; }

clean: ## Remove the environment and everything generated
	rm -rf $(VENV) build dist out *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment ------------------------------------------------------------------------------------------

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "udehydro needs Python 3.11 or newer, but '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)" >&2; \
	  echo "Install a newer one and say which: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make virtual environments: its venv or ensurepip module is missing." >&2; \
	  echo "Install it (Debian, Ubuntu: apt install python3-venv; other systems: a full python3)" >&2; \
	  echo "or name another interpreter: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# First and alone, so that nothing else can pull in another build of torch.
$(VENV)/.torch: constraints.txt | $(VENV)/.python
	$(INSTALL) torch
	@touch $@

$(VENV)/.demo: $(VENV)/.torch setup.cfg
	$(INSTALL) -e ".[demo]"
	@touch $@

# Holds what the demo needs, too.
$(VENV)/.dev: $(VENV)/.torch setup.cfg
	$(INSTALL) -e ".[dev,demo,discovery,notebooks]"
	@touch $@ $(VENV)/.demo

# Hy2DL pins packages that the benchmarks do not need, some of them to older versions than ours.
$(VENV)/.benchmark: $(VENV)/.dev setup.cfg
	$(INSTALL) -e ".[dev,demo,discovery,notebooks,benchmark]"
	$(INSTALL) --no-deps hy2dl
	@touch $@

# Style needs neither torch nor the package.
$(VENV)/.ruff: constraints.txt | $(VENV)/.python
	$(INSTALL) ruff
	@touch $@
