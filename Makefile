# `make demo` trains a real model on this machine; `make test` runs every test on a real Slurm.

TENSORFLOW ?= tensorflow-cpu
PYTEST_ARGS ?=

.PHONY: demo test lint clean

.venv/.installed: setup.cfg pyproject.toml tools/venv
	tools/venv .venv --editable .
	touch $@

.venv/.test: .venv/.installed
	tools/venv .venv --editable '.[test]'
	touch $@

.venv/.demo: .venv/.installed
	tools/venv .venv $(TENSORFLOW) scikit-learn
	touch $@

demo: .venv/.demo
	examples/demo

test: .venv/.test
	tools/debian-packages
	.venv/bin/python -m pytest $(PYTEST_ARGS)

lint: .venv/.test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

clean:
	rm -rf .venv build dist *.egg-info
