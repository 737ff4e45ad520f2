# The commands of this project. `make demo` and `make test` set up all that they need.

VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
# Tests wait about as much as they work, so three processes suit two cores.
PYTEST ?= $(BIN)/pytest -n 3 --dist loadfile

# Which part of the proof, and its options: make proof PROOF_ARGS="killed --spread 20". Default: all of it.
PROOF_ARGS ?=

# Which benchmarks, and their options: make bench BENCH_ARGS="--quick idle-poll cold-start". Default: all, in full.
BENCH_ARGS ?=

.PHONY: help demo test proof bench check coverage mutation install clean

help:
	@echo "make demo      the main job, for real, on an upstream made on the spot; Ctrl-C ends it"
	@echo "make test      every test, on the installed package"
	@echo "make proof     killed, failing, hostile, at random: the whole catalogue, which takes two hours or so; prints a table"
	@echo "make bench     us and the git command side by side, which takes 25 minutes; prints a table"
	@echo "make check     ruff, mypy --strict, import-linter"
	@echo "make coverage  the tests again; fails below 95 % of the branches of the library and the plugins"
	@echo "make mutation  is each small change to the planner and the state store noticed by a test? Half an hour"
	@echo "make clean     remove what the others made"

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

# The wheel is built and installed anew each time: tests run on what users get.
install: $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check '.[test,check]' -c constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps .

demo: install
	@$(BIN)/python examples/demo.py

test: install
	$(PYTEST)

# As root it proves bind mounts too; as an ordinary user what needs no privilege.
proof: install
	@$(BIN)/python -m tests.proof $(PROOF_ARGS)

bench: install
	@$(BIN)/python -m tests.benchmarks $(BENCH_ARGS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The data is written where every account may: some tests become another one. A test that fails hides no figure.
coverage: install
	data=$$(mktemp -d) && chmod 1777 $$data && trap "rm -rf $$data" EXIT && export COVERAGE_FILE=$$data/coverage && \
	{ $(PYTEST) --cov --cov-report=; failed=$$?; \
	$(BIN)/coverage report --show-missing --skip-covered --include='*/libgitopper/*,*/gitopper_plugins/*'; \
	$(BIN)/python -m tests.branches && exit $$failed; }

mutation: install
	$(BIN)/pip install --quiet --disable-pip-version-check '.[mutation]' -c constraints.txt
	$(BIN)/python -m tests.mutants

clean:
	rm -rf $(VENV) build dist mutants .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
