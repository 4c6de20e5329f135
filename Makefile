# Jobs of this project: `make help` lists them.
#
# Needs Rust and Python 3.11 or newer; everything else is put into .venv/, build/ and target/.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SECONDEXPANSION: # $$(…) in prerequisites below: looked up only by the jobs that need it
.SECONDARY:

# The Pythons to test on, those of SUPPORTED that work here; `make test PYTHONS=3.13` picks others.
# (Looked up once, and only by the jobs that ask.)
SUPPORTED := 3.11 3.12 3.13 3.14
FIND_PYTHON := scripts/find-python.sh
PYTHONS = $(eval PYTHONS := $(foreach v,$(SUPPORTED),$(if $(shell $(FIND_PYTHON) $v),$v)))$(PYTHONS)
# The one that demo and lint use: the newest, so that they meet the newest zarr-python.
PYTHON = $(or $(lastword $(PYTHONS)),$(error No working Python among $(SUPPORTED)))

# Those that zarr-python's own tests run on: they have the two releases of it that are pinned.
ZARR_PYTHONS = $(sort 3.11 $(PYTHON))

# Each has a conftest.py, so each is a run of its own.
SUITES := python-ext/tests conformance
# One of the peers that read what we write is zarrita.js, for which the tests need node 20 and npm:
# `make test ZARRITA=no` leaves it out.
ZARRITA ?= yes
export ZARRITA
TOOLS := .venv/tools
VENV = .venv/py$(PYTHON)
PIP_INSTALL := -m pip --disable-pip-version-check install --quiet

# Whichever Python comes first on PATH may be too old for the bindings.
export PYO3_PYTHON := $(CURDIR)/$(TOOLS)/bin/python

SOURCES := $(shell find codecs python-ext Cargo.toml Cargo.lock -type f \
	\( -name '*.rs' -o -name '*.toml' -o -name '*.lock' -o -path '*/python/*.py*' \) -not -name '*.pyc' -not -path '*/benches/*')

.PHONY: help
help: ## List the jobs
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

.PHONY: setup
setup: $$(foreach v,$$(PYTHONS),.venv/py$$(v)/.ready) $(TOOLS)/.ready ## Make the Python environments

.PHONY: build
build: build/wheel ## Build the wheel (release) into build/wheels/

.PHONY: demo
demo: $$(VENV)/.tempozarr ## Read real order books, whole and in windows, write captures of some, check them against zarr-python, time, draw
	$(VENV)/bin/python examples/demo.py $(ARGS)
	$(VENV)/bin/python examples/read_windows.py
	rm -rf examples/output/BTCUSD.zarr
	$(VENV)/bin/python examples/write_weekly.py
	$(VENV)/bin/python examples/read_weekly.py

.PHONY: bench
bench: .venv/bench/.tempozarr bench-kernels ## Measure everything beside its peers and limits; ARGS="--size 100 --cases P1,P4"
	cargo build --release -p tempozarr-bench
	PYTHONPATH=examples .venv/bench/bin/python bench/run.py $(ARGS)

.PHONY: bench-kernels
bench-kernels: $(TOOLS)/.ready ## Measure the Rust kernels and chains
	mkdir -p bench/output
	cargo bench -p tempozarr --bench kernels --bench chains --bench lz4 | tee bench/output/kernels.txt

.PHONY: test
test: test-rust test-python ## Run all tests

.PHONY: test-rust
test-rust: $(TOOLS)/.ready ## Run the tests of the Rust crates
	PROPTEST_RNG_SEED=1 cargo test --workspace

.PHONY: test-python
test-python: $(if $(filter-out no,$(ZARRITA)),conformance/zarrita/node_modules/.ready)
test-python: $$(foreach v,$$(PYTHONS),.venv/py$$(v)/.tempozarr) ## Run the Python tests on every Python found; slow ones on the oldest and the newest
	@for v in $(PYTHONS); do for suite in $(SUITES); do \
		case $$v in $(firstword $(PYTHONS))|$(lastword $(PYTHONS))) some=() ;; *) some=(-m "not slow") ;; esac; \
		echo "== Python $$v: $$suite $${some[*]}"; \
		.venv/py$$v/bin/python -m pytest -c python-ext/pyproject.toml --rootdir . $$suite "$${some[@]}" $(ARGS); \
	done; done
	@echo "Tested on Python $(PYTHONS); not tested: $(or $(strip $(filter-out $(PYTHONS),$(SUPPORTED)) \
		$(if $(filter no,$(ZARRITA)),zarrita.js)),none)."
