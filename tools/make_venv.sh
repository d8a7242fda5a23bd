#!/usr/bin/env bash
# Create .venv where it is missing and install the project into it, editable,
# with the extras named as arguments (test, lint, docs).
#
# Python 3.11 or newer, its headers and a C compiler are needed, for the one
# compiled module; on Debian they are installed by apt when this may.
set -euo pipefail

cd "$(dirname "$0")/.."

usable_python() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null && usable_python "$candidate"; then
            echo "$candidate"
            return
        fi
    done
}

has_venv() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null
}

has_headers() {
    "$1" -c 'import pathlib, sys, sysconfig
sys.exit(not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists())'
}

# What is missing, as the names of Debian's packages.
missing() {
    local python=$1
    command -v cc >/dev/null || echo gcc libc6-dev
    if [ -z "$python" ]; then
        echo python3 python3-venv python3-dev
        return
    fi
    has_venv "$python" || echo python3-venv
    has_headers "$python" || echo python3-dev
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

install_packages() {
    if ! command -v apt-get >/dev/null || ! as_root true 2>/dev/null; then
        echo "make_venv: please install first: $*" >&2
        exit 1
    fi
    echo "make_venv: installing $*"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

if [ ! -x .venv/bin/pip ]; then
    python=$(find_python)
    read -r -a packages <<<"$(missing "$python" | tr '\n' ' ')"
    if [ "${#packages[@]}" -gt 0 ]; then
        install_packages "${packages[@]}"
        python=$(find_python)
    fi
    if [ -z "$python" ]; then
        echo "make_venv: Python 3.11 or newer is needed; PYTHON=... names one" >&2
        exit 1
    fi
    "$python" -m venv .venv
fi

extras=$(IFS=,; echo "$*")
.venv/bin/pip install --quiet --disable-pip-version-check --editable ".${extras:+[$extras]}"
