# cc-tui: everything a checkout needs. `make run` and `make test` do their own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST_ARGS ?= -n auto --dist worksteal
PIP_TOOLS := pip-tools==7.6.2
SOURCES := $(shell find core cc_tui -name '*.py')
NATIVE := $(shell find native -name '*.c' -o -name '*.h') native/build.py

.PHONY: run test test-long lint bench images images-check recordings setup setup-dev native lock clean help

run: setup  ## open the demo cluster (without a terminal: run it headless and print its summary)
	@$(BIN)/cc-tui demo

test: setup-dev  ## the default tests, under ten minutes on two cores
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-long: setup-dev  ## every test, the long ones included
	$(BIN)/python -m pytest $(PYTEST_ARGS) -m "not bench"

lint: setup-dev  ## ruff, pyright, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-cache

bench: setup-dev  ## measured figures: boot against QEMU, speed, snapshots
	$(BIN)/python -m pytest -m bench -s -p no:xdist tests/bench

images: setup  ## rebuild the guest kernel and images from Debian's sources
	$(BIN)/python -m guest.images build

images-check: setup  ## rebuild them elsewhere and say whether the bits are those committed
	$(BIN)/python -m guest.images check

recordings: setup  ## make the recordings in recordings/ anew: after a change of the images
	$(BIN)/python tools/make_recordings.py

setup: $(VENV)/.setup  ## what `make run` needs
setup-dev: $(VENV)/.setup-dev  ## what the tests and linters need

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo 'cc-tui needs python3 3.11 or later; name one with: make PYTHON=/path/to/python3' >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	    { echo 'python3 has no venv module; install it (Debian, Ubuntu: apt install python3-venv)' >&2; exit 2; }
	@mkdir -p $(VENV)
	@touch $@

# The compiler works while pip does, and is waited for here, whatever it says: native/build.py below goes on where it
# stopped. Without a compiler, pip brings one then.
$(VENV)/.packages: $(VENV)/.python requirements/run.txt
	@[ -x $(BIN)/python ] || echo 'setting up $(VENV) (once)' >&2
	@compiling=; \
	for cc in "$$CC" cc gcc clang; do \
	    if command -v "$${cc:-none}" >/dev/null 2>&1; then \
	        $(PYTHON) native/build.py --objects </dev/null >/dev/null 2>&1 & compiling=$$!; break; \
	    fi; \
	done; \
	{ [ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV); } && $(PIP) -r requirements/run.txt; status=$$?; \
	[ -z "$$compiling" ] || wait $$compiling || :; exit $$status
	@touch $@

$(VENV)/.packages-dev: $(VENV)/.packages requirements/dev.txt
	@$(PIP) -r requirements/dev.txt
	@touch $@

$(VENV)/.link: $(VENV)/.packages tools/link_checkout.py
	@$(BIN)/python tools/link_checkout.py
	@touch $@

$(VENV)/.native: $(VENV)/.link $(NATIVE)
	@echo 'compiling native/' >&2
	@$(BIN)/python native/build.py >/dev/null
	@touch $@

# Byte code ahead of time: the first start is as quick as the second, also where Python may not write it.
$(VENV)/.setup: $(VENV)/.native $(SOURCES)
	@$(BIN)/python -m compileall -q core cc_tui
	@touch $@

$(VENV)/.setup-dev: $(VENV)/.setup $(VENV)/.packages-dev
	@touch $@

native: $(VENV)/.packages  ## compile native/ into the checkout
	$(BIN)/python native/build.py

lock: $(VENV)/.packages  ## renew requirements/*.txt from pyproject.toml
	$(PIP) $(PIP_TOOLS)
	for set in run dev; do \
	    $(BIN)/pip-compile --quiet --upgrade --no-header --no-emit-index-url --no-emit-find-links \
	        --no-emit-trusted-host --allow-unsafe --strip-extras --annotation-style=line --no-build-isolation --generate-hashes \
	        $$([ $$set = dev ] && echo --extra dev -c requirements/run.txt) \
	        -o requirements/$$set.txt pyproject.toml || exit 1; \
	done

clean:  ## remove everything that was built
	rm -rf $(VENV) build dist *.egg-info core/*.egg-info core/chaoscontrol/_native*.so core/chaoscontrol/_native.py

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##/\1:/p' $(MAKEFILE_LIST)
