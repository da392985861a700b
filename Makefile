# `make demo` trains a real model on this machine; `make test` runs every test on a real Slurm.

TENSORFLOW ?= tensorflow-cpu
# A plain path file: setuptools' import hook would slow every command by a tenth.
EDITABLE := --config-settings editable_mode=compat --editable
PYTEST_ARGS ?=
# The tests' many processes import the same: whatever the shell says, it is compiled once.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: demo unit test test-here test-debian13 reliability correctness bench pictures docs lint hooks clean

.venv/.installed: setup.cfg pyproject.toml tools/venv
	tools/venv .venv $(EDITABLE) .
	.venv/bin/python -m compileall -q hpctf
	touch $@

.venv/.test: .venv/.installed
	tools/venv .venv $(EDITABLE) '.[test]'
	touch $@

.venv/.dev: .venv/.test
	tools/venv .venv $(EDITABLE) '.[dev]'
	touch $@

.venv/.docs: .venv/.installed
	tools/venv .venv $(EDITABLE) '.[docs]'
	touch $@

.venv/.demo: .venv/.installed
	tools/venv .venv $(TENSORFLOW) scikit-learn
	touch $@

demo: .venv/.demo
	examples/demo

# For whoever makes a small change: without root, Slurm, TensorFlow and a browser.
unit: .venv/.test
	.venv/bin/python -m pytest -n auto --dist loadfile -m 'not (slurm or tensorflow or browser or index or slow)' $(PYTEST_ARGS)

test: .venv/.test
	tools/debian-packages
ifeq ($(PYTEST_ARGS),)
	$(MAKE) --no-print-directory --jobs=2 test-here test-debian13 PART=some
else
	.venv/bin/python -m pytest $(PYTEST_ARGS)
endif

# Four at a time on two cores, for those on the cluster often wait; in the order of tests/conftest.py.
test-here:
	.venv/bin/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder tests

# What touches Slurm, MPI and Python once more, in a Debian 13 of its own, beside which all else may
# run; PART=some or PART=horovod is less of it (tools/debian13-tests --help).
PART ?= all

test-debian13:
	tools/debian13-tests $(PART) $(PYTEST_ARGS)

# Injects every fault, and writes docs/reliability.md from what was measured.
reliability: .venv/.test
	tools/debian-packages
	.venv/bin/python -m pytest tests/faults --reliability

# Trains every combination, and exports every kind of model with three TensorFlows; writes
# docs/correctness.md and docs/onnx.md from what was measured.
correctness: .venv/.test
	tools/debian-packages
	.venv/bin/python -m pytest tests/correctness --correctness
	.venv/bin/python -m pytest tests/models/export/test_kinds.py --exports

# Measures what is not measured yet, and writes docs/performance.md; BENCH_ARGS="--only submit" renews
# a row (python -m benchmarks --help).
BENCH_ARGS ?=

bench: .venv/.test
	tools/debian-packages
	.venv/bin/python -m benchmarks $(BENCH_ARGS)

# Writes the pages' pictures in docs/pictures, of real trainings.
pictures: .venv/.test
	tools/debian-packages
	.venv/bin/python -m pytest tests/report/test_pictures.py tests/notebook/test_jupyterlab.py --pictures

# Writes build/docs/README.html and all that it links to; every warning is an error.
docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --quiet

lint: .venv/.test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# From then on each commit is checked before it is made (.pre-commit-config.yaml).
hooks: .venv/.dev
	.venv/bin/pre-commit install

clean:
	rm -rf .venv build dist *.egg-info