ifneq ($(origin PYTHONS),command line)
	@$(FIND_PYTHON) 3.11 >/dev/null || { echo "Python 3.11, the oldest supported, must be tested too"; exit 1; }
endif

# `make test` tries the same examples every time. What this finds becomes an example of a test.
CASES ?= 20000
.PHONY: test-random
test-random: $$(VENV)/.tempozarr ## Run the tests that draw examples on many new ones, and CASES=20000 mutated stores
	PROPTEST_CASES=10000 cargo test -p tempozarr --lib
	$(VENV)/bin/python -m pytest -c python-ext/pyproject.toml --rootdir . python-ext/tests -m hypothesis \
		--hypothesis-profile random --hypothesis-show-statistics $(ARGS)
	$(VENV)/bin/python python-ext/tests/mutate.py --seed $$RANDOM --cases $(CASES) --jobs 2

.PHONY: test-faults
test-faults: $$(VENV)/.tempozarr ## Let every file-system call of writers and copies fail, and lose power; ARGS="--sample 3000" for some
	cd python-ext/tests && ../../$(VENV)/bin/python -m faultfs $(ARGS)

.PHONY: test-zarr-python
test-zarr-python: $$(foreach v,$$(ZARR_PYTHONS),.venv/zarr-python-py$$(v)/.tempozarr) ## Run zarr-python's own tests with our pipeline, on the oldest and the newest Python
	@for v in $(ZARR_PYTHONS); do echo "== Python $$v"; \
		.venv/zarr-python-py$$v/bin/python conformance/zarr_python/run.py $(ARGS); \
	done

# Fuzzing needs the nightly toolchain of Rust. What of the C libraries a sanitizer watches depends on the compiler: with
# clang it is also where libFuzzer sees which branches an input takes.
FUZZ_TARGETS := array codecs fused round_trip
FUZZ_SECONDS ?= 60
FUZZ_CC ?= $(firstword $(notdir $(wildcard $(foreach v,clang clang-22 clang-21 clang-20 clang-19,/usr/bin/$v))) gcc)
FUZZ_C_FLAGS = -g -fno-omit-frame-pointer -fsanitize=address$(if $(findstring clang,$(FUZZ_CC)),$(comma)fuzzer-no-link)
comma := ,
CARGO_FUZZ := build/tools/bin/cargo-fuzz

.PHONY: fuzz
fuzz: $(CARGO_FUZZ) $(TOOLS)/.ready ## Fuzz the codecs under AddressSanitizer, FUZZ_SECONDS=60 for each of FUZZ_TARGETS (Rust nightly, better with clang)
	$(TOOLS)/bin/python fuzz/seeds.py build/fuzz/seeds
	@for target in $(FUZZ_TARGETS); do \
		echo "== $$target"; \
		mkdir -p build/fuzz/corpus/$$target; \
		CC=$(FUZZ_CC) CXX=$(subst gcc,g++,$(subst clang,clang++,$(FUZZ_CC))) \
		CFLAGS="$(FUZZ_C_FLAGS)" CXXFLAGS="$(FUZZ_C_FLAGS)" CARGO_TARGET_DIR=$(CURDIR)/build/fuzz/target \
		RUSTUP_TOOLCHAIN=nightly $(CARGO_FUZZ) run --fuzz-dir fuzz $$target build/fuzz/corpus/$$target build/fuzz/seeds/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=1024 \
			-max_len=8192 -dict=fuzz/json.dict -print_final_stats=1; \
	done

.PHONY: test-torch
test-torch: .venv/torch/.tempozarr ## Test tempozarr.torch, in an environment with PyTorch (a download of 2.7 GB)
	.venv/torch/bin/python -m pytest -c python-ext/pyproject.toml --rootdir . python-ext/tests_torch $(ARGS)

.PHONY: train
train: .venv/torch/.tempozarr ## Train a small model on real order books, stop and go on, beside worker processes (2.7 GB too)
	.venv/torch/bin/python examples/train_mid.py $(ARGS)

