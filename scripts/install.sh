#!/bin/sh
# Installs the Debian packages that building, testing or measuring needs, where they are missing.
# Usage: install.sh build|test|bench|image ...
set -eu

missing=""
want() { # program package
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

have_header() { # header package
    for folder in /usr/include /usr/include/*-linux-gnu; do
        [ -e "$folder/$1" ] && return
    done
    missing="$missing $2"
}

have_module() { # module package
    /usr/bin/python3 -c "import $1" >/dev/null 2>&1 || missing="$missing $2"
}

for purpose in "$@"; do
    case "$purpose" in
    build)
        want cc gcc
        # The XDP program, and libbpf, which loads it.
        want clang clang
        want make make
        have_header libelf.h libelf-dev
        have_header zlib.h zlib1g-dev
        # The web UI.
        want node nodejs
        want npm npm
        ;;
    image)
        want mmdebstrap mmdebstrap
        want sfdisk fdisk
        want mkfs.ext4 e2fsprogs
        want mkfs.vfat dosfstools
        want mcopy mtools
        want grub-mkimage grub-common
        want grub-editenv grub-common
        [ -d /usr/lib/grub/i386-pc ] || missing="$missing grub-pc-bin"
        [ -d /usr/lib/grub/x86_64-efi ] || missing="$missing grub-efi-amd64-bin"
        want qemu-img qemu-utils
        # To boot it.
        want qemu-system-x86_64 qemu-system-x86
        [ -e /usr/share/OVMF/OVMF_CODE.fd ] || missing="$missing ovmf"
        ;;
    test)
        want nginx nginx-light
        want haproxy haproxy
        want apache2 apache2
        want node nodejs
        want wrk wrk
        want chromium chromium
        want aiosmtpd python3-aiosmtpd
        have_module h2 python3-h2
        have_module grpc python3-grpcio
        want debootstrap debootstrap
        want systemd-nspawn systemd-container
        want minisign minisign
        want snmpd snmpd
        want snmpwalk snmp
        want snmptrapd snmptrapd
        want smilint smitools
        want freeradius freeradius
        want pebble pebble
        want knotd knot
        want kdig knot-dnsutils
        want unshare util-linux
        want curl curl
        want openssl openssl
        want h2load nghttp2-client
        want ip iproute2
        want nft nftables
        want ethtool ethtool
        want tcpdump tcpdump
        want keepalived keepalived
        want chrt util-linux
        ;;
    bench)
        want nginx nginx-light
        want haproxy haproxy
        want keepalived keepalived
        want openssl openssl
        want h2load nghttp2-client
        want pgrep procps
        ;;
    *)
        echo "install.sh: unknown purpose $purpose" >&2
        exit 2
        ;;
    esac
done

command -v cargo >/dev/null 2>&1 || {
    echo "install.sh: Rust is needed: https://rustup.rs, or Debian's rustup package" >&2
    exit 1
}
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "install.sh: missing, and not installed for want of root or apt:$missing" >&2
    exit 0
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
# Freshly installed servers must not start by themselves and take ports.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get update -q >/dev/null
# shellcheck disable=SC2086
apt-get install -q -y --no-install-recommends $missing >/dev/null
