# One command each; every one sets up .venv by itself. Without make, see README.md.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
TOOL = PYTHONPATH="$(CURDIR):$(CURDIR)/workflow/scripts" $(BIN)/python -m study.tools
SITE = NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
CONFIG ?= config.yaml
STUDY = $(shell $(BIN)/python -c 'import sys, yaml; print(yaml.safe_load(open(sys.argv[1]))["study"])' "$(CONFIG)" 2>/dev/null)

.PHONY: report plan rates test verify verify-results faults bench bench-narrow bench-gpu check lint types rules-lint strict-site format docs site gallery lock clean help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST)

report: $(VENV)/run.stamp ## run the study (CONFIG=config.yaml) on all cores and render both reports
	$(TOOL).release_lock "$(CONFIG)"
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores all --configfile "$(CONFIG)"
	@echo "Snakemake's own report, which holds this one and the code of every rule, is made: results/$(STUDY)/snakemake-report.html"
	@PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --configfile "$(CONFIG)" --report results/$(STUDY)/snakemake-report.html \
		> results/$(STUDY)/logs/snakemake-report.log 2>&1 || { cat results/$(STUDY)/logs/snakemake-report.log >&2; exit 1; }

test: $(VENV)/dev.stamp ## run all tests
	$(BIN)/python -m pytest -n auto --dist loadgroup

verify: $(VENV)/run.stamp ## check the engine against every oracle in every regime (QUICK=1: T up to 100; SEED=1: other networks)
	$(BIN)/python -m verification.run --output results/verify --seed $(or $(SEED),0) $(if $(QUICK),--lengths 1 2 7 100)

verify-results: $(VENV)/run.stamp ## check every file of a study (CONFIG=config.yaml) for damage and mix-ups (PUT_ASIDE=1: rename the bad ones, to be made anew)
	$(TOOL).verify_results "$(CONFIG)" $(if $(PUT_ASIDE),--put-aside)

faults: $(VENV)/dev.stamp ## every write, rename, open and read of a study fails once, one after the other (an hour or so)
	ALL_FAULTS=1 $(BIN)/python -m pytest tests/faults/test_nth_call.py

bench: $(VENV)/bench.stamp ## time the engine beside its peers on one thread, over a grid; writes docs/benchmarks.md (15 minutes)
	$(BIN)/python -m benchmarks.run

bench-narrow: $(VENV)/bench.stamp ## the same without AVX-512, on a machine that has it
	$(BIN)/python -m benchmarks.run --avx2

bench-gpu: $(VENV)/bench.stamp ## the same on a CUDA device
	$(BIN)/python -m benchmarks.run --device cuda

check: lint types rules-lint strict-site ## format, lint, types, snakefmt, snakemake --lint, the strict build of the site

lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/dev.stamp
	$(BIN)/mypy

rules-lint: $(VENV)/dev.stamp
	$(BIN)/snakefmt --check Snakefile workflow
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --lint

strict-site: $(VENV)/dev.stamp
	$(SITE)

format: $(VENV)/dev.stamp ## format all code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/snakefmt Snakefile workflow

plan: $(VENV)/run.stamp ## what the study (CONFIG=config.yaml) will take: runs, jobs, time, memory, disk; and how much of it is finished
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake plan --cores all --nolock --configfile "$(CONFIG)"

rates: $(VENV)/run.stamp ## measure the rates of the cost model again (after the engine became faster)
	$(TOOL).measure_rates

docs: $(VENV)/run.stamp ## write the config schema and the pages of settings, choices, tables, cells and papers from the code
	$(TOOL).write_docs

site: $(VENV)/dev.stamp ## build the documentation into site/; a broken link, reference or formula is an error
	$(SITE)
	@echo "Open site/index.html. Its search needs a server: $(BIN)/python -m http.server -d site"

gallery: $(VENV)/run.stamp ## run the studies of the gallery and write docs/gallery.md with its pictures (an hour)
	for config in config.yaml studies/cells.yaml studies/gates.yaml studies/isometry.yaml studies/memory_curse.yaml \
			studies/depth.yaml studies/cliff.yaml studies/remedies.yaml studies/long_memory.yaml studies/pascanu_2013.yaml studies/ten_thousand.yaml; do \
		PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores all --configfile $$config || exit 1; done
	PYTHONPATH="$(CURDIR):$(CURDIR)/workflow/scripts" $(BIN)/python docs/hooks/gallery.py

lock: ## pin the newest versions that fit, in a fresh environment
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0 ".[study]"
	$(BIN)/pip freeze --exclude rnn-core | sed 's/+cpu//' > requirements.txt
	$(BIN)/pip install --quiet ".[cluster]"
	{ echo "-r requirements.txt"; $(BIN)/pip freeze --exclude rnn-core | sed 's/+cpu//' | grep -vxFf requirements.txt; } > requirements-cluster.txt
	$(BIN)/pip install --quiet ".[dev]"
	{ echo "-r requirements-cluster.txt"; $(BIN)/pip freeze --exclude rnn-core | sed 's/+cpu//' | grep -vxFf requirements.txt | grep -vxFf requirements-cluster.txt; } > requirements-dev.txt
	$(BIN)/pip install --quiet ".[bench]"
	{ echo "-r requirements.txt"; $(BIN)/pip freeze --exclude rnn-core | sed 's/+cpu//' | grep -vxFf requirements.txt -f requirements-cluster.txt -f requirements-dev.txt; } > requirements-bench.txt

clean: ## remove results and the environment
	rm -rf results .snakemake site $(VENV)

# The second line makes `import rnn_core` work in every folder, not only in this one.
$(VENV)/run.stamp: requirements.txt pyproject.toml
	@echo "Setting up $(VENV): a minute or two"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(VENV)/dev.stamp: requirements-dev.txt requirements-cluster.txt $(VENV)/run.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

$(VENV)/bench.stamp: requirements-bench.txt $(VENV)/run.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	touch $@
