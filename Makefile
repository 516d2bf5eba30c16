# Pharos: build, run, test. `make run` and `make test` install what they need and say so; the other targets are their steps.
#
# What is built goes outside the checkout (~/.cache/pharos), so that a second clone builds fast; a CARGO_TARGET_DIR of your own
# is respected. Plain `cargo build` works too: it needs no make, only more time.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PHAROS_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pharos
export PHAROS_CACHE
export CARGO_TARGET_DIR ?= $(PHAROS_CACHE)/target
# Recipes find the toolchains that install-sdks.sh brings only where the machine has none, and Debian's daemons in sbin.
export PATH := $(PHAROS_CACHE)/bin:$(PATH):/usr/sbin:/sbin

# Read by the end-to-end tests: the binaries under test and the tools beside them.
export PHAROS_BIN ?= $(CARGO_TARGET_DIR)/release/pharos
export LOADGEN_BIN ?= $(CARGO_TARGET_DIR)/release/loadgen
export PHAROS_PYTHON ?= $(PHAROS_CACHE)/venv/bin/python
# Upstream's promqltest scripts and parser cases; they are not part of this repository.
PHAROS_CONFORMANCE ?= $(wildcard $(CURDIR)/../shared/conformance)
export PHAROS_CONFORMANCE

CARGO := deploy/build/cargo
# Whole paths, and the crates that measure themselves.
BENCHED := pharos-benches pharos-chunk pharos-gateway pharos-grid pharos-ingest pharos-promql pharos-spanmetrics pharos-tracestore pharos-tsdb
NPM := npm --prefix ui

.PHONY: help run test build release check fmt clippy test-rust test-ui test-demo test-e2e test-overload kills conformance nginx-check deploy-check deny \
	fuzz fuzz-target fuzz-build fuzz-merge bench bench-compare build-deps peers sdks ui ui-deps

help: ## this list
	@grep -E '^[a-z][a-z0-9-]*:.*## ' Makefile | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 24

run: release ## build the release binary and start `pharos demo`: a server with a small live workload
	@exec "$(PHAROS_BIN)" demo

test: ## install what the tests need and run everything that CI runs
	@python3 tests/scripts/test-all.py

build: build-deps ## debug build of the workspace
	@$(CARGO) build --workspace

release: build-deps ## release build of pharos and loadgen, with jemalloc
	@PHAROS_REVISION="$${PHAROS_REVISION:-$$(git rev-parse --short HEAD 2>/dev/null || echo unknown)}" \
		$(CARGO) build --release --locked -p pharos -p loadgen --features pharos/jemalloc

check: fmt clippy ## formatting and lints

fmt: build-deps ## is everything formatted?
	@cargo fmt --all --check

clippy: build-deps ## lints, warnings are errors
	@$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@$(CARGO) clippy --locked -p pharos-e2e --test e2e -- -D warnings

test-rust: build-deps ## unit, property and integration tests of all crates
	@$(CARGO) test --locked --workspace --no-fail-fast

test-ui: sdks peers ui-deps ## the user interface: types, unit tests, the committed bundle, a real browser
	@$(NPM) test
	@tests/scripts/ui-bundle-is-committed.sh

test-demo: release sdks peers ui-deps ## `pharos demo` as a newcomer meets it: what it prints, metrics and traces, the interface in a browser
	@python3 tests/scripts/demo-in-browser.py

test-e2e: release sdks peers ui-deps ## the release binary under real clients (vmagent, Prometheus, nginx, the OTel SDKs, a browser)
	@$(CARGO) test --locked --workspace --no-fail-fast --test e2e

test-overload: release ## more than the release binary can do, for a minute each of samples and spans: nothing acknowledged is lost, memory stays bounded
	@python3 benches/overload.py --short

kills: release ## kill -9 the release binary KILLS times (100) under load: nothing acknowledged may be lost
	@PHAROS_KILLS=$(or $(KILLS),100) $(CARGO) test --locked -p pharos-e2e --test e2e -- --nocapture durability

