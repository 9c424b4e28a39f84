#!/usr/bin/env bash
# Makes a Debian with its Orthanc and the official index in PostgreSQL in a new directory, for ORTHANC_ROOT of `make orthanc-test` and ROOT of
# `make orthanc-suite`. Without a release it is sid; what comes after that is for mmdebstrap, which this takes. As root. For example:
#   scripts/make-orthanc-root.sh /var/tmp/sid sid --aptopt='Acquire::Check-Valid-Until "false"'     # of a mirror that is not up to date
set -euo pipefail

root=${1:?usage: $0 DIRECTORY [RELEASE [OPTION…]]}
release=${2:-sid}
if [ "$(id -u)" -ne 0 ]; then
    echo "as root: sudo $0 $*" >&2
    exit 1
fi
command -v mmdebstrap >/dev/null || { echo "mmdebstrap is missing: apt-get install mmdebstrap" >&2; exit 1; }
mmdebstrap --quiet --mode=root --variant=minbase --include=orthanc,orthanc-postgresql \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg "${@:3}" "$release" "$root" "${MIRROR:-http://deb.debian.org/debian}"
dpkg-query --admindir="$root/var/lib/dpkg" --show --showformat '${Package} ${Version}\n' orthanc orthanc-postgresql
