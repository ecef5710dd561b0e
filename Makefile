# assetwatch: every target works as the first command in a fresh clone; it needs Python 3.11, make and a package registry.

VENV := .venv
BIN := $(VENV)/bin
BUILD := build
PYTHON ?=
SOURCES := src tests tools bench
AGAINST ?= .git\#ref=$(or $(REF),$(shell git rev-parse --verify --quiet main || git rev-parse --verify --quiet origin/main || echo HEAD))
# What a test calls by name (assetwatch, buf, grpcurl, hadolint) is found in the environment made here.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export VENV PYTHON

# The layers of $(VENV), each on the one before: a stamp is written once a layer is whole, its pins are constraints/LAYER.txt.
RUN := $(VENV)/.run
GRPCURL := $(VENV)/.grpcurl
GO := $(VENV)/.go
DEV := $(VENV)/.dev
BENCH := $(VENV)/.bench
DOCS := $(VENV)/.docs
PROXY := $(VENV)/.proxy

.DEFAULT_GOAL := help
.PHONY: help setup grpcurl etcd demo check unit test test-fresh test-pythons lint types schema drift docker-lint tests bench test-faults test-proxy \
	soak mutants generate reference docs release-schema breaking format clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(DEV) ## Make .venv with all that checks and tests need, at the versions of constraints/

grpcurl: $(GRPCURL) ## Add .venv/bin/grpcurl, to call a server from the shell

# An installation that broke off, or a Python that is gone, means to begin anew.
ANEW := $(if $(realpath $(BIN)/python),$(wildcard $(VENV)/.unfinished),anew)
.PHONY: anew

etcd: $(DEV) ## Have an etcd: that on PATH if it is 3.6 or newer, else one that Go builds, once, in a minute or two
	@$(HAVE_ETCD)

# With the Go of .venv, unless PATH has one that is new enough. Without an etcd the tests that need it fail, and no other.
HAVE_ETCD = $(BIN)/python -m assetwatch_sandbox.etcd etcd etcdutl

$(RUN): pyproject.toml constraints/run.txt $(ANEW)
	@sh tools/set_up.sh run

$(GRPCURL): $(RUN) constraints/dev.txt
	@sh tools/set_up.sh grpcurl

$(GO): $(RUN) constraints/dev.txt
	@sh tools/set_up.sh go

$(DEV): $(RUN) constraints/dev.txt
	@sh tools/set_up.sh dev

$(BENCH): $(DEV) constraints/bench.txt
	@sh tools/set_up.sh bench

$(DOCS): $(DEV) constraints/docs.txt
	@sh tools/set_up.sh docs

# Replicas need an etcd: where there is none on PATH, the demo builds it, once, with a Go.
TO_BUILD = command -v etcd >/dev/null || command -v go >/dev/null || $(MAKE) --no-print-directory $(GO)

demo: $(RUN) ## Run the five stand-ins, a server over them, and a live table; ARGS="--replicas 3" several servers, to be killed
	@$(if $(findstring --replicas,$(ARGS)),$(TO_BUILD))
	@exec $(BIN)/python tools/foreground.py $(BIN)/assetwatch demo $(ARGS)

check: lint types unit ## Check style, types and what needs no server and no process of its own; about a minute

test: $(DOCS) lint types schema drift docker-lint docs tests ## Check everything; fails on a skipped test too
	@echo 'ran: ruff check, ruff format, import-linter, mypy, buf lint, buf format, buf breaking, generated code, hadolint, mkdocs, pytest'
	@$(BIN)/python tools/check_report.py $(BUILD)/pytest.xml $(BUILD)/pytest-serial.xml

test-fresh: ## The same as on a new machine: a clone of HEAD, an empty home, no caches, no tools of an earlier run
	@python=$$(sh tools/find_python.sh $(PYTHON)) && exec "$$python" tools/fresh.py test "ARGS=$(ARGS)"

test-pythons: ## Try the wheel and a part of the tests on every Python 3.11 or newer that this machine has
	@python=$$(sh tools/find_python.sh $(PYTHON)) && ARGS="$(ARGS)" exec "$$python" tools/pythons.py

lint: $(DEV) ## Check style and who imports whom
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports

types: $(DEV) ## Check types, of the tests too
	$(BIN)/mypy

