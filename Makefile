# Two commands on a fresh machine: `make demo` and `make test`. Each makes what it needs.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 0
DEMO ?= demo
WORKSPACE ?= workspace
BIN := $(VENV)/bin
RUN := $(BIN)/mer-prep
INSTALLED := $(VENV)/.installed

.PHONY: help install demo test faults fuzz lint docs wheel bench composite-dataset clean

help:
	@echo "make demo                synthetic corpora to aligned faces, flow, the composite and a small model"
	@echo "make install             only make the environment .venv, with mer-prep in it"
	@echo "make test                run the tests"
	@echo "make composite-dataset CASME2=DIR SAMM=DIR SMIC=DIR   the 442-clip composite"
	@echo "make faults              fail every change of the disk in turn, and see that nothing is lost"
	@echo "make fuzz                broken files for every reader, ten minutes (FUZZ='--minutes 60 manifest')"
	@echo "make lint                linters and type checks"
	@echo "make docs                build the pages of docs/ into docs/_build; a warning is an error"
	@echo "make wheel               build the wheel and try it outside the checkout"
	@echo "make bench               side-by-side measurements, written to benchmarks/results"
	@echo "                         (BENCH='--full', '--only composite', '--videos a.mp4 b.mp4' ...)"
	@echo "make clean               remove the environment, the demo and caches; never a workspace"

# The C sources are built by the installation, so a change of theirs asks for another one.
$(INSTALLED): pyproject.toml setup.py constraints.txt $(wildcard mer_prep/_kernels/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dlib,dask,train,report,docs,dev]"
	@touch $@

install: $(INSTALLED)
	@echo "mer-prep is in $(BIN); to have it at hand: . $(BIN)/activate"

demo: $(INSTALLED)
	@$(RUN) synth --out $(DEMO)/synthetic --jobs $(JOBS)
	@$(MAKE) --no-print-directory composite-dataset WORKSPACE=$(DEMO)/workspace \
	  CASME2=$(DEMO)/synthetic/CASME2 SAMM=$(DEMO)/synthetic/SAMM SMIC=$(DEMO)/synthetic/SMIC
	@$(RUN) qc --workspace $(DEMO)/workspace --jobs $(JOBS)
	@$(RUN) evaluate-truth --workspace $(DEMO)/workspace --jobs $(JOBS)
	@echo "MOL's preset tiny, tested on every subject in turn, and the control with labels dealt anew:"
	@$(RUN) train --model mol --preset tiny --workspace $(DEMO)/workspace --jobs $(JOBS)
	@$(RUN) train --model mol --preset tiny --shuffle-labels --workspace $(DEMO)/workspace --jobs $(JOBS)
	@$(RUN) report mol-tiny-megc2019-3-loso-seed1 --workspace $(DEMO)/workspace
	@$(RUN) status --workspace $(DEMO)/workspace
	@echo
	@echo "To look at them all, open $(DEMO)/workspace/reports/qc-casme2.html in a browser."
	@echo "To see a clip:  $(RUN) inspect casme2/sub01/EP02_01f --show clip.png -w $(DEMO)/workspace"

# Folders are imported, checked, prepared and combined. Without any, synthetic ones are made.
composite-dataset: $(INSTALLED)
ifeq ($(CASME2)$(SAMM)$(SMIC),)
	@echo "No corpus folder was named (CASME2=, SAMM=, SMIC=): the composite is made from SYNTHETIC corpora."
	@$(MAKE) --no-print-directory demo
else
	@set -e; for corpus in casme2:"$(CASME2)" samm:"$(SAMM)" smic:"$(SMIC)"; do \
	  name=$${corpus%%:*}; folder=$${corpus#*:}; \
	  if [ -n "$$folder" ]; then \
	    $(RUN) import $$name "$$folder" --workspace "$(WORKSPACE)" --jobs $(JOBS) || [ $$? -eq 3 ]; \
	  else echo "$$name: no folder was named; the composite will lack it"; fi; done
	@$(RUN) validate --workspace "$(WORKSPACE)" || echo "validate found errors: the clips concerned will be set aside"
	@$(RUN) run onset-apex --workspace "$(WORKSPACE)" --jobs $(JOBS) || [ $$? -eq 3 ]
	@$(RUN) composite --pipeline onset-apex --workspace "$(WORKSPACE)"
endif

test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --dist worksteal

faults: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults $(FAULTS)

fuzz: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz $(FUZZ)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED)
	$(BIN)/python -m mer_prep.docs_pages
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/README.html"

wheel: $(INSTALLED)
	PYTHON=$(PYTHON) .ci/wheel $(abspath $(BIN)/python)

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks $(BENCH) --save

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info mer_prep/ops/_tvl1.*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
