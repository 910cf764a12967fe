# The commands a newcomer needs. The environment lives in .venv and is made from requirements.lock.
PYTHON ?= python3.11
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
STAMP := $(VENV)/.made-from-lock
export PATH := $(BIN):$(PATH)
export OMP_NUM_THREADS ?= 1
# Packages are compiled when first imported, not all at once: that must not be switched off from outside.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: repro full test test-all lab bench resampling benchmark gpu studies search env data export contents
.DEFAULT_GOAL := repro

# uv installs in a third of pip's time. It does not read pip's settings (a mirror, say): where it fails, pip goes on.
env: $(STAMP)
$(STAMP): requirements.lock settings.ini setup.py
	test -x $(BIN)/python || $$(command -v $(PYTHON) || command -v python3) -m venv $(VENV)
	$(PIP) $$(grep '^uv==' requirements.lock)
	uv pip install --quiet --system-certs --no-deps --python $(BIN)/python -r requirements.lock || \
		grep -v '^#' requirements.lock | xargs -n 40 -P 2 $(PIP) --no-compile
	$(PIP) --no-build-isolation -e .
	touch $@

data: env
	@test -d data/abalone_dir || dvc pull --quiet data.dvc

repro: env data  ## every figure and table, from nothing or from where it stands
	@dvc status --quiet || { dvc repro sources && dir-nb side-by-side prepare && dvc repro collect && dir-nb side-by-side reports && dvc repro; }
	@dir-nb verify --short || true # on another processor numbers move: that is said, and is no failure

full: env data  ## every method on every data set (two or three hours on two cores, what is kept left); then `make repro` draws them
	dvc repro prepare
	dir-nb notebook nbs/experiments/full.ipynb

test: env data  ## all tests, notebooks included; the expensive ones once for each family of methods
	python -m pytest

test-all: env data  ## all tests of every entry
	python -m pytest -m ""

lab: env data  ## JupyterLab on the tour
	jupyter lab nbs/index.ipynb

bench: env  ## step times, short trainings, and losses against loops on this machine (results/bench), and their figures
	dir-nb notebook nbs/experiments/bench.ipynb
	dir-nb notebook nbs/experiments/loops.ipynb
	dir-nb notebook nbs/reports/fig_bench.ipynb
	dir-nb notebook nbs/reports/fig_cost.ipynb
	dir-nb notebook nbs/reports/fig_loops.ipynb

resampling: env  ## seconds of our samplers beside smogn and imbreg (downloaded, and removed again): results/bench/resampling.csv
	dir-nb notebook nbs/experiments/resampling.ipynb

benchmark: env  ## one of the papers' benchmarks at its size, DATA=agedb_dir say (days on a GPU), and its table; FIGURES=1: those too
	dir-nb benchmark $(DATA) $(if $(FIGURES),--figures)

gpu: env  ## ten minutes of a GPU: steps of every method at the papers' size, throughput, their recipe on faces96_dir (results/gpu)
	dir-nb notebook nbs/experiments/gpu.ipynb

studies: env data  ## the studies (an hour and more on two cores); then `make repro` draws them
	dvc repro prepare
	dir-nb study

search: env data  ## the search for settings on validation splits (an hour on two cores); then set conf/methods by it
	dir-nb notebook nbs/experiments/search.ipynb

export: env  ## notebooks -> dir_nb/, then clean the notebooks
	nbdev_export
	nbdev_clean

contents: env  ## CONTENTS.md, links between the notebooks, tables in docs/; after a notebook or a name is new
	dir-nb pages
