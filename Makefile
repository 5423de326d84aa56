# `make run` serves a demo, `make test` tests everything, `make check` is what CI runs.
TARGET := $(or $(CARGO_TARGET_DIR),target)
prefix ?= /usr/local
TESTS := $(if $(shell command -v cargo-nextest),nextest run,test)

.PHONY: build run test check bench diff fmt install deb setup

build: ## the program, optimised
	cargo build --release

run: build ## the Django demo (a static site without python3) until Ctrl-C
	@sh tests/kit/run.sh $(TARGET)/release/nginx-rs

test: setup ## everything
	cargo $(TESTS) --workspace

check: ## what CI runs; the tests include tidy
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	$(MAKE) test

bench: build ## side by side with nginx, into docs/BENCHMARKS.md; BENCH='--nginx PATH' and more options: benches/compare.py -h
	@sh tests/kit/setup.sh bench
	python3 benches/compare.py $(TARGET)/release/nginx-rs $(BENCH)

diff: setup ## only what is compared with nginx; NGINX=path for another one
	cargo $(TESTS) --test check --test serve --test django

fmt: ## formats the sources
	cargo fmt --all

install: build ## the program, its manual page, completions and unit; DESTDIR and prefix say where
	DESTDIR="$(DESTDIR)" prefix="$(prefix)" sh docs/package/install.sh $(TARGET)/release/nginx-rs

deb: build ## the Debian package, into $(TARGET)
	sh docs/package/deb.sh $(TARGET)/release/nginx-rs $(TARGET)

setup: ## Debian packages for the tests: installed when root, otherwise named
	@sh tests/kit/setup.sh
