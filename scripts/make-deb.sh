#!/usr/bin/env bash
# Builds Debian's source package of the last commit, and the packages for the majors of PostgreSQL that this machine has, in the
# directory that is the argument (target/deb). The crates are fetched where cargo does not have them yet; the build itself uses no
# network. Takes the packages that debian/control names, Rust from PATH, git and xz.
set -euo pipefail
cd "$(dirname "$0")/.."
# Neither variables of the make that runs this nor cargo's are the build's.
unset MAKEFLAGS MAKEOVERRIDES MFLAGS MAKELEVEL CARGO CARGO_TARGET_DIR RUSTFLAGS

out=$(realpath -m "${1:-target/deb}")
version=$(dpkg-parsechangelog --show-field Version)
name=rbytea-${version%-*}
orig=$out/rbytea_${version%-*}.orig
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH XZ_DEFAULTS=-T0

rm -rf "$out" && mkdir -p "$out"
git archive --prefix="$name/" HEAD -- . ':!debian' | xz >"$orig.tar.xz"
git archive --prefix="$name/" HEAD | tar -x -C "$out"
cd "$out/$name"

cargo vendor --quiet --locked --versioned-dirs vendor >/dev/null
debian/vendored-copyright vendor <debian/copyright.in >debian/copyright
# Of what no build uses, cargo wants the manifest; the crates of Windows alone would be 150 MB.
needed=$(cargo tree --locked --workspace --edges normal,build --no-default-features --features pg15 --prefix none \
    --format '{p}' --target x86_64-unknown-linux-gnu --target aarch64-unknown-linux-gnu | sed 's/ v/-/; s/ .*//' | sort -u)
for crate in vendor/*; do
    if ! grep -qxF "${crate#vendor/}" <<<"$needed"; then
        find "$crate" -mindepth 1 ! -name Cargo.toml ! -name .cargo-checksum.json -delete
        mkdir "$crate/src" && : >"$crate/src/lib.rs"
        sed -i 's/"files":{[^}]*}/"files":{}/' "$crate/.cargo-checksum.json"
    fi
done
tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -cJf "$orig-vendor.tar.xz" vendor

pg_buildext updatecontrol
profiles=()
if ! dpkg --compare-versions "$(dpkg-query --show --showformat='${Version}' cargo 2>/dev/null)" ge 1.95; then
    profiles=(--build-profiles=pkg.rbytea.rustup)
    PATH=$(rustc --print sysroot)/bin:$PATH
fi
dpkg-buildpackage --unsigned-source --unsigned-changes "${profiles[@]}"
rm -rf "${out:?}/$name"
ls -l "$out"
