# Everything a newcomer needs is Python 3.11 to 3.14 and make. `make help` lists the commands.

.DEFAULT_GOAL := help

# Whatever the locale says.
export PYTHONUTF8 := 1

# In CI a test that is skipped has failed (tests/plugins/tools.py).
TESTS := .venv/bin/python -m tests.run
EXPORT := uv export --frozen --quiet --no-hashes --no-header --no-annotate

# Only with the environment's own first does npm find node.
NODE_CLIENTS := tests/conformance/node
NPM := PATH="$(CURDIR)/.venv-clients/bin:$$PATH" npm --prefix $(NODE_CLIENTS)

.PHONY: help venv dev run test check check-all clients lint migrations bench screenshots requirements

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: ## Make the virtual environment that `make run` uses
	@scripts/environment.sh .venv requirements.txt

dev: ## Make the virtual environment with all that developers need
	@scripts/environment.sh .venv requirements.txt requirements-dev.txt

run: venv ## Run the whole product on http://127.0.0.1:8503 (GATEWAY_PORT=...)
	@exec .venv/bin/python -m sandbox.run

test: dev ## Run the tests that need nothing but Python (ARGS="-k NAME")
	@$(TESTS) $(ARGS)

check: lint migrations clients ## What CI runs: lint, types, imports, migrations, every test
	@$(TESTS) --all $(ARGS)

check-all: lint migrations clients ## The same, with all exhaustive variants
	@$(TESTS) --exhaustive $(ARGS)

clients: $(NODE_CLIENTS)/node_modules/.ready ## Install the clients under test that are not in .venv (Node, LlamaIndex)
	@scripts/environment.sh .venv-clients tests/conformance/requirements.txt

lint: dev ## Check format, lint, types and the direction of imports
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

migrations: dev ## Check that the migrations lead to the models' schema
	.venv/bin/python -m scripts.check_migrations

bench: dev ## Measure the gateway next to nginx (ARGS=--quick; needs nginx, two cores)
	.venv/bin/python -m bench $(ARGS)

screenshots: dev ## Take pictures of every page (ARGS="FOLDER --only dashboard"; needs Chromium)
	.venv/bin/python -m tests.browser.screenshots $(ARGS)

# The Docker image does without the sandbox.
requirements: ## Lock anew and export requirements*.txt (needs uv)
	uv lock
	$(EXPORT) --no-default-groups --group fast -o requirements-production.txt
	$(EXPORT) --only-group fast -o requirements-fast.txt
	$(EXPORT) --no-default-groups --group sandbox -o requirements.txt
	$(EXPORT) --group dev -o requirements-dev.txt
	uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
		tests/conformance/requirements.in -o tests/conformance/requirements.txt

$(NODE_CLIENTS)/node_modules/.ready: $(NODE_CLIENTS)/package-lock.json
	@scripts/environment.sh .venv-clients tests/conformance/requirements.txt
	$(NPM) ci --silent
	@touch $@
