VENV := .venv
PYTHON := $(VENV)/bin/python

.PHONY: train test test-slow test-oldest test-newest docs

train: $(VENV)/installed  ## make train ARGS="--data wine"
	$(PYTHON) -m experiments.train $(ARGS)

test: $(VENV)/installed
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m basedpyright
	$(PYTHON) -m pytest -n 2 --dist loadfile

test-slow: $(VENV)/installed  ## every mistake at every place, and thousands of right gradients
	$(PYTHON) -m pytest -n 2 --dist loadfile -m slow -rP

test-oldest: .venv-oldest/installed  ## with the oldest versions that pyproject.toml declares; takes longer
	.venv-oldest/bin/python -m pytest -n 2 --dist loadfile

test-newest:  ## with the newest versions of all there is, whatever constraints.txt says
	python3 -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[experiments,test]'
	.venv-newest/bin/python -m pip freeze --exclude-editable
	.venv-newest/bin/python -m pytest -n 2 --dist loadfile

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

.venv-oldest/installed: pyproject.toml
	python3 -m venv --clear .venv-oldest
	sed -n '/^dependencies/,/^]/s/>=/==/gp' pyproject.toml | tr -d ' "' | tr , '\n' > .venv-oldest/oldest.txt
	.venv-oldest/bin/python -m pip install --quiet --editable '.[experiments,test]' --constraint .venv-oldest/oldest.txt
	touch $@
