# make demo         own venv, install, fetch the models, run the demo's evaluation (again: uses what is there)
# make test         the same venv, the whole test suite
# make check        the same venv, linter, types, generated docs
# make docs         write the generated parts of docs/ again
# make test-latest  a venv of its own with the newest of everything, the whole test suite
# make constraints  the same, then write the versions that passed into constraints.txt
# make vendor       fetch the pages' plotting library again, by npm, in the versions and with the digests of vendor.json
# Another interpreter: make demo PYTHON=python3.12. Another folder for the venv: make demo VENV=/tmp/venv

PYTHON ?= python3
VENV ?= .venv
LATEST ?= .venv-latest
# The tested versions, with which everything is installed; empty: the newest that pyproject.toml allows.
CONSTRAINTS ?= constraints.txt

# The variables hold for what pip installs to build a package with, where -c does not: the first for old versions of pip, the second for new ones.
BUILD_WITH := $(if $(CONSTRAINTS),PIP_CONSTRAINT="$(CONSTRAINTS)" PIP_BUILD_CONSTRAINT="$(CONSTRAINTS)")
# Not compiled (half a minute): Python compiles what is imported when it is first imported, a small part of what is installed.
PIP_INSTALL := $(BUILD_WITH) $(VENV)/bin/python -m pip --disable-pip-version-check -qq install --no-compile $(if $(CONSTRAINTS),-c "$(CONSTRAINTS)")
MADE := $(VENV)/.made
# Else what is imported would be compiled again at every start.
unexport PYTHONDONTWRITEBYTECODE
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

.PHONY: help demo test check docs install install-dev test-latest constraints vendor clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: $(INSTALLED)
	$(VENV)/bin/harness models fetch
	$(VENV)/bin/harness eval --labeler calibf1 --steerer sae-clamp

test: $(INSTALLED_DEV)
	$(VENV)/bin/python -m pytest -n 3 --dist worksteal

check: $(INSTALLED_DEV)
	$(VENV)/bin/python -m ruff check
	$(VENV)/bin/python -m mypy
	$(VENV)/bin/python .ci/typed_templates.py
	$(VENV)/bin/python docs/generate.py --check

docs: $(INSTALLED)
	$(VENV)/bin/python docs/generate.py

vendor:
	"$(PYTHON)" .ci/vendor.py

install: $(INSTALLED)

install-dev: $(INSTALLED_DEV)

test-latest:
	@rm -rf "$(LATEST)"
	@$(MAKE) --no-print-directory test VENV="$(LATEST)" CONSTRAINTS=

constraints: test-latest
	$(LATEST)/bin/python .ci/constraints.py constraints.txt

# A stamp is written last, so an interrupted step is done again; a changed pyproject.toml or constraints.txt installs again.
$(MADE):
	@command -v "$(PYTHON)" >/dev/null || \
		{ echo "make: no $(PYTHON) on the path; harness needs Python 3.10 or newer: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "make: $$("$(PYTHON)" --version 2>&1 | head -n 1) is not enough; harness needs 3.10 or newer: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	@"$(PYTHON)" -m venv "$(VENV)" || \
		{ echo "make: $(PYTHON) cannot make a virtual environment; on Debian and Ubuntu install python3-venv" >&2; exit 2; }
	@touch "$@"

# An egg-info of an earlier install would hide plugins that came since from programs that run in this folder, and before it was called sae-harness
# the distribution was called harness: both at once would bring each plugin twice.
$(INSTALLED): $(MADE) pyproject.toml $(CONSTRAINTS)
	@echo "Installing harness and its libraries into $(VENV); the first time this takes minutes."
	@rm -rf sae_harness.egg-info harness.egg-info
	@$(VENV)/bin/python -m pip --disable-pip-version-check -qq uninstall -y harness
	@$(PIP_INSTALL) -e .
	@touch "$@"

$(INSTALLED_DEV): $(MADE) pyproject.toml $(CONSTRAINTS)
	@echo "Installing harness, its libraries and what its tests need into $(VENV); the first time this takes minutes."
	@rm -rf sae_harness.egg-info harness.egg-info
	@$(VENV)/bin/python -m pip --disable-pip-version-check -qq uninstall -y harness
	@$(PIP_INSTALL) -e ".[dev]"
	@touch "$(INSTALLED)" "$@"

clean:
	rm -rf "$(VENV)" "$(LATEST)" build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
