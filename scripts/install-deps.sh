#!/usr/bin/env bash
# Installs what building and testing rbytea needs on Debian and this machine does not have yet: PostgreSQL with its
# headers, a C linker, a C++ compiler, libclang, make, OpenSSL with its GOST engine, rsync, pgBackRest, strace, e2fsprogs,
# xfsprogs. Does nothing where nothing is missing. PG_CONFIG selects the installation that is meant; without one it is
# Debian's postgresql-15. Clusters that exist are left alone and none is created.
set -euo pipefail

readonly RUST=1.95
export PATH="$PATH:$HOME/.cargo/bin"

# True if version $1 is at least version $2.
at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

found() {
    compgen -G "$1" >/dev/null
}

missing=()

pg_config=${PG_CONFIG:-pg_config}
major=15
if version=$("$pg_config" --version 2>/dev/null); then
    major=$(sed -n 's/^PostgreSQL \([0-9]*\).*/\1/p' <<<"$version")
elif [[ $pg_config =~ ^/usr/lib/postgresql/([0-9]+)/bin/pg_config$ ]]; then
    major=${BASH_REMATCH[1]}
elif [ "$pg_config" != pg_config ] && [ "$pg_config" != /usr/bin/pg_config ]; then
    echo "there is no PostgreSQL at PG_CONFIG=$pg_config" >&2
    exit 1
elif [ -x /usr/lib/postgresql/15/bin/pg_config ]; then
    pg_config=/usr/lib/postgresql/15/bin/pg_config
fi
bindir=$("$pg_config" --bindir 2>/dev/null || true)
headers=$("$pg_config" --includedir-server 2>/dev/null || true)
if [ ! -x "$bindir/postgres" ]; then
    missing+=("postgresql-$major")
fi
if [ ! -e "$headers/postgres.h" ]; then
    # It depends on the clang whose libclang reads the headers.
    missing+=("postgresql-server-dev-$major")
elif [ -z "${LIBCLANG_PATH:-}" ] && ! found '/usr/lib/llvm-*/lib/libclang*.so*' &&
    ! found '/usr/lib/*/libclang*.so*' && ! found '/usr/lib*/libclang*.so*'; then
    missing+=(libclang-dev)
fi
command -v make >/dev/null || missing+=(make)
command -v cc >/dev/null || missing+=(gcc)
# libFuzzer
command -v c++ >/dev/null || missing+=(g++)
[ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
# The tests of backups copy stores with it.
command -v rsync >/dev/null || missing+=(rsync)
# And those of archives.
command -v pgbackrest >/dev/null || missing+=(pgbackrest)
# Another implementation of Kuznyechik, to read encrypted payloads with.
command -v openssl >/dev/null || missing+=(openssl)
openssl engine gost >/dev/null 2>&1 || missing+=(libengine-gost-openssl)
# Faults: system calls of a server that fail, and small file systems for its store.
command -v strace >/dev/null || missing+=(strace)
PATH="$PATH:/sbin:/usr/sbin" command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs)
PATH="$PATH:/sbin:/usr/sbin" command -v mkfs.xfs >/dev/null || missing+=(xfsprogs)
command -v mount >/dev/null || missing+=(mount)

if [ ${#missing[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
        echo "this is no Debian; please install what is here called: ${missing[*]}" >&2
        exit 1
    fi
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "as root: apt-get install --no-install-recommends ${missing[*]}" >&2
            exit 1
        fi
        as_root=(sudo)
    fi
    # A new PostgreSQL package would create and start a cluster; the tests bring their own.
    no_cluster=/etc/postgresql-common/createcluster.d/rbytea-tests.conf
    "${as_root[@]}" mkdir -p "$(dirname "$no_cluster")"
    echo 'create_main_cluster = false' | "${as_root[@]}" tee "$no_cluster" >/dev/null
    trap '"${as_root[@]}" rm -f "$no_cluster"' EXIT
    "${as_root[@]}" apt-get update -qq </dev/null
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null
fi

cargo=$(cargo --version 2>/dev/null | cut -d ' ' -f 2 || true)
if [ -z "$cargo" ] || ! at_least "$cargo" "$RUST"; then
    {
        echo "cargo ${cargo:-is missing}${cargo:+ is too old}; Rust $RUST or newer is needed. This installs it (with curl):"
        echo "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c clippy -c rustfmt && . ~/.cargo/env"
    } >&2
    exit 1
fi
if ! cargo clippy --version >/dev/null 2>&1 || ! cargo fmt --version >/dev/null 2>&1; then
    echo "clippy or rustfmt is missing. This installs both:" >&2
    echo "rustup component add clippy rustfmt" >&2
    exit 1
fi