.PHONY: lint
lint: $(TOOLS)/.ready $$(VENV)/.ready ## Check formats, lints, types and docs
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	$(TOOLS)/bin/ruff check
	$(TOOLS)/bin/ruff format --check
	cd python-ext && ../$(TOOLS)/bin/mypy --python-executable ../$(VENV)/bin/python
	$(TOOLS)/bin/shellcheck scripts/*.sh .ci/run

.PHONY: fmt
fmt: $(TOOLS)/.ready ## Format Rust and Python
	cargo fmt --all
	$(TOOLS)/bin/ruff check --fix
	$(TOOLS)/bin/ruff format

.PHONY: goldens
goldens: $$(foreach v,$$(PYTHONS),.venv/py$$(v)/.ready) ## Write the goldens that are missing; never rewrites one
	for v in $(PYTHONS); do .venv/py$$v/bin/python conformance/generate.py; done

# zarr-python 3.1.6 is that of Python 3.11, 3.4.2 that of the later ones.
.PHONY: conformance
conformance: .venv/py3.11/.tempozarr $$(VENV)/.tempozarr .venv/peers/.ready conformance/zarrita/node_modules/.ready
conformance: $(TOOLS)/.ready ## Let every reader read what every writer wrote (20 minutes), into docs/conformance.md
	cargo build --release -p tempozarr-conformance --bins
	$(VENV)/bin/python conformance/matrix/run.py --old .venv/py3.11/bin/python --new $(VENV)/bin/python \
		--peers .venv/peers/bin/python --binaries $${CARGO_TARGET_DIR:-target}/release $(ARGS)

.PHONY: clean
clean: ## Remove everything that these jobs made
	rm -rf target build .venv fuzz/target fuzz/artifacts examples/output bench/output conformance/zarrita/node_modules
	find . -name __pycache__ -o -name .pytest_cache -o -name .ruff_cache -o -name .mypy_cache | xargs rm -rf

# -- files ---------------------------------------------------------------------------------------

$(TOOLS)/.ready: scripts/requirements-tools.txt
	@echo "Setting up $(TOOLS)"
	rm -rf $(TOOLS)
	"$$($(FIND_PYTHON) $(PYTHON))" -m venv $(TOOLS)
	$(TOOLS)/bin/python $(PIP_INSTALL) -r $<
	touch $@

.venv/py%/.ready: scripts/requirements.txt
	@echo "Setting up .venv/py$*"
	rm -rf .venv/py$*
	"$$($(FIND_PYTHON) $*)" -m venv .venv/py$*
	.venv/py$*/bin/python $(PIP_INSTALL) -r $<
	touch $@

.venv/zarr-python-py%/.ready: conformance/zarr_python/requirements.txt scripts/requirements.txt
	@echo "Setting up .venv/zarr-python-py$*"
	rm -rf .venv/zarr-python-py$*
	"$$($(FIND_PYTHON) $*)" -m venv .venv/zarr-python-py$*
	.venv/zarr-python-py$*/bin/python $(PIP_INSTALL) -r $<
	touch $@

.venv/torch/.ready: scripts/requirements-torch.txt
	@echo "Setting up .venv/torch: PyTorch is a download of 2.7 GB"
	rm -rf .venv/torch
	"$$($(FIND_PYTHON) $(PYTHON))" -m venv .venv/torch
	.venv/torch/bin/python $(PIP_INSTALL) -r $<
	touch $@

.venv/bench/.ready: bench/requirements.txt
	@echo "Setting up .venv/bench"
	rm -rf .venv/bench
	"$$($(FIND_PYTHON) $(PYTHON))" -m venv .venv/bench
	.venv/bench/bin/python $(PIP_INSTALL) -r $<
	touch $@

.venv/peers/.ready: conformance/matrix/requirements-peers.txt
	@echo "Setting up .venv/peers"
	rm -rf .venv/peers
	"$$($(FIND_PYTHON) $(PYTHON))" -m venv .venv/peers
	.venv/peers/bin/python $(PIP_INSTALL) -r $<
	touch $@

$(CARGO_FUZZ):
	cargo install --locked --root build/tools cargo-fuzz --version 0.13.2

conformance/zarrita/node_modules/.ready: conformance/zarrita/package.json conformance/zarrita/package-lock.json
	@{ command -v node && command -v npm; } >/dev/null || { echo "zarrita.js needs node 20 and npm; ZARRITA=no leaves it out"; exit 1; }
	npm ci --prefix $(<D) --ignore-scripts --no-audit --no-fund
	touch $@

# One wheel (abi3) serves every Python.
build/wheel: $(SOURCES) $(TOOLS)/.ready
	rm -rf build/wheels
	$(TOOLS)/bin/maturin build --release --manifest-path python-ext/Cargo.toml --out build/wheels
	touch $@

.venv/%/.tempozarr: .venv/%/.ready build/wheel
	.venv/$*/bin/python $(PIP_INSTALL) --force-reinstall --no-deps build/wheels/*.whl
	touch $@
