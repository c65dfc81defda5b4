# The two commands that matter: make demo, make test.

CARGO ?= cargo

.PHONY: demo ui deb image image-test container test lint bench bench-packets bench-pair sim soak fuzz reference install-build-tools install-tools install-image-tools install-bench-tools

demo: install-build-tools ui
	$(CARGO) build --profile demo -p evenkeel
	./target/demo/evenkeel demo $(DEMO)

# The web UI, which the program embeds; without npm the program is built without it.
ui:
	sh scripts/ui.sh

# A Debian package in target/.
deb: install-build-tools ui
	sh scripts/deb.sh target

# The appliance, made of that package: a disk that boots from BIOS and UEFI, in target/image. As root.
image: deb install-image-tools
	sh packaging/image/build.sh target/image "$$(ls -t target/evenkeel_*.deb | head -n 1)"

# Boots it in qemu, sets it up by keystrokes, cuts the power, boots it again. On demand: with an emulated
# processor it takes some ten minutes. LIMIT is the bound of a step in seconds.
image-test: install-image-tools
	python3 packaging/image/test.py target/image $(or $(LIMIT),900)

# A container from that package, by docker, podman or buildah.
container: install-build-tools ui
	sh scripts/container.sh

# Every test. What a test needs and is missing is installed when run as root; otherwise such
# tests are skipped, named and counted at the end.
test: install-tools ui
	sh scripts/test.sh

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check; \
	else echo "known vulnerabilities of dependencies are not checked: cargo install cargo-deny --locked"; fi

# Side by side with Debian's HAProxy and nginx; writes docs/benchmarks.md.
bench: install-bench-tools
	$(CARGO) build --release -p evenkeel -p evenkeel-bench
	./target/release/evenkeel-bench $(BENCH)

# A pair beside keepalived and HAProxy; needs root.
bench-pair: install-build-tools install-tools install-bench-tools
	$(CARGO) build --release -p evenkeel -p evenkeel-bench
	./target/release/evenkeel-bench pair

# The pair's rules in 100,000 made-up worlds.
sim:
	$(CARGO) run --release -p evenkeel-sim

# A pair under random faults for SOAK seconds (default 600), SEED for the same ones again; then 100
# switch-overs under load; needs root.
soak: install-tools
	EVENKEEL_SOAK=$(or $(SOAK),600) EVENKEEL_SWITCH_OVERS=100 $(CARGO) test -p evenkeel --test e2e -- --nocapture --test-threads 1 a_pair_lives_through a_planned_switch_over after_many_switch_overs

# Layer 4: nanoseconds a packet, and live frames beside nftables; needs root.
bench-packets: install-build-tools install-tools
	$(CARGO) build --release -p evenkeel -p evenkeel-bench
	./target/release/evenkeel-bench packets

# Each fuzz target for SECONDS (default 60). Needs a nightly toolchain and cargo-fuzz.
fuzz:
	sh scripts/fuzz.sh $(SECONDS)

# Pages and schemas that are made from the code.
reference:
	UPDATE_REFERENCE=1 $(CARGO) test -q -p evenkeel-config --test config the_reference_pages_are_current
	UPDATE_REFERENCE=1 $(CARGO) test -q -p evenkeel-import --test keywords the_page_of_keywords_is_current
	UPDATE_REFERENCE=1 $(CARGO) test -q -p evenkeel-admin --lib the_document_describes_every_route

install-build-tools:
	sh scripts/install.sh build

install-tools:
	sh scripts/install.sh build test

install-image-tools:
	sh scripts/install.sh image

install-bench-tools:
	sh scripts/install.sh build bench
