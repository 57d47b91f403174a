# One target, one job. `make demo` or `make test` alone sets up a fresh machine first.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
DEMO ?=

.PHONY: install demo federation test explore chaos check bench evidence

install: $(STAMP)

$(STAMP): pyproject.toml common/assets.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/hanse assets fetch
	touch $(STAMP)

demo: install
	$(BIN)/hanse simulate $(DEMO)

# A coordinator and three sites on this machine, with TLS and separate data files.
federation: install
	$(BIN)/hanse federation demo --out $(or $(OUT),$$(mktemp -d)/federation)

test: install
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

# Property tests on new random examples; what it finds becomes an @example.
explore: install
	HYPOTHESIS_PROFILE=explore $(BIN)/python -m pytest -m 'not slow'

# A running federation under N faults at random moments; the report is JSON on the standard output.
N ?= 50
SEED ?= 1
chaos: install
	$(BIN)/python -m tests.chaos $(N) --seed $(SEED)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install
	$(BIN)/python -m tests.benchmarks

evidence: install
	$(BIN)/python -m tests.evidence $(NAME)
