#!/bin/sh
# Builds a container from the Debian package. Usage: container.sh [NAME] [PROGRAM]
# BUILDER is docker, podman or buildah (the first that is there), BASE the Debian to build on.
set -eu
cd "$(dirname "$0")/.."
name=${1:-evenkeel}
builder=${BUILDER:-}
for known in docker podman buildah; do
    if [ -z "$builder" ] && command -v "$known" >/dev/null; then
        builder=$known
    fi
done
if [ -z "$builder" ]; then
    echo "container.sh: needs docker, podman or buildah" >&2
    exit 1
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
package=$(sh scripts/deb.sh "$folder" ${2:+"$2"})
mv "$package" "$folder/evenkeel.deb"
# Without ISOLATION buildah uses what it would use by itself.
${builder} build ${ISOLATION:+--isolation "$ISOLATION"} ${BASE:+--build-arg "BASE=$BASE"} \
    -f packaging/Containerfile -t "$name" "$folder"
