#!/usr/bin/env bash
# Installs the clients that `make driver-test` runs, on Debian 12: what Debian has by apt-get, the rest from PyPI, npm and
# crates.io into the directory that is the first argument, in versions that tests/drivers pins; and compiles the programs of
# tests/drivers that have to be compiled. Does nothing where nothing is missing or has changed.
set -euo pipefail

into=$(realpath -m "${1:?usage: $0 DIRECTORY}")
cd "$(dirname "$0")/../tests/drivers"
export PATH="$PATH:$HOME/.cargo/bin"

# What has to be compiled from crates.io takes longest: it begins while the rest is installed.
mkdir -p "$into"
CARGO_TARGET_DIR="$into/sqlx" cargo build --quiet --locked --manifest-path sqlx/Cargo.toml &
pids=($!)

# --- Debian ------------------------------------------------------------------------------------

packages=(golang-go golang-github-lib-pq-dev golang-github-jackc-pgx-v4-dev
    ruby ruby-activerecord ruby-pg php-cli php-pgsql libdbd-pg-perl libodbc2 odbc-postgresql libpostgresql-jdbc-java)
# CPython 3.11, which the pins are for, with pip.
/usr/bin/python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)
command -v javac >/dev/null || packages+=(default-jdk-headless)
command -v npm >/dev/null || packages+=(nodejs npm)
missing=()
for package in "${packages[@]}"; do
    [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
    "${as_root[@]}" apt-get update -qq </dev/null
    # The packages are for tests: what a crash could leave half installed is installed again. dpkg syncs every file otherwise.
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        -o Dpkg::Options::=--force-unsafe-io "${missing[@]}" </dev/null >&2
fi

# --- PyPI, npm ---------------------------------------------------------------------------------

# Runs a function with a new directory, which takes the place of $into/NAME; not if that was made from the same FILES.
from() {
    local name=$1 files=("${@:3}")
    if [ -e "$into/$name/made-from" ] && cat "${files[@]}" | cmp -s - "$into/$name/made-from"; then return; fi
    rm -rf "${into:?}/$name" "$into/.$name"
    mkdir "$into/.$name"
    "$2" "$into/.$name"
    cat "${files[@]}" >"$into/.$name/made-from"
    mv -T "$into/.$name" "$into/$name"
}

python() {
    /usr/bin/python3 -m pip --disable-pip-version-check --quiet --no-input install --root-user-action=ignore --no-deps \
        --require-hashes --only-binary=:all: --target "$1" --requirement requirements.txt
}

node() {
    cp package.json package-lock.json "$1"
    (cd "$1" && npm ci --silent --no-audit --no-fund --ignore-scripts)
}

# --- programs that are compiled ------------------------------------------------------------------

java() {
    javac -d "$1" pgjdbc/Main.java
}

# Debian's Go packages are source that is found without modules.
go_programs() {
    local program
    for program in lib_pq pgx; do
        (cd $program && GO111MODULE=off GOPATH=/usr/share/gocode GOFLAGS='' go build -o "$1/$program" .)
    done
}

from python python requirements.txt &
pids+=($!)
from node node package.json package-lock.json &
pids+=($!)
from java java pgjdbc/Main.java &
pids+=($!)
from go go_programs lib_pq/main.go pgx/main.go &
pids+=($!)
for pid in "${pids[@]}"; do wait "$pid"; done
