# `make` prints this list
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
ABOVE := env PATH="$(CURDIR)/$(BIN):$$PATH"

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

train: $(VENV)/train  ## install, and train on 4 ranks
	$(ABOVE) mpirun -n 4 python -m dsgd.train

test: $(VENV)/test  ## install, and run the test suite
	$(ABOVE) python -m pytest -n 2 --dist loadfile

bench: $(VENV)/test  ## the benchmarks of speed, with their bars, in about 12 minutes; beside PyTorch if it is installed
	$(ABOVE) python -m benchmarks

reference: $(VENV)/test  ## what the last `make bench` found becomes the tables and the figure of docs/guide/speed.md
	$(ABOVE) python -m benchmarks.results
	$(ABOVE) python -m benchmarks.figure
	$(ABOVE) python docs/tables.py

figures: $(VENV)/test  ## the pictures of the pages anew, and every notebook with its long cells, about three minutes
	$(ABOVE) python docs/figures.py
	$(ABOVE) python -m notebooks.run --full

notebooks: $(VENV)/test  ## execute the notebooks, into runs/notebooks
	$(ABOVE) python -m notebooks.run

site: $(VENV)/test  ## the documentation site, into site/
	$(ABOVE) NO_MKDOCS_2_WARNING=1 mkdocs build

soak: $(VENV)/test  ## kill runs and ranks at random moments, 150 times, then chaos, fuzzing, worlds on processes: nothing may be lost
	$(ABOVE) python tests/soak.py

tables: $(VENV)/test  ## write the tables of the READMEs, the guide and docs/faults.md anew, from registries and tests
	$(ABOVE) python docs/tables.py
	$(ABOVE) python docs/fault_matrix.py

golden: $(VENV)/test  ## write the golden traces anew; look at the diff
	$(ABOVE) DSGD_GOLDEN=write python -m pytest tests/test_golden.py

clean:  ## remove the virtual environment and what was built
	rm -rf $(VENV) build dist *.egg-info

$(VENV)/train: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[mpich]"
	touch $@

$(VENV)/test: $(VENV)/train
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[mpich,test]"
	touch $@

.PHONY: help train test bench reference figures notebooks site soak tables golden clean
