#!/bin/sh
# Builds a Debian package. Usage: deb.sh FOLDER [PROGRAM]
# Without PROGRAM the release build is made and taken.
set -eu
cd "$(dirname "$0")/.."
out=$1
program=${2:-}
if [ -z "$program" ]; then
    cargo build --release -p evenkeel
    program=target/release/evenkeel
fi
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
arch=$(dpkg --print-architecture)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"
put() { # mode source target
    install -D -m "$1" "$2" "$tree/$3"
}
put 755 "$program" usr/sbin/evenkeel
strip --strip-debug "$tree/usr/sbin/evenkeel" 2>/dev/null || true
put 644 packaging/debian/evenkeel.service lib/systemd/system/evenkeel.service
put 644 packaging/debian/evenkeel-scripts.service lib/systemd/system/evenkeel-scripts.service
put 644 packaging/debian/evenkeel-scripts.socket lib/systemd/system/evenkeel-scripts.socket
put 644 packaging/debian/evenkeel-node.socket lib/systemd/system/evenkeel-node.socket
put 644 packaging/debian/evenkeel-node@.service lib/systemd/system/evenkeel-node@.service
put 644 packaging/debian/evenkeel-upgrade.socket lib/systemd/system/evenkeel-upgrade.socket
put 644 packaging/debian/evenkeel-upgrade@.service lib/systemd/system/evenkeel-upgrade@.service
put 640 packaging/debian/evenkeel.toml etc/evenkeel/evenkeel.toml
put 644 packaging/grafana/evenkeel.json usr/share/doc/evenkeel/grafana.json
put 644 packaging/snmp/EVENKEEL-MIB.txt usr/share/snmp/mibs/EVENKEEL-MIB.txt
put 644 LICENSE usr/share/doc/evenkeel/copyright
put 644 CHANGELOG.md usr/share/doc/evenkeel/NEWS.md
for page in docs/*.md docs/reference/*.md; do
    put 644 "$page" "usr/share/doc/evenkeel/$(basename "$page")"
done
mkdir -p "$tree/usr/share/man/man1" "$tree/usr/share/bash-completion/completions" \
    "$tree/usr/share/zsh/vendor-completions" "$tree/usr/share/fish/vendor_completions.d"
"$program" man "$tree/usr/share/man/man1"
gzip -9n "$tree"/usr/share/man/man1/*
"$program" completion bash >"$tree/usr/share/bash-completion/completions/evenkeel"
"$program" completion zsh >"$tree/usr/share/zsh/vendor-completions/_evenkeel"
"$program" completion fish >"$tree/usr/share/fish/vendor_completions.d/evenkeel.fish"

mkdir "$tree/DEBIAN"
echo /etc/evenkeel/evenkeel.toml >"$tree/DEBIAN/conffiles"
cat >"$tree/DEBIAN/control" <<END
Package: evenkeel
Version: $version
Architecture: $arch
Maintainer: Evenkeel <evenkeel@localhost>
Installed-Size: $(du -sk "$tree" | cut -f 1)
Depends: libc6 (>= 2.36), libelf1 | libelf1t64, zlib1g, passwd, util-linux
Recommends: nftables, iproute2, ethtool
Section: net
Priority: optional
Description: load balancer for people who run their own servers
 One program instead of LVS, keepalived, HAProxy and Pound: layer 4 in the
 kernel, layer 7, TLS, health checks, a highly available pair, a web UI.
END
cat >"$tree/DEBIAN/postinst" <<'END'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    getent passwd evenkeel >/dev/null || useradd --system --user-group \
        --home-dir /var/lib/evenkeel --no-create-home --shell /usr/sbin/nologin evenkeel
    mkdir -p /var/lib/evenkeel
    chmod 700 /var/lib/evenkeel
    # The program writes both: what is committed, and what it remembers.
    chown -R evenkeel:evenkeel /var/lib/evenkeel /etc/evenkeel
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        systemctl enable evenkeel.service evenkeel-scripts.socket evenkeel-node.socket \
            evenkeel-upgrade.socket >/dev/null 2>&1 || true
        systemctl stop evenkeel-scripts.service >/dev/null 2>&1 || true
        systemctl start evenkeel-scripts.socket evenkeel-node.socket evenkeel-upgrade.socket || true
        # A running one hands over to the new program; connections are kept.
        if systemctl is-active --quiet evenkeel.service; then
            systemctl kill --kill-whom=main -s USR2 evenkeel.service
        else
            systemctl start evenkeel.service || true
        fi
    fi
fi
END
cat >"$tree/DEBIAN/prerm" <<'END'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl disable --now evenkeel.service evenkeel-scripts.socket evenkeel-scripts.service \
        evenkeel-node.socket evenkeel-upgrade.socket >/dev/null 2>&1 || true
fi
END
cat >"$tree/DEBIAN/postrm" <<'END'
#!/bin/sh
set -e
if [ "$1" = purge ]; then
    rm -rf /var/lib/evenkeel /var/lib/evenkeel-node /var/lib/evenkeel-upgrade
    userdel evenkeel 2>/dev/null || true
    rmdir /etc/evenkeel 2>/dev/null || true
fi
[ ! -d /run/systemd/system ] || systemctl daemon-reload
END
chmod 755 "$tree/DEBIAN/postinst" "$tree/DEBIAN/prerm" "$tree/DEBIAN/postrm"
mkdir -p "$out"
file="$out/evenkeel_${version}_$arch.deb"
dpkg-deb --root-owner-group -Z"${DPKG_DEB_COMPRESSOR_TYPE:-xz}" --build "$tree" "$file" >/dev/null
echo "$file"
