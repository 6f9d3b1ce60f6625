# Everything a newcomer needs is Python 3.11 or 3.12 and make. `make help` lists the commands.

.DEFAULT_GOAL := help

# The first of these that is new enough, and not too new.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))
PYTHON := $(shell for python in $(PYTHON) python3.12 python3.11 python3; do \
	command -v $$python >/dev/null 2>&1 && $$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python && break; done)
NO_PYTHON := "promptly needs Python 3.11 or 3.12; none was found"
# An environment made by uv has no pip.
ENSURE_PIP := @.venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip
PIP := .venv/bin/python -m pip --disable-pip-version-check install --quiet
PYTEST := .venv/bin/python -m pytest
# In CI a test that is skipped has failed.
STRICT := $(if $(filter true 1,$(CI)),-p tests.plugins.no_skips)
EXPORT := uv export --frozen --quiet --no-hashes --no-header --no-annotate

# Only with the environment's own first does npm find node.
NODE_CLIENTS := tests/conformance/node
NPM := PATH="$(CURDIR)/.venv-clients/bin:$$PATH" npm --prefix $(NODE_CLIENTS)

.PHONY: help venv run test check clients lint migrations bench screenshots requirements

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: .venv/.run ## Make the virtual environment that `make run` uses

run: .venv/.run ## Run the whole product on http://127.0.0.1:8503 (GATEWAY_PORT=...)
	@exec .venv/bin/python -m promptly.sandbox.run

test: .venv/.dev ## Run the tests that need nothing but Python
	$(PYTEST) -m "not real_llama and not browser and not nginx and not node and not llama_index" $(ARGS)

# Tests wait for processes and clocks as often as they work, so two cores take three at a time; of
# the slow ones, a file stays in one worker. What measures, or kills under load, has the machine to itself.
check: lint migrations clients ## What CI runs: lint, types, imports, migrations, every test
	$(PYTEST) $(STRICT) -n 3 -m "not slow and not alone" $(ARGS)
	$(PYTEST) $(STRICT) -n 3 --dist loadfile --durations=15 -m "slow and not alone" $(ARGS)
	$(PYTEST) $(STRICT) --durations=10 -m alone $(ARGS)

clients: .venv-clients/.ready $(NODE_CLIENTS)/node_modules/.ready ## Install the clients under test that are not in .venv (Node, LlamaIndex)

lint: .venv/.dev ## Check format, lint, types and the direction of imports
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

migrations: .venv/.dev ## Check that the migrations lead to the models' schema
	.venv/bin/python -m scripts.check_migrations

bench: .venv/.dev ## Measure the gateway next to nginx (ARGS=--quick; needs nginx, two cores)
	.venv/bin/python -m bench $(ARGS)

screenshots: .venv/.dev ## Take pictures of every page (ARGS="FOLDER --only dashboard"; needs Chromium)
	.venv/bin/python -m tests.browser.screenshots $(ARGS)

# The Docker image does without the sandbox.
requirements: ## Lock anew and export requirements*.txt (needs uv)
	uv lock
	$(EXPORT) --no-default-groups -o requirements-production.txt
	$(EXPORT) --no-default-groups --group sandbox -o requirements.txt
	$(EXPORT) --group dev -o requirements-dev.txt
	uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
		tests/conformance/requirements.in -o tests/conformance/requirements.txt

# A stamp is as new as the requirements it was installed from: no network while they are the same.

.venv/.run: requirements.txt | .venv/bin/python
	$(ENSURE_PIP)
	$(PIP) -r requirements.txt
	@touch $@

.venv/.dev: requirements.txt requirements-dev.txt | .venv/bin/python
	$(ENSURE_PIP)
	$(PIP) -r requirements.txt -r requirements-dev.txt
	@touch .venv/.run $@

.venv-clients/.ready: tests/conformance/requirements.txt
	@test -n "$(PYTHON)" || { echo $(NO_PYTHON) >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv-clients
	.venv-clients/bin/python -m pip --disable-pip-version-check install --quiet -r $<
	@touch $@

$(NODE_CLIENTS)/node_modules/.ready: $(NODE_CLIENTS)/package-lock.json .venv-clients/.ready
	$(NPM) ci --silent
	@touch $@

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo $(NO_PYTHON) >&2; exit 1; }
	$(PYTHON) -m venv .venv
