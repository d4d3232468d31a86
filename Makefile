# Every target does its own set-up in .venv; nothing but Python (3.10 or newer, with venv) and make is needed.

PYTHON ?= python3
JOBS ?= 2
# Most of a fault's time is waiting.
FAULT_JOBS ?= 4
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
export OMP_NUM_THREADS ?= 1

.PHONY: demo test matrix faults sweeps lint docs package bench clean help

help:
	@echo "make demo     train SB3 and SKRL PPO, logged to a local MLflow store and an offline W&B run"
	@echo "make test     run all tests"
	@echo "make matrix   train every algorithm of SKRL and SB3, and compare with the framework's own files"
	@echo "make faults   put every outage, kill and full disk on real runs, and count what arrives"
	@echo "make sweeps   run whole sweeps under Ray Tune, one of them killed and restored"
	@echo "make lint     ruff, mypy, import rules"
	@echo "make docs     build the documentation"
	@echo "make package  build and check the wheel"
	@echo "make bench    measure every promised figure beside what people would otherwise use"

demo: .venv/.demo
	$(BIN)/rl-logging demo --dir demo

# A file's tests stay together, as many share what one of them has trained; the files keep their order, which ends with
# short ones.
SPREAD := -n $(JOBS) --dist loadfile --no-loadscope-reorder

# Hundreds of processes import the packages, which PYTHONDONTWRITEBYTECODE would have each of them compile.
test: .venv/.test .venv-skrl1/.done .venv-skinny/.done
	$(BIN)/python -m compileall -q rl_logging backends
	$(BIN)/python -m pytest $(SPREAD) tests
	.venv-skrl1/bin/python -m pytest $(SPREAD) -p no:cacheprovider tests/adapters/test_skrl.py tests/adapters/test_skrl_on_device.py \
		tests/adapters/test_videos.py tests/adapters/test_skrl_mlflow_agent.py tests/seeds/test_skrl_mlflow.py

matrix: .venv/.test .venv-skrl1/.done
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal tests/matrix
	.venv-skrl1/bin/python -m pytest -n $(JOBS) --dist worksteal -p no:cacheprovider tests/matrix/test_skrl.py
	$(BIN)/python -m tests.matrix --check

faults: .venv/.test
	$(BIN)/python -m pytest -n $(FAULT_JOBS) --dist worksteal tests/faults

sweeps: .venv/.test
	$(BIN)/python -m pytest tests/sweeps

lint: .venv/.test .venv/.lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/.test .venv/.docs
	$(BIN)/sphinx-build -n -W --keep-going -b html docs docs/_build/html

package: .venv/.lint
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*

bench: .venv/.test
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf .venv .venv-skrl1 .venv-skinny .cache dist build demo docs/_build

.venv/.made:
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade pip
	touch $@

.venv/.demo: .venv/.made pyproject.toml constraints.txt
	$(PIP) --constraint constraints.txt --editable '.[all]'
	touch $@

.venv/.test: .venv/.demo
	$(PIP) --constraint constraints.txt --group test
	touch $@

.venv/.lint: .venv/.made pyproject.toml
	$(PIP) --group lint
	touch $@

.venv/.docs: .venv/.made pyproject.toml
	$(PIP) --group docs
	touch $@

# skrl 1.4.3 beside skrl 2: an environment that sees the first one's packages and puts its own before them.
.venv-skrl1/.done: .venv/.test
	$(PYTHON) -m venv --clear .venv-skrl1
	$(BIN)/python -c "import sysconfig; print('import site; site.addsitedir(%r)' % sysconfig.get_path('purelib'))" \
		> "$$(.venv-skrl1/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/zz_base.pth"
	.venv-skrl1/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-installed \
		skrl==1.4.3 gymnasium==0.29.1
	touch $@

# The oldest client that matters: Azure's plugin stops at mlflow-skinny 3.15.
.venv-skinny/.done: pyproject.toml
	$(PYTHON) -m venv --clear .venv-skinny
	.venv-skinny/bin/python -m pip install --quiet --disable-pip-version-check --editable . 'mlflow-skinny==3.15.*'
	touch $@
