# Every target sets itself up: .venv is made from requirements.lock with the pip of a stock Python 3.11 or later.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOWEST := .venv-lowest
# It hides a Flower that is installed, whose own command may come before ours, as the packages were installed.
FLOWER_AWAY := tests/unit/test_command.py::test_celery_says_how_to_get_flower_where_it_is_not_installed
SOURCES := graflow graflow_celery pytest_graflow tests examples benchmarks
LONG := slow or fault or mutation
# More than half of what the tests take is waiting, for servers and workers: four processes keep two cores busy.
JOBS ?= 4
SOAK ?= 1800
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal
# The programs that tests start import the packages again and again; pytest, too, keeps what it has compiled.
unexport PYTHONDONTWRITEBYTECODE
REDIS_SETTINGS := graflow.redis.config graflow.redis.clients graflow.redis.urls graflow.redis.sentinels graflow.secret
REDIS_TESTS := tests/unit/test_redis_utils.py
COVERED := .coverage.redis-settings
EXTRAS := --extra api --extra embedded --extra flower --extra metrics --extra ocr --extra otel --extra dev

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-crash test test-rest page-test lock-page test-mutants test-all check unit format coverage faults soak test-lowest bench openapi lock clean

help:  ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1\t\2/p' Makefile | expand -t 18

setup: $(READY)  ## Install everything into .venv

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip --disable-pip-version-check check
	@touch $@

demo: $(READY)  ## Run the example on two Celery workers with a private Redis
	@$(BIN)/python examples/stdlib_report.py
	@echo "To see a flow run in a browser: $(BIN)/graflow serve --demo"

demo-crash: $(READY)  ## Kill a flow in the middle of a group on workers, and see it finish
	@$(BIN)/python examples/flows/crash_demo.py

# Every test is in `test`, `test-rest`, `page-test` or `test-mutants`. Those of the Redis settings run once, on their own, for their coverage.
test: $(READY) $(COVERED)  ## Run the tests that are worth most: about four minutes on two cores
	$(PYTEST) -m "not ($(LONG) or browser or exhaustive)" --ignore=$(REDIS_TESTS)

test-rest: $(READY)  ## Run the slow tests, the faults and the mutants, which `make test` leaves out
	$(PYTEST) -m "$(LONG)" --ignore=$(REDIS_TESTS)

page-test: $(READY)  ## Test the live page in Chromium (CHROMIUM names another one); PAGE_PICTURES=folder keeps pictures
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-page.lock
	PAGE_TESTS=1 $(BIN)/python -m pytest tests/page/e2e

lock-page: $(READY)  ## Write requirements-page.lock again: what tests in Chromium need beside requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-tools
	echo 'playwright>=1.49' | $(BIN)/pip-compile --quiet --upgrade --generate-hashes --strip-extras --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
		--constraint requirements.lock --output-file requirements-page.lock -

test-mutants: $(READY)  ## Look whether simulations of groups find each mistake that is listed: an hour or more
	$(PYTEST) -m "exhaustive"

test-all: $(READY) $(COVERED)  ## Run all tests
	$(PYTEST) --ignore=$(REDIS_TESTS)

$(COVERED): $(READY) Makefile $(REDIS_TESTS) $(shell find graflow -name '*.py')
	COVERAGE_FILE=$@ $(BIN)/python -m pytest -q $(REDIS_TESTS) $(REDIS_SETTINGS:%=--cov=%) --cov-report=

check: $(READY) $(COVERED)  ## Format, lint, types, floors, coverage of the Redis settings
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/coverage report --data-file=$(COVERED) --fail-under=90

unit: $(READY)  ## Run the tests that need no server
	$(BIN)/python -m pytest -q tests/unit tests/core

format: $(READY)  ## Format the code and apply the safe fixes
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

coverage: $(READY)  ## Show which lines no test reaches
	$(BIN)/python -m pytest -q -m "not fault" --cov --cov-report=term

faults: $(READY)  ## Kill, cut and starve real processes, and print what was lost
	$(BIN)/python -m pytest -q -s -m fault tests/faults

soak: $(READY)  ## Half an hour of groups and faults without pause; SEED=n repeats one
	$(BIN)/python -m tests.faults.soak --seconds $(SOAK) $(if $(SEED),--seed $(SEED))

test-lowest: $(READY)  ## Run unit and integration tests on the lowest versions that pyproject.toml allows
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(BIN)/python -m tests.lowest > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(LOWEST)/lowest.txt \
		--editable '.[api,embedded,flower,metrics,ocr,otel,dev]'
	$(LOWEST)/bin/python -m pip --disable-pip-version-check check
	$(LOWEST)/bin/python -m pytest -n $(JOBS) --dist loadfile -p no:cacheprovider tests/unit tests/core tests/integration \
		--deselect $(FLOWER_AWAY)

bench: $(READY)  ## Measure against raw Celery, networkx and bare loops
	$(BIN)/python -m benchmarks.bench_import
	$(BIN)/python -m benchmarks.bench_engine
	$(BIN)/python -m benchmarks.bench_celery

openapi: $(READY)  ## Write docs/openapi.json again: the description of the API with the example flows
	$(BIN)/python -m tests.api.kept

lock: $(READY)  ## Write requirements.lock again from pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-tools
	$(BIN)/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options $(EXTRAS) \
		--output-file requirements.lock pyproject.toml

clean:  ## Remove what the other targets made
	rm -rf $(VENV) $(LOWEST) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.* htmlcov
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
