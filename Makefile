# The two commands of the README and their helpers; `make help` lists them. What needs more than a
# line of shell lives in scripts/.
#
# Cargo builds into a cache folder outside the checkout, because RocksDB takes most of the first
# build: another clone, a `git clean` or the next CI run finds it compiled.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

cache := $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)
export CARGO_TARGET_DIR ?= $(cache)/tocktower/target
export PATH := $(PATH):$(HOME)/.cargo/bin
# Setting it would replace the flags of .cargo/config.toml and compile RocksDB again.
unexport RUSTFLAGS

# The same selection of packages everywhere gives the same features, so that nothing is built twice.
BUILD := --workspace --locked

# Doc comments of arguments are help texts, which name things <so>.
RUSTDOC := -D warnings -A rustdoc::invalid_html_tags

.PHONY: run test check setup clean help

run: setup ## Builds, starts `tocktower dev --sample` on 127.0.0.1:7080, says what to try
	@scripts/with-progress cargo build $(BUILD)
	@scripts/run-dev

test: setup ## Runs the tests, those on a real etcd included; not the measurements
	@echo "etcd for the tests: $$(scripts/etcd-for-tests)"
	@scripts/with-progress cargo test $(BUILD) --no-run
	@cargo build $(BUILD) --bins
	@cargo test $(BUILD) --no-fail-fast

check: setup ## Looks at format, lints and docs, as CI does before the tests
	@cargo fmt --all --check
	@scripts/with-progress cargo clippy $(BUILD) --all-targets -- -D warnings
	@RUSTDOCFLAGS="$(RUSTDOC)" cargo doc $(BUILD) --no-deps

setup: ## Installs what building needs and this machine lacks, and says so
	@scripts/setup

clean: ## Removes everything that was built: the next build takes 15 to 20 minutes
	@cargo clean

help: ## Lists these commands
	@awk -F ':[^#]*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
