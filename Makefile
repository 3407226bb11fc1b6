# `make demo` shows the main job, `make test` runs everything. Both install what is missing (Debian packages, as root).
.PHONY: demo build test lint soak evil-images bench bench-dns bench-pull bench-networks bench-contents test-vm

TOOLS = tests/tools/install.sh

build:
	$(TOOLS) gcc
	cargo build --release --locked

demo: build
	$(TOOLS) busybox-static docker-registry curl nftables
	examples/demo.sh $(IMAGE)

lint:
	cargo fmt --check
	cargo clippy --locked --lib --bins -- -D warnings
	cargo clippy --locked --tests -- -D warnings -A clippy::unwrap_used -A clippy::needless_pass_by_value -A clippy::result_large_err

# The long and hostile runs; `make test` does not do them. LONGSHORE names another program than the release build.
soak: build
	$(TOOLS) gcc busybox-static docker-registry curl python3 runc crun podman conmon e2fsprogs iproute2 util-linux openssl
	for run in kill adopt store power boot histories volumes postgres secrets evil ends start pull space registries; do PYTHONDONTWRITEBYTECODE=1 python3 tests/soak/$$run.py || exit 1; done

# Hostile images and a hostile registry, by a kit that is not part of this project. It calls the adapter with its `exec:` protocol.
# usage: make evil-images KIT=path/to/evil_images.py [CASES="layers-125 @path"]
evil-images: build
	@test -n "$(KIT)" || { echo 'say which kit: make evil-images KIT=path/to/evil_images.py' >&2; exit 2; }
	work=$$(mktemp -d /tmp/longshore-evil.XXXXXX); \
	PYTHONDONTWRITEBYTECODE=1 LONGSHORE_ADAPTER=$$work/adapter python3 "$(KIT)" try --engine exec:$(CURDIR)/tests/adapters/longshore.py --work $$work/kit $(or $(CASES),all); \
	code=$$?; LONGSHORE_ADAPTER=$$work/adapter tests/adapters/longshore.py stop; rm -rf $$work; exit $$code

# Container tests and a test of the unit file in a machine with systemd and cgroup v2 alone, by a kit that is not part of this project.
# usage: make test-vm KIT=path/to/vm.sh [WHAT="unit run_containers"]
test-vm:
	@test -n "$(KIT)" || { echo 'say which kit: make test-vm KIT=path/to/vm.sh' >&2; exit 2; }
	$(TOOLS) gcc
	tests/vm/run.sh "$(KIT)" $(WHAT)

# Longshore beside docker, podman, docker-compose, runc, crun and the bare kernel: tables, target/side-by-side.json and the README's chart;
# then networks, names, pulls and contents beside them. A peer that cannot be had leaves its cells empty.
# usage: make bench [WHAT="first many"] [SIDES="--quick"]        with WHAT only that, see benches/side-by-side/side.py
bench: build
	$(TOOLS) gcc curl python3 iproute2 util-linux busybox-static docker-registry nftables iperf3
	for peer in 'runc' 'crun' 'podman conmon netavark aardvark-dns' 'docker.io containerd iptables' 'docker-compose'; do $(TOOLS) $$peer || echo "cannot be had: $$peer"; done
	PYTHONDONTWRITEBYTECODE=1 python3 benches/side-by-side/side.py $(WHAT) $(SIDES)
	$(if $(WHAT),,$(MAKE) bench-networks bench-dns bench-pull bench-contents)

# Names asked of Longshore's resolver, dnsmasq and aardvark-dns. usage: make bench-dns [DNS="--rounds 3"]
bench-dns:
	$(TOOLS) gcc python3 iproute2 util-linux nftables
	-$(TOOLS) dnsmasq-base aardvark-dns
	cargo build --release --locked --bench names
	PYTHONDONTWRITEBYTECODE=1 python3 benches/dns/names.py $(DNS)

# Pulls beside other engines. usage: make bench-pull [PULL="--rounds 2 --registry 127.0.0.1:5000/test"]
bench-pull: build
	$(TOOLS) curl python3 e2fsprogs iproute2 util-linux docker-registry zstd
	-$(TOOLS) skopeo debootstrap busybox-static containerd podman runc docker.io
	PYTHONDONTWRITEBYTECODE=1 python3 benches/pull/pull.py $(PULL)

# Networks beside other engines: many containers, throughput, what comes back, idling, names.
# usage: make bench-networks [NETWORKS="many back" ROUNDS="--rounds 2"]
bench-networks: build
	$(TOOLS) gcc curl python3 iproute2 util-linux busybox-static docker-registry nftables iperf3
	-$(TOOLS) podman crun conmon netavark aardvark-dns docker.io docker-compose dnsmasq-base
	for run in $(or $(NETWORKS),many throughput names back idle); do PYTHONDONTWRITEBYTECODE=1 python3 benches/networks/$$run.py $(ROUNDS) || exit 1; done

# From a changed config or secret until the process sees it, beside other engines. usage: make bench-contents [ROUNDS="--rounds 20"]
bench-contents: build
	$(TOOLS) gcc curl python3 iproute2 util-linux busybox-static docker-registry
	-$(TOOLS) podman crun conmon docker.io docker-compose
	PYTHONDONTWRITEBYTECODE=1 python3 benches/contents/contents.py $(ROUNDS)

test:
	$(TOOLS) gcc busybox-static docker-registry curl runc python3 strace skopeo openssl e2fsprogs util-linux nftables iproute2
	$(MAKE) lint
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --lib
	cargo test --locked
