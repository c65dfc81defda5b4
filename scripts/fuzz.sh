#!/bin/sh
# Runs each fuzz target for a time. Usage: fuzz.sh [SECONDS]
set -eu
cd "$(dirname "$0")/../fuzz"
seconds=${1:-60}
cargo fuzz --version >/dev/null 2>&1 || {
    echo "fuzz.sh: install it with: cargo install cargo-fuzz (and a nightly toolchain)" >&2
    exit 1
}
for target in $(cargo +nightly fuzz list); do
    echo "== $target"
    cargo +nightly fuzz run "$target" -- -max_total_time="$seconds" -max_len=4096 -print_final_stats=1 2>&1 | tail -n 12
done