conformance: release ## upstream's promqltest scripts against the release binary
	@python3 tests/scripts/conformance.py

nginx-check: peers ## nginx accepts every configuration in nginx/
	@python3 tests/scripts/nginx-stage.py --check

deny: build-deps ## licences, sources, bans and duplicates of what we link, by deny.toml, without the network
	@python3 tests/scripts/dependencies.py

deploy-check: peers ## what can be checked in deploy/ without running it
	@tests/scripts/deploy-check.sh

# libFuzzer comes with the crate libfuzzer-sys; what the compiler must add to our code are its counters. TARGET is one of
# the folders of tests/fuzz/corpus. What is found goes to the corpus outside of the checkout, crashes to the current folder.
FUZZ_FLAGS := -Cpasses=sancov-module $(addprefix -Cllvm-args=-sanitizer-coverage-,level=4 inline-8bit-counters pc-table trace-compares)
FUZZ_CORPUS := $(PHAROS_CACHE)/fuzz/$(TARGET)
FUZZ_BIN := $(CARGO_TARGET_DIR)/x86_64-unknown-linux-gnu/fuzz/fuzz
SECONDS := 60

# Every target has a corpus; its name is the folder's.
FUZZ_TARGETS := $(notdir $(wildcard $(CURDIR)/tests/fuzz/corpus/*))

fuzz-target:
	@[[ " $(FUZZ_TARGETS) " == *" $(or $(TARGET),none) "* ]] || \
		{ echo "say which reader: TARGET=one of $(FUZZ_TARGETS)" >&2; exit 2; }

fuzz-build: build-deps
	@RUSTFLAGS="$(FUZZ_FLAGS)" $(CARGO) build --locked --profile fuzz --target x86_64-unknown-linux-gnu -p pharos-fuzz --features libfuzzer --bin fuzz

fuzz: fuzz-target fuzz-build ## look for bytes that break a reader: TARGET=chunk|index|log|... SECONDS=60
	@mkdir -p "$(FUZZ_CORPUS)"
	@cp -n tests/fuzz/corpus/$(TARGET)/* "$(FUZZ_CORPUS)"
	@PHAROS_FUZZ_TARGET=$(TARGET) TMPDIR=/dev/shm "$(FUZZ_BIN)" -max_total_time=$(SECONDS) -rss_limit_mb=512 -timeout=10 "$(FUZZ_CORPUS)"

fuzz-merge: fuzz-target fuzz-build ## take from what fuzzing found the inputs that reach something new into the repository: TARGET=...
	@PHAROS_FUZZ_TARGET=$(TARGET) TMPDIR=/dev/shm "$(FUZZ_BIN)" -set_cover_merge=1 -use_counters=0 tests/fuzz/corpus/$(TARGET) "$(FUZZ_CORPUS)"

bench: build-deps ## criterion benches, in release; BENCH=promql runs those with that in their name
	@$(CARGO) bench --locked $(addprefix -p ,$(BENCHED)) --bench '*' -- $(BENCH)

bench-compare: release peers ## Pharos and VictoriaMetrics under the same load: CPU, memory, disk
	@python3 benches/compare.py

ui: sdks ui-deps ## build the user interface's bundle into ui/dist
	@$(NPM) run build

# `npm ci`, unless what is installed is what is locked.
ui-deps: sdks
	@cmp -s ui/package-lock.json ui/node_modules/.installed-lock || \
		{ $(NPM) ci --no-audit --no-fund && cp ui/package-lock.json ui/node_modules/.installed-lock; }

build-deps:
	@tests/scripts/install-build-deps.sh

peers: ## Debian's packages that the tests start (installs the missing)
	@tests/scripts/install-peers.sh

sdks: ## Go, Node and Python with the OTel SDKs, for the tests (installs the missing)
	@tests/scripts/install-sdks.sh
