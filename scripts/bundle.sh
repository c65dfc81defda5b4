#!/bin/sh
# Makes a signed bundle of a new version. Usage: bundle.sh OUT KEY PACKAGE.deb [SYSTEM]
# KEY is minisign's secret key (minisign -G -W makes one); SYSTEM is a root file system of the appliance.
set -eu
out=$1
key=$2
deb=$3
system=${4:-}
for program in minisign dpkg-deb sha256sum; do
    command -v "$program" >/dev/null || {
        echo "$program is missing: apt install minisign dpkg coreutils" >&2
        exit 1
    }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
part() { # kind, file
    printf '{"kind":"%s","size":%s,"sha256":"%s"}' "$1" "$(stat -Lc %s "$2")" "$(sha256sum <"$2" | cut -d ' ' -f 1)"
}
{
    printf '{"version":"%s","architecture":"%s","parts":[' \
        "$(dpkg-deb -f "$deb" Version)" "$(dpkg-deb -f "$deb" Architecture)"
    part package "$deb"
    [ -z "$system" ] || {
        printf ,
        part system "$system"
    }
    printf ']}'
} >"$work/manifest"
minisign -S -s "$key" -m "$work/manifest" -x "$work/signature" >&2
{
    echo "EVENKEEL-BUNDLE 1 $(stat -c %s "$work/manifest") $(stat -c %s "$work/signature")"
    cat "$work/manifest" "$work/signature" "$deb"
    [ -z "$system" ] || cat "$system"
} >"$work/bundle"
mv "$work/bundle" "$out"
echo "$out"
