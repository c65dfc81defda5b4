#!/bin/sh
# Builds the appliance: a Debian 12 root with our package, on a disk with two system partitions and one for data
# that boots from BIOS and UEFI. Usage: build.sh FOLDER PACKAGE.deb [FORMAT...]
#
# Formats: qcow2 vmdk vhdx (all of them by default); the raw disk is always there.
# Packages come from where this machine's own apt takes them; BASE names a tar of an earlier run to spare that.
# Needs root: mmdebstrap, sfdisk, mkfs.ext4, mkfs.vfat, mtools, grub-mkimage, qemu-img.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$1
deb=$2
shift 2
formats=${*:-qcow2 vmdk vhdx}
for program in mmdebstrap sfdisk mkfs.ext4 mkfs.vfat mcopy grub-mkimage grub-editenv qemu-img; do
    command -v "$program" >/dev/null || {
        echo "$program is missing: apt install mmdebstrap fdisk e2fsprogs dosfstools mtools grub-common grub-pc-bin grub-efi-amd64-bin qemu-utils" >&2
        exit 1
    }
done
mkdir -p "$out"
work=$(mktemp -d "$out/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
# The same package gives the same dates.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$here" log -1 --format=%ct 2>/dev/null || stat -c %Y "$deb")}
E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH
export SOURCE_DATE_EPOCH E2FSPROGS_FAKE_TIME

# 1. Debian. Where this machine has its packages from is its own affair, and is not left in the image.
base=${BASE:-$out/base.tar}
if [ ! -s "$base" ]; then
    sources=$(ls /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | head -n 1)
    packages=$(grep -v '^#' "$here/packages" | tr ' ' '\n' | grep . | paste -sd ,)
    mmdebstrap --variant=minbase --mode=root --include="$packages" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --dpkgopt='path-include=/usr/share/doc/evenkeel/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        bookworm "$base.part" "$sources" --format=tar
    mv "$base.part" "$base"
fi
root=$work/root
mkdir "$root"
tar -C "$root" --numeric-owner --exclude=./dev/* -xf "$base"

# 2. Our package and what makes a machine an appliance.
cp "$deb" "$root/tmp/evenkeel.deb"
chroot "$root" dpkg --force-confold -i /tmp/evenkeel.deb
rm "$root/tmp/evenkeel.deb"
put() { # mode source target
    install -D -m "$1" "$here/$2" "$root/$3"
}
text() { # target, content on standard input
    mkdir -p "$(dirname "$root/$1")"
    cat >"$root/$1"
}
# Whose bundles it takes: UPGRADE_KEY names minisign's public key. The daemon's user cannot write there.
[ -z "${UPGRADE_KEY:-}" ] || install -D -m 644 "$UPGRADE_KEY" "$root/etc/evenkeel-upgrade-keys/maker.pub"
put 640 evenkeel.toml etc/evenkeel/evenkeel.toml
chroot "$root" chown -R evenkeel:evenkeel /etc/evenkeel /var/lib/evenkeel
put 644 evenkeel-console@.service etc/systemd/system/evenkeel-console@.service
put 644 evenkeel-upgrade-keep.service etc/systemd/system/evenkeel-upgrade-keep.service
put 644 evenkeel-cloud-keys.service etc/systemd/system/evenkeel-cloud-keys.service
text etc/systemd/system/evenkeel-console@ttyS0.service.d/device.conf <<'END'
[Unit]
# Of machines without a serial line.
BindsTo=dev-%i.device
After=dev-%i.device
END
echo evenkeel | text etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 evenkeel\n::1 localhost ip6-localhost ip6-loopback\n' | text etc/hosts
: | text etc/machine-id
rm -f "$root/var/lib/dbus/machine-id" "$root"/etc/ssh/ssh_host_*
text etc/fstab <<'END'
LABEL=EVENKEEL /boot/efi vfat umask=0077,nofail 0 1
LABEL=evenkeel-data /data ext4 defaults 0 2
/data/etc-evenkeel /etc/evenkeel none bind 0 0
/data/var-lib-evenkeel /var/lib/evenkeel none bind 0 0
/data/var-lib-evenkeel-node /var/lib/evenkeel-node none bind 0 0
/data/var-log /var/log none bind 0 0
END
mkdir -p "$root/boot/efi" "$root/data" "$root/var/lib/evenkeel-node"
# Any interface asks for an address until somebody says otherwise: cloud-init and [node] come before it.
text etc/systemd/network/90-any.network <<'END'
[Match]
Type=ether
Kind=!*

[Network]
DHCP=yes
END
text etc/systemd/logind.conf.d/evenkeel.conf <<'END'
[Login]
# No login prompts on other screens: no account has a password.
NAutoVTs=0
ReserveVT=0
END
text etc/systemd/system/ssh.service.d/evenkeel.conf <<'END'
[Service]
# Each machine has keys of its own.
ExecStartPre=
ExecStartPre=/usr/bin/ssh-keygen -A
ExecStartPre=/usr/sbin/sshd -t
END
text etc/ssh/sshd_config.d/10-appliance.conf <<'END'
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
END
text etc/cloud/cloud.cfg.d/90_evenkeel.cfg <<'END'
datasource_list: [ NoCloud, ConfigDrive, Ec2, Azure, OpenStack, None ]
ssh_pwauth: false
# A machine that does not say it is Amazon's is not: its metadata would be waited for, two minutes long.
datasource: { Ec2: { strict_id: true, max_wait: 10, timeout: 5 } }
END
# Where no cloud is recognised nothing is asked for: its services would be waited for by everything else.
echo 'policy: search,found=all,maybe=none,notfound=disabled' | text etc/cloud/ds-identify.cfg
# The console is there before an address is: nobody waits for a network that nobody has set up.
text etc/systemd/system/systemd-networkd-wait-online.service.d/evenkeel.conf <<'END'
[Service]
ExecStart=
ExecStart=/lib/systemd/systemd-networkd-wait-online --any --timeout=20
END
text etc/apt/sources.list <<'END'
deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian bookworm-updates main
deb http://deb.debian.org/debian-security bookworm-security main
END
rm -rf "$root"/etc/apt/sources.list.d/* "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin \
    "$root"/var/cache/apt/archives/*.deb "$root"/tmp/* "$root"/run/*
systemctl --root="$root" enable systemd-networkd.service systemd-resolved.service systemd-timesyncd.service \
    evenkeel.service evenkeel-scripts.socket evenkeel-node.socket evenkeel-upgrade.socket evenkeel-cloud-keys.service \
    evenkeel-upgrade-keep.service evenkeel-console@tty1.service evenkeel-console@ttyS0.service
systemctl --root="$root" disable ssh.service
systemctl --root="$root" mask getty@tty1.service serial-getty@ttyS0.service
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
# Nobody comes in by a password.
if grep -v '^[^:]*:[!*]' "$root/etc/shadow"; then
    echo "an account has a password" >&2
    exit 1
fi

# 3. Data: what survives a new system.
data=$work/data
mkdir "$data"
for pair in etc/evenkeel:etc-evenkeel var/lib/evenkeel:var-lib-evenkeel \
    var/lib/evenkeel-node:var-lib-evenkeel-node var/log:var-log; do
    cp -a "$root/${pair%%:*}" "$data/${pair##*:}"
    find "$root/${pair%%:*}" -mindepth 1 -delete
done

# 4. The disk: sectors of 512 bytes, everything on whole MiB.
mib=2048
boot_at=$((1 * mib)) boot_size=$((1 * mib))
esp_at=$((2 * mib)) esp_size=$((64 * mib))
a_at=$((66 * mib)) system_size=$((1536 * mib))
b_at=$((a_at + system_size))
data_at=$((b_at + system_size)) data_size=$((512 * mib))
disk=$out/evenkeel.raw
rm -f "$disk"
truncate -s $(((data_at + data_size + mib) * 512)) "$disk"
sfdisk --quiet "$disk" <<END
label: gpt
label-id: 4576656E-6B65-656C-0000-000000000001
unit: sectors
start=$boot_at, size=$boot_size, type=21686148-6449-6E6F-744E-656564454649, uuid=4576656E-6B65-656C-0000-000000000011, name="bios"
start=$esp_at, size=$esp_size, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=4576656E-6B65-656C-0000-000000000012, name="esp"
start=$a_at, size=$system_size, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=4576656E-6B65-656C-0000-000000000013, name="system-a"
start=$b_at, size=$system_size, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=4576656E-6B65-656C-0000-000000000014, name="system-b"
start=$data_at, size=$data_size, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=4576656E-6B65-656C-0000-000000000015, name="data"
END
place() { # file, first sector
    dd if="$1" of="$disk" bs=1M seek=$(($2 / mib)) conv=notrunc,sparse status=none
    rm "$1"
}
filesystem() { # folder or nothing, label, number, sectors, file
    truncate -s $(($4 * 512)) "$5"
    mkfs.ext4 -q -F -m 0 -L "$2" -U "4576656e-6b65-656c-0000-00000000002$3" \
        -E "hash_seed=4576656e-6b65-656c-0000-00000000003$3" ${1:+-d "$1"} "$5"
}
filesystem "$root" evenkeel-a 1 "$system_size" "$work/a"
# The same for a bundle (scripts/bundle.sh), under a name that no boot menu looks for.
cp --sparse=always "$work/a" "$out/evenkeel.system"
e2label "$out/evenkeel.system" evenkeel-new
place "$work/a" "$a_at"
filesystem "" evenkeel-b 2 "$system_size" "$work/b"
place "$work/b" "$b_at"
filesystem "$data" evenkeel-data 3 "$data_size" "$work/d"
place "$work/d" "$data_at"

# 5. GRUB, from both kinds of firmware, with one menu on the EFI partition.
modules="part_gpt fat ext2 normal configfile linux search search_label loadenv serial terminal echo test minicmd reboot halt ls all_video"
grub-mkimage -O i386-pc -o "$work/core.img" -c "$here/grub-early.cfg" -p /grub biosdisk $modules
grub-mkimage -O x86_64-efi -o "$work/BOOTX64.EFI" -c "$here/grub-early.cfg" -p /grub efi_gop efi_uga $modules
# The boot sector's code goes before the partition table, and is told where the rest lies; so is the rest.
little() { # a number as eight bytes, the lowest first
    /usr/bin/printf "$(printf '%016x\n' "$1" | fold -w 2 | tac | sed 's/^/\\x/' | tr -d '\n')"
}
patch() { # file, offset, number
    little "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
cp /usr/lib/grub/i386-pc/boot.img "$work/boot.img"
patch "$work/boot.img" 92 "$boot_at"
patch "$work/core.img" 500 $((boot_at + 1))
dd if="$work/boot.img" of="$disk" bs=440 count=1 conv=notrunc status=none
dd if="$work/core.img" of="$disk" bs=512 seek="$boot_at" conv=notrunc status=none
grub-editenv "$work/grubenv" create
grub-editenv "$work/grubenv" set system=a
truncate -s $((esp_size * 512)) "$work/esp"
mkfs.vfat --invariant -F 32 -i 45766b6c -n EVENKEEL "$work/esp" >/dev/null
mmd -i "$work/esp" ::/EFI ::/EFI/BOOT ::/grub
mcopy -i "$work/esp" "$work/BOOTX64.EFI" ::/EFI/BOOT/BOOTX64.EFI
mcopy -i "$work/esp" "$here/grub.cfg" "$work/grubenv" ::/grub/
place "$work/esp" "$esp_at"

# 6. The forms that hypervisors take.
for format in $formats; do
    case $format in
    qcow2) qemu-img convert -f raw -O qcow2 -c "$disk" "$out/evenkeel.qcow2" ;;
    vhdx) qemu-img convert -f raw -O vhdx -o subformat=dynamic "$disk" "$out/evenkeel.vhdx" ;;
    vmdk)
        qemu-img convert -f raw -O vmdk -o subformat=streamOptimized,adapter_type=lsilogic "$disk" "$out/evenkeel.vmdk"
        sh "$here/ova.sh" "$out" "$(stat -c %s "$disk")"
        ;;
    *) echo "no format $format" >&2 && exit 2 ;;
    esac
done
(cd "$out" && sha256sum evenkeel.raw evenkeel.* | sort -u -k 2 >SHA256SUMS && cat SHA256SUMS && du -h evenkeel.*)
