#!/usr/bin/env bash
# Tests the packages in the directory that is the argument (target/deb): lintian has nothing to say, and in a Debian of their own, which
# is made for this and removed again, they are installed by apt, run README.md's first statements, are upgraded under a running server
# and purged, and no payload is touched by that. As root; takes lintian and mmdebstrap.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=$(realpath "${1:-target/deb}")
if [ "$(id -u)" -ne 0 ]; then
    echo "as root: sudo $0 $packages" >&2
    exit 1
fi
for program in lintian mmdebstrap; do
    command -v "$program" >/dev/null || { echo "$program is missing: apt-get install $program" >&2; exit 1; }
done

lintian --allow-root --fail-on error,warning,info --tag-display-limit 0 "$packages"/*.changes

root=$(mktemp -d)
trap 'rm -rf --one-file-system "$root"' EXIT
chmod 755 "$root"
release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
# shellcheck disable=SC2016 # they are apt's
apt-get indextargets --format 'deb $(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' | sort -u |
    mmdebstrap --quiet --mode=root --variant=minbase --include=ca-certificates \
        --keyring=/usr/share/keyrings/debian-archive-keyring.gpg "$release" "$root" -
cp /etc/resolv.conf /etc/hosts "$root/etc/"
mkdir "$root/packages" "$root/next"
cp README.md "$root/packages/"
find "$packages" -name '*.deb' ! -name '*-dbgsym_*' -exec cp {} "$root/packages/" \;

# The next version: the same files under a higher version.
for package in "$root"/packages/*.deb; do
    dpkg-deb --raw-extract "$package" "$root/unpacked"
    sed -i 's/^Version: .*/&+next/' "$root/unpacked/DEBIAN/control"
    dpkg-deb --root-owner-group --build "$root/unpacked" "$root/next/" >/dev/null
    rm -r "$root/unpacked"
done

# --- in the other Debian -----------------------------------------------------------------------

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

as_postgres() {
    (cd / && setpriv --reuid postgres --regid postgres --init-groups "$@")
}

sql() {
    as_postgres psql -X -q -A -t -v ON_ERROR_STOP=1 -d mydb "$@"
}

install_packages() {
    apt-get install -qq -y --no-install-recommends "$@" >/dev/null 2>&1 || fail "apt-get install $*"
}

# What the README's lines for postgresql.conf say, for the cluster.
configure() {
    grep -E '^(shared_preload_libraries|rbytea\.databases_for_vacuuming) = ' /packages/README.md >"$conf/rbytea.conf"
    [ "$(wc -l <"$conf/rbytea.conf")" -eq 2 ] || fail "README.md has other lines for postgresql.conf"
}

# The payload that is kept has its bytes.
kept() {
    [ "$(sql -c "SELECT md5sum(content) FROM documents WHERE id = 2")" = e5c1ab047ce869dab2253aa526431e59 ] || fail "$1: other bytes"
}

# Name, size and content of every file of the store.
store() {
    (cd "/var/lib/postgresql/$major/main/rbytea" && find . -type f -exec sha256sum {} + | sort)
}

