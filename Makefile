# SPDX-License-Identifier: Apache-2.0
# The two commands of the README are `make demo` and `make test`; each sets up what it needs.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := help

PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
PACKAGES := provenance/headwater_prov node-agent/headwater_agent operator/headwater_operator \
	auditor/headwater_auditor cli/headwater_cli
# What each `make test` boots: the whole kernel suite on the first, its every_kernel part on the rest.
KERNELS := trixie bookworm sid
# A kernel's capture modes: the best one, and the next by its name.
SESSIONS = $(KERNELS) $(addsuffix :fentry,$(KERNELS))

INPUTS := 1000000
MINUTES := 20
KILLS := 100
# What `make images` builds; empty: all.
IMAGES :=

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- set-up: idempotent, and done in a moment when nothing is missing ---------------------------

.PHONY: setup
setup: ## packages and .venv; afterwards the program is .venv/bin/headwater
	@setup/packages.sh run
	@/usr/bin/python3 setup/venv.py

.PHONY: setup-test
setup-test:
	@setup/packages.sh test
	@/usr/bin/python3 setup/venv.py
	@/usr/bin/python3 setup/kernels.py $(KERNELS)
	@/usr/bin/python3 setup/control_plane.py
	@/usr/bin/python3 setup/helm.py
	@$(PYTHON) setup/node_auditor.py

.PHONY: kernels
kernels: ## the stock kernels of the node VM, into the cache
	@setup/packages.sh run
	@/usr/bin/python3 setup/kernels.py $(KERNELS)

.PHONY: images
images: ## container images of operator, agent and CLI, without a registry, into build/images (root)
	@setup/packages.sh images
	@/usr/bin/python3 setup/images.py $(IMAGES)

# --- to look at -----------------------------------------------------------------------------------

.PHONY: demo
demo: setup ## real programs, captured; where did report.csv come from?
	@/usr/bin/python3 setup/kernels.py --if-needed
	@$(PYTHON) demo/run

# --- to check -------------------------------------------------------------------------------------

.PHONY: test
test: setup-test ## lint, unit, integration, cluster, end to end, and the kernel suite in node VMs
	@$(MAKE) --no-print-directory lint
	@$(PYTEST) tests/unit tests/integration tests/cluster tests/e2e
	@$(PYTHON) -m tests.kernel --part $(SESSIONS)

.PHONY: test-all
test-all: setup-test ## the same with the whole kernel suite on every kernel, and test-pressure
	@$(MAKE) --no-print-directory lint
	@$(PYTEST) tests/unit tests/integration tests/cluster tests/e2e
	@$(PYTHON) -m tests.kernel -m "not pressure" $(SESSIONS)
	@$(MAKE) --no-print-directory test-pressure

.PHONY: test-unit
test-unit: setup ## the tests that need no server and no kernel
	@$(PYTEST) tests/unit

.PHONY: test-integration
test-integration: setup ## the tests with a real nats-server
	@$(PYTHON) setup/node_auditor.py
	@$(PYTEST) tests/integration

.PHONY: test-cluster
test-cluster: setup ## the tests with a real Kubernetes API server
	@/usr/bin/python3 setup/control_plane.py
	@/usr/bin/python3 setup/helm.py
	@$(PYTEST) tests/cluster

.PHONY: test-e2e
test-e2e: setup-test ## the tests of the program as a user runs it
	@$(PYTEST) tests/e2e

.PHONY: test-kernel
test-kernel: setup-test ## the kernel suite; KERNELS=sid for one kernel, SESSIONS=sid:fentry for one mode
	@$(PYTHON) -m tests.kernel -m "not pressure" $(SESSIONS)

.PHONY: test-pressure
test-pressure: setup-test ## real programs under load on four CPUs: PostgreSQL, Node.js, Go, Rust, apt
	@setup/packages.sh pressure
	@$(PYTHON) -m tests.kernel --cpus 4 -m pressure $(firstword $(KERNELS))

.PHONY: test-images
test-images: setup ## builds the images and looks into them (root, minutes)
	@setup/packages.sh images
	@$(PYTEST) tests/images

.PHONY: test-faults
test-faults: setup ## agent and server killed a hundred times each; KILLS=n for another number
	@HEADWATER_KILLS=$(KILLS) $(PYTEST) tests/integration/test_faults.py

.PHONY: fuzz
fuzz: setup ## a million damaged inputs for everything that decodes; INPUTS=n for another number
	@$(PYTHON) -m tests.fuzz --inputs $(INPUTS)

.PHONY: soak
soak: setup ## an agent at 20,000 records/s while everything around it fails at random; MINUTES=n
	@$(PYTHON) -m tests.soak --minutes $(MINUTES)

.PHONY: test-fresh
test-fresh: ## the README's two commands on a fresh Debian 12 and 13 (root, an hour)
	@setup/packages.sh fresh
	@/usr/bin/python3 setup/fresh.py

.PHONY: lint
lint: setup ## style, types, import rules, licences, links
	@mkdir -p build
	@status=0; \
	.venv/bin/ruff check --quiet . demo/run || status=1; \
	.venv/bin/ruff format --check --quiet . demo/run || status=1; \
	.venv/bin/mypy $(PACKAGES) setup/*.py images/*.py tests bench charts/headwater/files/*.py || status=1; \
	.venv/bin/mypy --no-error-summary demo/run demo/*.py || status=1; \
	.venv/bin/lint-imports --no-logo --no-cache > build/imports.log 2>&1 \
		|| { cat build/imports.log; status=1; }; \
	git ls-files 'bpf/*.c' 'bpf/*.h' 'tests/kernel/*.c' | xargs --no-run-if-empty .venv/bin/clang-format --dry-run -Werror \
		|| status=1; \
	$(PYTHON) setup/definitions.py --check || status=1; \
	$(PYTHON) setup/coverage.py --check || status=1; \
	$(PYTHON) setup/contract.py --check || status=1; \
	$(PYTHON) setup/checks.py || status=1; \
	[ $$status = 0 ] && echo "lint: clean" || { echo "lint: see above" >&2; exit 1; }

.PHONY: format
format: setup ## put Python and C in the project's style
	@.venv/bin/ruff check --fix --quiet .
	@.venv/bin/ruff format --quiet .
	@git ls-files 'bpf/*.c' 'bpf/*.h' 'tests/kernel/*.c' | xargs --no-run-if-empty .venv/bin/clang-format -i

.PHONY: definitions
definitions: setup ## crds/ from setup/definitions/
	@$(PYTHON) setup/definitions.py

.PHONY: documents
documents: setup ## docs/coverage.md, the table of docs/hooks.md and what docs/stream-contract.md shows
	@$(PYTHON) setup/coverage.py
	@$(PYTHON) setup/contract.py

.PHONY: bench
bench: setup ## all benchmarks; figures of record are in docs/performance.md
	@/usr/bin/python3 setup/kernels.py trixie
	@/usr/bin/python3 setup/control_plane.py
	@for benchmark in bench/*/__main__.py; do \
		name=$$(basename "$$(dirname "$$benchmark")"); \
		echo "== $$name"; $(PYTHON) -m "bench.$$name"; \
	done

.PHONY: clean
clean: ## what was built; the cache and the kernels stay
	@rm -rf build demo/work demo/*.json demo/lineage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## and the virtual environment
	@rm -rf .venv
