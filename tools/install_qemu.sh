#!/usr/bin/env bash
# Make the QEMUs at hand that the tests drive, on Debian bookworm:
#
#   - the distribution's own (7.2), the compressors and openssl, installed by apt;
#   - 10.0 from bookworm-backports, unpacked into .qemu/10.0 and not installed,
#     so that both stand side by side: .qemu/10.0/qemu-system-x86_64;
#   - a kernel for a Linux guest, unpacked into .qemu/linux and not installed;
#   - gdb and readelf, which open what is made of that guest;
#   - virsh with libvirt's QEMU driver, which reads and restores our images.
#
# Quick when they are already there. Where they cannot be had this says so and
# succeeds, because most tests need no QEMU; with CI=true it fails instead.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
newer=$root/.qemu/10.0
linux=$root/.qemu/linux
packages=(qemu-system-x86 qemu-utils lzop zstd xz-utils bzip2 openssl gdb binutils libvirt-clients libvirt-daemon)
commands=(qemu-system-x86_64 qemu-img lzop zstd xz bzip2 openssl gdb readelf virsh)
unpacked=(qemu-system-x86 qemu-system-common qemu-system-data seabios ipxe-qemu)

give_up() {
    echo "install_qemu: $1" >&2
    if [ "${CI:-}" = true ]; then
        exit 1
    fi
    echo "install_qemu: going on; tests that drive a real QEMU will be skipped" >&2
    exit 0
}

have_commands() {
    local command
    for command in "${commands[@]}"; do
        command -v "$command" >/dev/null || return 1
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

install_packages() {
    command -v apt-get >/dev/null || give_up "no apt-get here; install by hand: ${packages[*]}"
    as_root true 2>/dev/null || give_up "neither root nor sudo; install by hand: ${packages[*]}"
    echo "install_qemu: installing ${packages[*]}"
    as_root apt-get update -qq || give_up "apt-get update failed"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        "${packages[@]}" >/dev/null || give_up "apt-get install failed"
}

make_scratch() {
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
}

# apt with lists, cache and sources of its own: the machine's are only read.
private_apt() {
    apt-get -qq -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1 \
        -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$scratch/sources" \
        -o Dir::State::Lists="$scratch/lists" -o Dir::Cache="$scratch/cache" "$@"
}

# The machine's sources, and backports from the mirror that its main archive comes from.
write_sources() {
    local codename=$1 mirror signed
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' \
        "Release: $codename" 'Component: main' | head -n 1)
    [ -n "$mirror" ] || give_up "no apt source for $codename/main is configured"
    signed=/usr/share/keyrings/debian-archive-keyring.gpg
    mkdir -p "$scratch/sources" "$scratch/lists/partial" "$scratch/cache/archives/partial"
    find /etc/apt/sources.list.d -name '*.list' -o -name '*.sources' | xargs -r cp -t "$scratch/sources"
    if [ -s /etc/apt/sources.list ]; then
        cp /etc/apt/sources.list "$scratch/sources/machine.list"
    fi
    echo "deb [signed-by=$signed] $mirror $codename-backports main" >"$scratch/sources/backports.list"
}

# The emulator with its data, whatever is installed, and the libraries that this machine lacks.
download() {
    local release=$1
    private_apt update || give_up "could not read the package lists of $release"
    private_apt install -y --download-only --no-install-recommends -t "$release" \
        "${unpacked[@]}" >/dev/null || give_up "could not fetch QEMU from $release"
    (cd "$scratch/cache/archives" && private_apt download -t "$release" "${unpacked[@]}" >/dev/null) ||
        give_up "could not fetch QEMU from $release"
}

# QEMU looks for its modules and firmware under qemu-bundle beside its binary when there is one.
write_wrapper() {
    ln -s ../.. "$1/root/usr/bin/qemu-bundle"
    cat >"$1/qemu-system-x86_64" <<'WRAPPER'
#!/bin/sh
# QEMU from the tree beside this file, with its own libraries, modules and firmware.
tree=$(dirname "$(readlink -f "$0")")/root
export LD_LIBRARY_PATH="$tree/usr/lib/$(uname -m)-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec "$tree/usr/bin/qemu-system-x86_64" "$@"
WRAPPER
    chmod +x "$1/qemu-system-x86_64"
}

unpack_newer() {
    local codename package
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    [ "$codename" = bookworm ] || give_up "QEMU 10.0 is only unpacked on Debian bookworm, not '$codename'"
    [ "$(dpkg --print-architecture)" = amd64 ] || give_up "QEMU 10.0 is only unpacked on amd64"
    echo "install_qemu: unpacking QEMU 10.0 from $codename-backports into ${newer#"$root"/}"
    make_scratch
    write_sources "$codename"
    download "$codename-backports"
    rm -rf "$newer.new"
    mkdir -p "$newer.new"
    for package in "$scratch"/cache/archives/*.deb; do
        dpkg-deb -x "$package" "$newer.new/root"
    done
    write_wrapper "$newer.new"
    "$newer.new/qemu-system-x86_64" --version >/dev/null || give_up "the unpacked QEMU does not start"
    rm -rf "$newer"
    mv "$newer.new" "$newer"
}

# What the package that always depends on the newest kernel depends on.
kernel_package() {
    apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -n 1
}

unpack_linux() {
    local package
    package=$(kernel_package)
    if [ -z "$package" ]; then
        as_root apt-get update -qq || give_up "apt-get update failed"
        package=$(kernel_package)
    fi
    [ -n "$package" ] || give_up "no package linux-image-cloud-amd64 here"
    echo "install_qemu: unpacking $package into ${linux#"$root"/}"
    make_scratch
    (cd "$scratch" && apt-get download -qq -o APT::Sandbox::User="$(id -un)" "$package") ||
        give_up "could not fetch $package"
    dpkg-deb -x "$scratch"/linux-image-*.deb "$scratch/root"
    rm -rf "$linux.new"
    mkdir -p "$linux.new"
    cp "$scratch"/root/boot/vmlinuz-* "$linux.new"
    find "$scratch/root" -name qemu_fw_cfg.ko -exec cp {} "$linux.new" \;
    rm -rf "$linux" "$scratch"
    mv "$linux.new" "$linux"
}

have_commands || install_packages
[ -x "$newer/qemu-system-x86_64" ] || unpack_newer
[ -e "$linux/qemu_fw_cfg.ko" ] || unpack_linux
for command in qemu-system-x86_64 "$newer/qemu-system-x86_64"; do
    "$command" --version | head -n 1
done
