# Requires only Python 3.11 to 3.14 and make. `make help` lists the commands.

.DEFAULT_GOAL := help

# Independent of the locale.
export PYTHONUTF8 := 1

# In CI a skipped test fails (tests/plugins/tools.py).
TESTS := .venv/bin/python -m tests.run
EXPORT := uv export --frozen --quiet --no-header --no-annotate

# npm finds node only if the environment's own bin comes first in PATH.
NODE_CLIENTS := tests/conformance/node
NODE_AGENTS := tests/agents/node
NODE_QUICK_AGENTS := tests/agents/quick
NPM := PATH="$(CURDIR)/.venv-clients/bin:$$PATH" npm --prefix
# aider pins packages that have no wheels for later Pythons.
AIDER_PYTHON = $(firstword $(foreach name,python3.12 python3.11,$(shell $(name) -c 'print("$(name)")' 2>/dev/null)))

.PHONY: help venv dev run smoke test check check-all clients agents lint migrations bench prove upgrade-test screenshots docs requirements

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: ## Create the virtual environment for `make run`
	@scripts/environment.sh .venv requirements.txt

dev: ## Create the virtual environment with all development dependencies
	@scripts/environment.sh .venv requirements.txt requirements-dev.txt

run: venv ## Run the whole product on http://127.0.0.1:8503 (GATEWAY_PORT=...)
	@exec .venv/bin/python -m sandbox.run

# While `make run` runs here, it is checked, with its own port and admin key.
RUNNING = $(if $(findstring --url,$(ARGS)),,$(wildcard .promptly/runtime.env))

smoke: ## Check the `make run` of this folder, or another gateway (ARGS="--url URL")
	@$(if $(RUNNING),.venv/bin/dotenv --file $(RUNNING) run -- sh -c '\
		exec .venv/bin/python scripts/smoke-test.py --url "http://127.0.0.1:$$GATEWAY_PORT" $(ARGS)',\
		scripts/smoke-test.py $(ARGS))

test: dev ## Run the tests that need only Python (ARGS="-k NAME")
	@$(TESTS) $(ARGS)

check: lint migrations clients ## Run what CI runs: lint, types, imports, migrations, every test
	@$(TESTS) --all $(ARGS)

check-all: lint migrations clients ## Run the same with all exhaustive variants
	@$(TESTS) --exhaustive $(ARGS)

clients: $(NODE_CLIENTS)/node_modules/.ready $(NODE_QUICK_AGENTS)/node_modules/.ready ## Install the tested clients that are not in .venv (Node, LlamaIndex, agents)
	@scripts/environment.sh .venv-clients tests/conformance/requirements.txt
	@scripts/environment.sh .venv-agents tests/agents/requirements.txt

agents: dev clients $(NODE_AGENTS)/node_modules/.ready ## Run coding agents and SDKs (2.7 GB; ARGS="--only codex --case tool --show")
	@PYTHON=$(AIDER_PYTHON) scripts/environment.sh .venv-aider tests/agents/requirements-aider.txt
	.venv/bin/python -m tests.agents $(ARGS)

lint: dev ## Check format, lint, types and the direction of imports
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

migrations: dev ## Check that the migrations produce the models' schema
	.venv/bin/python -m scripts.check_migrations

bench: dev ## Measure the gateway next to nginx (ARGS=--quick or --scale; BASE=COMMIT to compare; needs nginx, two cores)
	.venv/bin/python -m bench $(if $(BASE),--base $(BASE)) $(ARGS)

prove: venv ## Break everything under load, then compare counts with charges (ARGS="--minutes 3 --seed 7")
	@exec .venv/bin/python -m prove $(ARGS)

# UPGRADE_QUICK=1 shortens it to half a minute of load.
upgrade-test: dev ## Upgrade from FROM=TAG (default v0.1.0) under load, both releases side by side
	UPGRADE_FROM=$(FROM) .venv/bin/python -m pytest tests/upgrade -rP $(ARGS)

screenshots: dev ## Photograph every page (ARGS="FOLDER --only dashboard"; needs Chromium)
	.venv/bin/python -m tests.browser.screenshots $(ARGS)

docs: dev ## Build the documentation site into site/
	.venv/bin/mkdocs build --strict --quiet

# The Docker image excludes the sandbox, and installs with hashes.
requirements: ## Update uv.lock and export requirements*.txt (needs uv)
	uv lock
	$(EXPORT) --no-default-groups --group fast -o requirements-production.txt
	$(EXPORT) --no-hashes --only-group fast -o requirements-fast.txt
	$(EXPORT) --no-hashes --no-default-groups --group sandbox -o requirements.txt
	$(EXPORT) --no-hashes --group dev -o requirements-dev.txt
	uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
		tests/conformance/requirements.in -o tests/conformance/requirements.txt
	for name in requirements requirements-aider; do \
		uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
			tests/agents/$$name.in -o tests/agents/$$name.txt || exit; done

%/node_modules/.ready: %/package-lock.json
	@scripts/environment.sh .venv-clients tests/conformance/requirements.txt
	$(NPM) $* ci --silent
	@touch $@
