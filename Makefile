# `make help` lists what is here. Everything made goes to .cache, in this folder.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

CACHE := $(CURDIR)/.cache
VENV := $(CACHE)/venv
BIN := $(VENV)/bin

# Recipes and what they start see the project's tools first, and this checkout as the collection.
export PATH := $(BIN):$(PATH):/usr/sbin:/sbin
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export ANSIBLE_COLLECTIONS_PATH := $(CACHE)/collections
export PYTHONDONTWRITEBYTECODE := 1
export HYPOTHESIS_STORAGE_DIRECTORY := $(CACHE)/hypothesis

# What CI runs, in this order. `make test STAGES="ruff unit"` runs a selection. What waits for the
# lab's guest goes on beside the stages after it; tests/ci/run_stages.py says which these are.
ALL_STAGES := setup lab-site ruff mypy shellcheck ansible-lint unit docs changelog collection newest-core \
	sanity lab-tests newest-site native lab-down
STAGES ?= $(ALL_STAGES)

.PHONY: help
help: ## show the commands
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sort | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 16

.PHONY: setup
setup: ## install what the other commands need (Debian packages, Python tools)
	tests/ci/setup.sh

.PHONY: test
test: ## run everything CI runs; STAGES="ruff unit" for a selection
	@python3 tests/ci/run_stages.py --make '$(MAKE)' --logs '$(CACHE)/logs' \
		$(patsubst lab,lab-site lab-tests,$(STAGES))

.PHONY: format
format: ## rewrite the Python code in the house format
	ruff check --fix
	ruff format

.PHONY: docs
docs: ## write the generated pages of docs/ anew
	PYTHONPATH=files/runtime python tests/ci/docgen.py

.PHONY: clean
clean: ## remove everything made in this checkout
	rm -rf '$(CACHE)'

.PHONY: requirements
requirements: ## make the hash-pinned requirement files anew from the .in files
	tests/ci/requirements.sh

# --- the stages of `make test` -------------------------------------------------------------------

.PHONY: $(addprefix stage-,$(ALL_STAGES))

stage-setup:
	tests/ci/setup.sh

stage-ruff:
	ruff check
	ruff format --check

stage-mypy:
	tests/ci/mypy.sh

stage-shellcheck:
	tests/ci/shellcheck.sh

stage-ansible-lint:
	NO_COLOR=1 ansible-lint --offline --profile production

stage-unit:
	python -m pytest tests/unit tests/property

# A Docker engine of its own is started, which takes root.
stage-native:
	$(if $(filter 0,$(shell id -u)),,sudo) "$$(command -v python)" -m pytest tests/native

stage-docs:
	tests/ci/docs.sh

stage-changelog:
	antsibull-changelog lint
	@echo "$$(find changelogs/fragments -name '*.yml' | wc -l) fragments checked"

stage-collection:
	tests/ci/collection.sh

stage-sanity:
	tests/ci/sanity.sh

stage-newest-core:
	tests/ci/newest_core.sh

# These share one lab of their own, so that a lab somebody works in is left alone.
stage-lab-site stage-lab-tests stage-newest-site stage-lab-down: export DS01_LAB_DIR := $(CACHE)/lab-test

stage-newest-site:
	tests/ci/newest_core.sh --site

# The lab host: `make lab`, `make lab-ssh`, `make lab-down`, and the stages lab-site, lab-tests, lab-down.
-include tests/lab/lab.mk
-include tests/bench/bench.mk
-include tests/soak/soak.mk
