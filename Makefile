VENV := .venv
PYTHON := $(VENV)/bin/python

.PHONY: train test test-slow docs

train: $(VENV)/installed  ## make train ARGS="--data wine"
	$(PYTHON) -m experiments.train $(ARGS)

test: $(VENV)/installed
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m basedpyright
	$(PYTHON) -m pytest -n 2 --dist loadfile

test-slow: $(VENV)/installed  ## every mistake at every place, and thousands of right gradients
	$(PYTHON) -m pytest -n 2 --dist loadfile -m slow -rP

docs: $(VENV)/documented  ## build/docs/html/index.html
	@echo "notebooks are run and pictures made, which takes some minutes, and less when jaxbp/ is as it was"
	$(PYTHON) -m sphinx --fail-on-warning --keep-going --quiet docs build/docs/html
	@echo "open build/docs/html/index.html"

$(VENV)/documented: $(VENV)/installed
	$(PYTHON) -m pip install --quiet --editable '.[docs,experiments]' --constraint constraints.txt
	touch $@

$(VENV)/installed: pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --editable '.[experiments,test]' --constraint constraints.txt
	touch $@
