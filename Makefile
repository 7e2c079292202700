# `make demo` and `make test` need Python 3.11+ and make, nothing else.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOCK := requirements/dev.txt

# Also under an emptied environment, where neither Python nor a shell would know where to look.
export PATH := $(or $(PATH),/usr/local/bin:/usr/bin:/bin)

.PHONY: setup demo serve test test-full coverage lint format prices sim bench e2e architecture lock clean
.DEFAULT_GOAL := setup

setup: $(READY)

$(READY): $(LOCK) pyproject.toml
	@sh scripts/make-venv "$(VENV)"
	@"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$(LOCK)"
	@"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index --editable .
	@touch "$(READY)"

demo: setup ## a gateway and a sandbox, real SDK messages through both; ends by itself
	@"$(BIN)/python" scripts/demo.py

serve: setup ## the demo's sandbox and gateway, until Ctrl-C
	@"$(BIN)/python" scripts/demo.py --stay

test: setup ## everything that needs Python alone
	@"$(BIN)/python" -m pytest -q -n auto --dist worksteal -m "not e2e"

test-full: setup ## the same tests with five times the random examples
	@TOKENFERRY_TESTS=full "$(BIN)/python" -m pytest -q -n auto --dist worksteal -m "not e2e"

coverage: setup ## the same tests, measured; slower
	@"$(BIN)/python" -m pytest -q -n auto -m "not e2e" --cov --cov-report=term:skip-covered --cov-fail-under=94

lint: setup
	@"$(BIN)/ruff" check .
	@"$(BIN)/ruff" format --check .
	@"$(BIN)/mypy"
	@"$(BIN)/lint-imports"

format: setup
	@"$(BIN)/ruff" format .
	@"$(BIN)/ruff" check --fix .

e2e: setup ## the real Claude Code CLI, the SDKs, Chromium, nginx and a keyring; needs npm, and root to install the last three
	@sh scripts/e2e-needs
	@TOKENFERRY_E2E=1 "$(BIN)/python" -m pytest -m e2e

sim: setup ## a million schedules of refreshes under mishaps; SCHEDULES=N for fewer
	@cd tests && "../$(BIN)/python" -m sim $(SCHEDULES)

bench: setup
	@"$(BIN)/python" -m bench

architecture: setup ## draw docs/architecture.svg from the imports
	@"$(BIN)/python" scripts/architecture.py

prices: setup ## write the table of list prices from the package genai-prices
	@"$(BIN)/python" scripts/prices.py

lock: setup ## write the hashed requirement files anew
	@"$(BIN)/uv" pip compile --quiet --no-strip-extras --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate pyproject.toml -o requirements/run.txt
	@"$(BIN)/uv" pip compile --quiet --no-strip-extras --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate pyproject.toml --group dev -o "$(LOCK)"

clean:
	@rm -rf "$(VENV)" .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.* dist node_modules