# Descriptor images of the schema, one a release: docs/versioning.md.
RELEASED = $(lastword $(shell ls released/*.binpb | sort -V))
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

schema: $(DEV) ## Check the schema, and that it breaks no client of the last release
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking --against '$(RELEASED)'

drift: $(DEV) ## Check that generated/ is what the schema gives
	sh tools/check_generated.sh

docker-lint: $(DEV) ## Check the Dockerfile
	$(BIN)/hadolint Dockerfile

# A module's tests run on one worker: its servers are started once. No more workers than cores: some tests wait for a time
# that a busy machine does not keep.
WORKERS ?= $(shell getconf _NPROCESSORS_ONLN)
PYTEST = $(BIN)/pytest -o junit_family=xunit2 --durations=10
PARALLEL = -n $(WORKERS) --dist loadscope
# None that matches (5) is no failure of either part: ARGS may ask for tests of the other alone. check_report.py counts both.
OR_NONE = || [ $$? -eq 5 ]

unit: $(DEV) ## Run the tests that are marked unit: no socket is connected, no process started
	$(PYTEST) $(PARALLEL) -m unit $(ARGS)

tests: $(DEV) ## Run the tests on all cores, then those marked serial one by one; ARGS=tests/x.py a part of them
	@mkdir -p $(BUILD)
	-@$(HAVE_ETCD) >/dev/null
	$(PYTEST) $(PARALLEL) -m 'not serial' --junitxml=$(BUILD)/pytest.xml $(ARGS) $(OR_NONE)
	$(PYTEST) -m serial --junitxml=$(BUILD)/pytest-serial.xml $(ARGS) $(OR_NONE)

bench: $(BENCH) ## Measure, beside the peers, into bench/RESULTS.md; twenty minutes, best on a quiet machine
	@exec $(BIN)/python bench/run.py $(ARGS)

MACHINES = tests/changefeed/test_core_machine.py tests/e2e/test_e2e_machine.py tests/changefeed/test_watch_guarantees.py \
	tests/polling/test_scheduler_interleavings.py tests/client/test_view_model.py
FAULTS = GRPC_ENABLE_FORK_SUPPORT=0 GRPC_VERBOSITY=ERROR PYTHONPATH=tests

test-faults: $(DEV) ## Run the directed runs with real faults and 60 runs of random ones, 20 of replicas; an hour
	-@$(HAVE_ETCD) >/dev/null
	$(FAULTS) $(BIN)/python -m pytest -m faults tests/faults
	$(FAULTS) $(BIN)/python -m faults.runs --runs 40
	$(FAULTS) $(BIN)/python -m faults.runs --replicas 3 --runs 20

test-proxy: $(PROXY) ## Run deploy/envoy.yaml in front of a server; installs a real Envoy, 107 MB, once
	$(BIN)/python -m pytest -m proxy tests/proxy

$(PROXY): $(DEV) constraints/proxy.txt
	@sh tools/set_up.sh proxy

soak: $(DEV) ## The same, longer: 20,000 streams, ten minutes of stalling and of made-up requests, machines, hours of faults
	-@$(HAVE_ETCD) >/dev/null
	$(FAULTS) FAULTS_STREAMS=20000 FAULTS_STALL_S=600 FAULTS_CRASHES=100 $(BIN)/python -m pytest -m faults tests/faults
	$(FAULTS) $(BIN)/python -m pytest --hypothesis-profile=nightly --timeout=3600 $(MACHINES)
	$(FAULTS) FUZZ_S=600 $(BIN)/python -m pytest tests/fuzz
	$(FAULTS) $(BIN)/python -m faults.runs --minutes 30 --at-once 2
	$(FAULTS) $(BIN)/python -m faults.runs --replicas 3 --runs 300

mutants: $(DEV) ## Plant defects one by one, and report which of them the tests of both tiers find
	$(FAULTS) $(BIN)/python -m faults.killing

generate: $(DEV) ## Make generated/ anew from proto/
	sh tools/generate.sh

reference: $(DEV) ## Write docs/reference/ anew, from the command line, the settings and the schema
	$(BIN)/python -m tools.reference

# Not --quiet: that hides warnings from strict, too.
docs: $(DOCS) ## Build the site of the documents into build/docs; fails on a link that leads nowhere
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

release-schema: $(DEV) ## Keep the schema as that of this version, which later ones are held against
	@test ! -e 'released/$(VERSION).binpb' || { echo 'released/$(VERSION).binpb is there, and what was released does not change:' \
	  'raise the version in pyproject.toml, or remove the file if $(VERSION) is not out yet' >&2; exit 1; }
	$(BIN)/buf build --exclude-source-info --output 'released/$(VERSION).binpb'

breaking: $(DEV) ## Check that the schema breaks no client of main (REF=... another commit)
	$(BIN)/buf breaking --against '$(AGAINST)'

format: $(DEV) ## Rewrite code and schema in the one format
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/buf format --write

clean: ## Remove what the targets made
	rm -rf $(VENV) $(BUILD) dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests generated tools -name __pycache__ -type d -prune -exec rm -rf {} +
