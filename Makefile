# Python 3.10 to 3.12 with venv; PYTHON=python3.12 make ... chooses another than python3.
PYTHON ?= python3
BIN := .venv/bin
MODEL := models/efficientnet-lite0

.PHONY: install quickstart-model run flink test test-remote test-long test-flink check-image lint bench bench-peers lock clean

# The lock names every package, so pip need not resolve (and an older pip can't, where a package asks for another's extra).
install: .venv/installed

.venv/installed: requirements.lock setup.py
	@echo "making the environment in .venv (a few minutes, once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

quickstart-model: $(MODEL)/saved_model.pb

$(MODEL)/saved_model.pb: .venv/installed
	@$(BIN)/hublabel export efficientnet-lite0 --output $(MODEL)

run: install quickstart-model
	@$(BIN)/hublabel run configs/quickstart.yaml

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: install quickstart-model lint
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal -m "not long and not remote"

# Jobs on Beam's own job service, with workers of their own.
test-remote: install quickstart-model
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal -m "remote and not long" tests/pipeline/remote

test-long: install quickstart-model
	$(BIN)/python -m pytest -m long

# A Flink session cluster on this machine; needs Java and Maven.
flink: install quickstart-model
	@deploy/flink/fetch
	@$(BIN)/python deploy/flink/session.py -- $(BIN)/hublabel run configs/flink.yaml

# The same, with parts of the cluster killed in the middle.
test-flink: install quickstart-model
	$(BIN)/python -m pytest tests/flink

bench: install quickstart-model
	$(BIN)/python -m benchmarks

# Against Ray Data, Daft, RunInference and OpenVINO, each in an environment of its own (8 GB, made once).
bench-peers: install quickstart-model
	$(BIN)/python -m benchmarks.peers --write

# The worker image, proven without a container engine: its install steps, and a run with workers of what they give.
check-image: install quickstart-model
	@deploy/check

# The exact versions of `make install`, for every Python and system we support, and those of them that the worker images
# get; needs uv.
COMPILE := uv pip compile setup.py --generate-hashes --no-header --quiet
WORKERS := --python-version 3.11 --python-platform x86_64-unknown-linux-gnu -c requirements.lock \
	--extra aws --extra gcp --extra kaggle

lock:
	$(COMPILE) --universal --python-version 3.10 -o requirements.lock \
		--extra quickstart --extra aws --extra gcp --extra kaggle --extra openvino --extra int8 --extra test --extra lint
	$(COMPILE) $(WORKERS) --extra openvino -o deploy/requirements-cpu.lock
	$(COMPILE) $(WORKERS) --extra gpu -o deploy/requirements-gpu.lock

clean:
	rm -rf .venv models out build *.egg-info
