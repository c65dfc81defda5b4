#!/bin/sh
# Runs each fuzz target for a time: under libFuzzer where cargo-fuzz and a nightly toolchain are
# there, else with seeded mutations of small examples on the toolchain at hand.
# Usage: fuzz.sh [SECONDS]; EVENKEEL_FUZZ_SEED chooses the mutations.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
if cargo fuzz --version >/dev/null 2>&1 && cargo +nightly --version >/dev/null 2>&1; then
    cd fuzz
    for target in $(cargo +nightly fuzz list); do
        echo "== $target"
        cargo +nightly fuzz run "$target" -- -max_total_time="$seconds" -max_len=4096 -print_final_stats=1 2>&1 | tail -n 12
    done
    exit 0
fi
: "${EVENKEEL_FUZZ_SEED:=$(date +%s)}"
export EVENKEEL_FUZZ_SEED EVENKEEL_FUZZ_SECONDS="$seconds"
echo "fuzz.sh: no cargo-fuzz with a nightly toolchain: seeded mutations, EVENKEEL_FUZZ_SEED=$EVENKEEL_FUZZ_SEED"
exec cargo test --release -p evenkeel-mutate --test targets -- --test-threads 2 --show-output
