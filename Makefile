# `make demo` shows the main job, `make test` runs everything. Both install what is missing (Debian packages, as root).
.PHONY: demo build test lint clean-tests

TOOLS = tests/tools/install.sh

build:
	$(TOOLS) gcc
	cargo build --release --locked

demo: build
	$(TOOLS) busybox-static docker-registry curl
	examples/demo.sh $(IMAGE)

lint:
	cargo fmt --check
	cargo clippy --locked --lib --bins -- -D warnings
	cargo clippy --locked --tests -- -D warnings -A clippy::unwrap_used

test:
	$(TOOLS) gcc busybox-static docker-registry curl runc python3 strace
	$(MAKE) lint
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --lib
	cargo test --locked
