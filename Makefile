VENV := .venv
PYTHON := $(VENV)/bin/python

.PHONY: train test test-slow

train: $(VENV)/installed  ## make train ARGS="--data wine"
	$(PYTHON) -m experiments.train $(ARGS)

test: $(VENV)/installed
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m basedpyright
	$(PYTHON) -m pytest -n 2 --dist loadfile

test-slow: $(VENV)/installed  ## every mistake at every place, and thousands of right gradients
	$(PYTHON) -m pytest -n 2 --dist loadfile -m slow -rP

$(VENV)/installed: pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --editable '.[experiments,test]' --constraint constraints.txt
	touch $@
