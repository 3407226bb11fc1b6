# `make demo` shows the main job, `make test` runs everything. Both install what is missing (Debian packages, as root).
.PHONY: demo build test lint soak

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
	cargo clippy --locked --tests -- -D warnings -A clippy::unwrap_used -A clippy::needless_pass_by_value -A clippy::result_large_err

# The long and hostile runs; `make test` does not do them. LONGSHORE names another program than the release build.
soak: build
	$(TOOLS) gcc busybox-static docker-registry curl python3 runc podman conmon e2fsprogs iproute2 util-linux
	for run in kill adopt store power evil start; do PYTHONDONTWRITEBYTECODE=1 python3 tests/soak/$$run.py || exit 1; done

test:
	$(TOOLS) gcc busybox-static docker-registry curl runc python3 strace
	$(MAKE) lint
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --lib
	cargo test --locked
