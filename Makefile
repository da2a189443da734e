# Every target sets up what it needs on a fresh machine: a virtual environment with pinned versions.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Type checkers and import graphs do not see through an editable install: they get a normal one.
SITE := $(VENV)/normal
SOURCES := $(shell find symnas spaces algorithms cost_models -name '*.py' -o -name '*.html' -o -name '*.css' -o -name '*.js')

.PHONY: demo test test-cluster lint types contracts unit bench format clean

demo: $(VENV)/.installed
	$(BIN)/symnas demo

test: lint types contracts unit

# What needs PostgreSQL or Ray; installs both where they are missing (PostgreSQL as root, by apt-get).
test-cluster: $(VENV)/.installed
	.ci/cluster $(BIN)

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

$(SITE)/.installed: $(VENV)/.installed $(SOURCES)
	rm -rf $(SITE) build
	$(BIN)/python -m pip install --quiet --no-deps --target $(SITE) .
	rm -rf build
	touch $@

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(SITE)/.installed
	cd $(SITE) && MYPYPATH=. ../bin/mypy --config-file ../../pyproject.toml -p symnas

contracts: $(SITE)/.installed
	cd $(SITE) && PYTHONPATH=. ../bin/lint-imports --config ../../pyproject.toml

# Unit tests, doctests of every public module, examples. Two test processes whose threads wait for one
# another's cores take several times longer: one thread each.
unit: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --durations 10 -q

bench: $(VENV)/.installed
	for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
