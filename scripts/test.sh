#!/bin/sh
# Runs every test; names and counts what had to be skipped.
set -eu
cd "$(dirname "$0")/.."
EVENKEEL_SKIPS=$(mktemp)
export EVENKEEL_SKIPS
trap 'rm -f "$EVENKEEL_SKIPS"' EXIT
# A connection each for thousands of clients and servers.
ulimit -n "$(ulimit -H -n)" 2>/dev/null || true

status=0
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --no-fail-fast || status=$?
else
    cargo test --workspace --no-fail-fast -- --test-threads 4 || status=$?
fi
if [ -s "$EVENKEEL_SKIPS" ]; then
    echo "skipped:"
    sed 's/^/  /' "$EVENKEEL_SKIPS"
fi
echo "$(wc -l <"$EVENKEEL_SKIPS") tests skipped"
exit "$status"
