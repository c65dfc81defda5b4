#!/bin/sh
# Builds the web UI into ui/dist, which the program embeds. Does nothing where it is current; where
# npm or its registry is missing the program is built without the UI.
set -eu
cd "$(dirname "$0")/../ui"
without() {
    echo "ui.sh: $1: the program is built without the web UI" >&2
    exit 0
}
sources="package.json package-lock.json build.mjs src ../docs/reference/openapi.json"
# shellcheck disable=SC2086
if [ -e dist/index.html.gz ] && [ -z "$(find $sources -newer dist/index.html.gz ! -name openapi.d.ts ! -type d | head -n 1)" ]; then
    exit 0
fi
command -v npm >/dev/null 2>&1 || without "there is no npm"
if [ ! -e node_modules/.made ] || [ package-lock.json -nt node_modules/.made ]; then
    # The packages' own programs are not run.
    npm ci --ignore-scripts --loglevel error || without "npm could not fetch the packages"
    touch node_modules/.made
fi
node build.mjs
