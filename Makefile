# The two commands of the README, `make demo` and `make test`, do everything on a fresh machine with Python 3.11+.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PHOTOS ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test check bench fuzz install docs clean

# Without torch: this is what `pip install "topwork[demo]"` gives a user.
demo: $(VENV)/.demo
	$(BIN)/python examples/solar_cells.py demo-output
	$(BIN)/topwork fit demo-output/labelled.csv -o demo-output/cells.topwork
	$(BIN)/topwork evaluate demo-output/cells.topwork demo-output/others.csv
	$(BIN)/topwork report demo-output/cells.topwork

# Two processes that take a file at a time, each file in order: its tests share what they made.
test: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

# make bench [PHOTOS=DIR] [FASTAI=PYTHON]: JSON on stdout; ratios to a hand-written reference inside one run, about half an
# hour. With PHOTOS also fine-tuning, beside fastai where FASTAI names a Python that has it.
bench: $(VENV)/.bench
	$(BIN)/python benchmarks/bench.py $(PHOTOS)
	$(BIN)/python benchmarks/networks.py
	$(BIN)/python benchmarks/looking.py $(PHOTOS)
	$(BIN)/python benchmarks/retrieval.py $(PHOTOS)
	$(BIN)/python benchmarks/styling.py
	$(if $(PHOTOS),$(BIN)/python benchmarks/tuning.py $(PHOTOS) $(if $(FASTAI),--fastai $(FASTAI)))

# make fuzz [SECONDS=600] [SEED=1]: changed files for every parser of what a stranger may send.
SECONDS ?= 600
fuzz: $(VENV)/.dev
	$(BIN)/python tests/fuzz/fuzz.py --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

install: $(VENV)/.dev

# Everything that is generated into the documentation: command-line help, pictures.
docs: $(VENV)/.dev
	$(BIN)/python docs/generate.py

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.demo: pyproject.toml | $(VENV)/.made
	$(BIN)/pip install -q -e ".[demo]"
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.made
	$(BIN)/pip install -q -c constraints.txt -e ".[dev,train]"
	touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(BIN)/pip install -q -c constraints.txt -e ".[bench]"
	touch $@

clean:
	rm -rf $(VENV) demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