one_major() {
    local major=$1 package=postgresql-$1-rbytea conf=/etc/postgresql/$1/main/conf.d
    echo "PostgreSQL $major: install"
    install_packages "/packages/${package}"_*.deb /packages/rbytea-tools_*.deb
    pg_createcluster "$major" main >/dev/null
    configure
    pg_ctlcluster "$major" main start
    as_postgres createdb mydb

    echo "PostgreSQL $major: README.md"
    awk '/^```/ { inside = /^```sql/; next } inside' /packages/README.md >/tmp/quick-start.sql
    sql -f /tmp/quick-start.sql >/tmp/shown
    for line in '1\|\\x48656c6c6f2c20776f726c64\|12\|bc6e6f16b8a077ef5fbc8d59d0b931b9\|[0-9a-f-]{36}' '\\x48656c6c6f'; do
        grep -qxE "$line" /tmp/shown || fail "README.md's statements have shown: $(cat /tmp/shown)"
    done
    sql -c "INSERT INTO documents VALUES (2, 'kept', decode(repeat('ab', 100000), 'hex'))"
    kept "after the README's statements"
    as_postgres rbytea_check --digest || fail "rbytea_check finds something"

    echo "PostgreSQL $major: the original's name"
    sed -i "s/'rbytea'/'librbytea'/" "$conf/rbytea.conf"
    pg_ctlcluster "$major" main restart
    kept "preloaded as librbytea"

    echo "PostgreSQL $major: upgrade"
    install_packages "/next/${package}"_*.deb /next/rbytea-tools_*.deb
    case $(dpkg-query --show --showformat='${Version}' "$package") in *+next) ;; *) fail "it is not upgraded" ;; esac
    kept "upgraded, the server not restarted"
    sql -c "INSERT INTO documents VALUES (3, 'new', 'after the upgrade')" -c "DELETE FROM documents WHERE id = 3" -c "SELECT rvacuum()" >/dev/null
    pg_ctlcluster "$major" main restart
    kept "upgraded"
    sql -c "ALTER EXTENSION rbytea UPDATE" 2>/dev/null
    kept "ALTER EXTENSION"

    echo "PostgreSQL $major: Orthanc"
    install_packages curl /packages/orthanc-rbytea_*.deb
    setpriv --reuid orthanc --regid orthanc --init-groups Orthanc /etc/orthanc >/tmp/orthanc.log 2>&1 &
    local orthanc=$!
    until curl --silent --user orthanc:orthanc http://localhost:8042/system >/tmp/system; do
        kill -0 "$orthanc" || fail "Orthanc does not start after the installation: $(cat /tmp/orthanc.log)"
    done
    kill "$orthanc" && wait "$orthanc"
    grep -q 'files are stored elsewhere' /tmp/orthanc.log || fail "the plugin is not loaded: $(cat /tmp/orthanc.log)"
    as_postgres createuser --superuser orthanc
    sed -i 's/"EnableStorage" : false/"EnableStorage" : true, "Host" : "\/var\/run\/postgresql", "Database" : "mydb", "Username" : "orthanc"/' \
        /etc/orthanc/rbytea.json
    setpriv --reuid orthanc --regid orthanc --init-groups Orthanc /etc/orthanc >/tmp/orthanc.log 2>&1 &
    orthanc=$!
    until curl --silent --user orthanc:orthanc http://localhost:8042/rbytea/status >/tmp/status && grep -q mydb /tmp/status; do
        kill -0 "$orthanc" || fail "Orthanc does not start with the storage: $(cat /tmp/orthanc.log)"
    done
    kill "$orthanc" && wait "$orthanc"
    orthanc-rbytea orphans --help >/dev/null || fail "orthanc-rbytea"
    apt-get purge -qq -y orthanc-rbytea >/dev/null 2>&1 || fail "apt-get purge orthanc-rbytea"
    sql -c "DROP TABLE orthanc_files, orthanc_files_state"

    echo "PostgreSQL $major: purge"
    pg_ctlcluster "$major" main stop
    store >/tmp/before
    [ -s /tmp/before ] || fail "there is no store"
    dpkg --listfiles "$package" rbytea-tools | sort -u >/tmp/owned
    apt-get purge -qq -y "$package" rbytea-tools >/dev/null 2>&1 || fail "apt-get purge"
    while read -r file; do
        if [ -f "$file" ] || [ -L "$file" ]; then fail "$file is left"; fi
    done < <(grep '^/' /tmp/owned)
    left=$(find / -xdev -name '*rbytea*' ! -path '/packages/*' ! -path '/next/*' ! -path '/proc/*' ! -path "/var/lib/postgresql/*" \
        ! -path "$conf/rbytea.conf")
    [ -z "$left" ] || fail "left behind: $left"
    store | cmp -s - /tmp/before || fail "the store is not what it was"

    echo "PostgreSQL $major: without the package, and with it again"
    rm "$conf/rbytea.conf"
    pg_ctlcluster "$major" main start
    [ "$(sql -c "SELECT name FROM documents WHERE id = 2")" = kept ] || fail "the table cannot be read without the package"
    install_packages "/packages/${package}"_*.deb
    configure
    pg_ctlcluster "$major" main restart
    kept "installed again"
    pg_dropcluster --stop "$major" main
    apt-get purge -qq -y "$package" >/dev/null 2>&1
}

all_majors() {
    export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
    mkdir -p /etc/postgresql-common/createcluster.d
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/test.conf
    apt-get update -qq
    local tested=0 major
    for package in /packages/postgresql-*-rbytea_*.deb; do
        major=${package#/packages/postgresql-}
        major=${major%%-*}
        if apt-cache show "postgresql-$major" >/dev/null 2>&1; then
            one_major "$major"
            tested=$((tested + 1))
        else
            echo "PostgreSQL $major: not in Debian, not tested"
        fi
    done
    [ "$tested" -gt 0 ] || fail "no package was tested"
    echo "$tested package(s) installed, upgraded and purged"
}

functions=$(declare -f fail as_postgres sql install_packages configure kept store one_major all_majors)
# Whatever is mounted or running ends with the namespaces.
# shellcheck disable=SC2016 # it is the other shell's
unshare --mount --pid --fork --kill-child bash -euc '
    mount -t proc proc "$1/proc"
    mkdir -p "$1/dev/shm" && mount -t tmpfs -o mode=1777 tmpfs "$1/dev/shm"
    exec chroot "$1" /bin/bash -euo pipefail -c "$2"
' bash "$root" "$functions; all_majors"
