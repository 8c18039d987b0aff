# make demo       the whole stack with simulated mail, on http://127.0.0.1:8787; ARGS="--port 8877" changes the port
# make test       every test
# make check      lint, types, import rules, unit tests, audit of the dependencies: under a minute
# make bench      push-to-client latency; ARGS=all for the whole report (25 minutes), ARGS=--help for each part
# make chaos      break everything by seeded schedules and judge what came of it; ARGS="--seeds 1-100 --jobs 2"
# make artifacts  what Lambda gets: .build/<function>.zip; ARGS="--out DIR webhook"
# make pages      show in docs/ what `tidemark cost` prints now, after a change of prices
# make lock       pin the requirements again, after a change of pyproject.toml

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check lint types unit audit bench chaos artifacts pages lock clean

demo: $(VENV)/.local
	$(BIN)/tidemark dev --simulate 0.7 $(ARGS)

# A test that hangs is ended by its own time-out (see pyproject.toml). These are for what that does not reach.
WITHIN_5_MIN := timeout --foreground --signal=INT --kill-after=60 300
WITHIN_20_MIN := timeout --foreground --signal=INT --kill-after=60 1200

test: check $(VENV)/.node
	$(WITHIN_20_MIN) $(BIN)/pytest tests/contract --numprocesses 3 --dist loadfile --max-worker-restart 1 $(ARGS)
	$(WITHIN_20_MIN) $(BIN)/pytest tests/e2e --numprocesses 3 --dist loadfile --max-worker-restart 1 $(ARGS)

# Two at a time: the types take as long as the unit tests.
check: $(VENV)/.dev
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target types unit lint audit

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(VENV)/.dev
	$(BIN)/mypy

unit: $(VENV)/.dev
	$(WITHIN_5_MIN) $(BIN)/pytest tests/unit

audit: $(VENV)/.dev
	$(BIN)/python -m tests.support.audit

bench: $(VENV)/.dev $(VENV)/.node
	$(BIN)/python -m bench $(ARGS)

chaos: $(VENV)/.local
	$(BIN)/python -m infra.chaos $(ARGS)

artifacts: $(VENV)/.deploy
	$(BIN)/python -m infra.packaging $(ARGS)

pages: $(VENV)/.local
	$(BIN)/python -m infra.cost.page

# ziglang is left out: cargo-lambda compiles with it, and the tests only emulate with that. It is as large as the rest.
lock: | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --universal --python-version 3.11 \
	  pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --universal --python-version 3.11 \
	  --extra local pyproject.toml -o requirements-local.txt
	$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --universal --python-version 3.11 \
	  --no-emit-package ziglang --extra local --extra dev --group deploy pyproject.toml -o requirements-dev.txt
	$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --universal --python-version 3.11 \
	  --constraint requirements-dev.txt --group deploy -o requirements-deploy.txt

clean:
	rm -rf $(VENV) node_modules .build

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Tidemark needs Python 3.11 or newer; set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || $(PYTHON) -m virtualenv $(VENV) \
	  || { echo "Python's venv module is missing: install it (Debian: python3-venv)" >&2; exit 1; }

# The requirement files hold everything that anything in them needs, so pip has nothing to resolve (--no-deps). Left to
# resolve, it trips over extras: it meets `coverage[toml]` and takes the newest release, which is not the pinned one.

# What the stack needs to run.
$(VENV)/.local: requirements-local.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-local.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# What packing needs: it reads our own modules, and imports nothing of what they import.
$(VENV)/.deploy: requirements-deploy.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-deploy.txt
	@touch $@

# What the tests need besides.
$(VENV)/.dev: requirements-dev.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.local $(VENV)/.deploy

# The JavaScript client that the gateway is held to, and what is measured beside us. Without node these tests are
# skipped and that peer is left out, and both say so.
$(VENV)/.node: package-lock.json | $(BIN)/python
	@if command -v npm >/dev/null; then npm ci --silent --no-audit --no-fund && touch $@; \
	else echo "npm is missing: without it nothing is deployed, and some tests are skipped" >&2; fi
