#!/usr/bin/env bash
# Installs what `make orthanc-test` runs, on Debian 12: Orthanc, its official index in PostgreSQL, the header of its plugins,
# DICOM's tools, and nftables. Does nothing where nothing is missing; no service is started.
set -euo pipefail

missing=()
for package in orthanc orthanc-dev orthanc-postgresql dcmtk nftables; do
    [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then exit 0; fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
# Asked by invoke-rc.d and deb-systemd-invoke: 101 forbids what they want to do (Debian's policy-rc.d).
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 0755 "$policy"
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi
"${as_root[@]}" apt-get update -qq </dev/null
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    -o Dpkg::Options::=--force-unsafe-io "${missing[@]}" </dev/null
