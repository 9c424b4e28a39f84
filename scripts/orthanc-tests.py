#!/usr/bin/env python3
"""Runs Orthanc's own integration tests, of a checkout of orthanc-tests, with files in the file system and with the storage plugin, both
with the index in SQLite and in PostgreSQL. Exits with 1 if with the plugin other names fail than with the file system. Fetches nothing.

usage: orthanc-tests.py CHECKOUT [ROOT]

ROOT is a directory that scripts/make-orthanc-root.sh has made, whose Orthanc is taken in place of this machine's. Takes root, PG_CONFIG's
server with the extension, the built plugin, and what the tests themselves take: a Python, the one that this is run by, that has httplib2, numpy,
pillow, pydicom and pynetdicom; and dcmtk, dicom3tools and libgdcm-tools. The server and this Python must not be below /tmp.

The tests have fixed ports and files in /tmp: everything runs in namespaces of its own, without a network, and ends with them.
"""

import itertools
import json
import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

PG_CONFIG = os.environ.get("PG_CONFIG", "/usr/lib/postgresql/15/bin/pg_config")
TARGET = os.environ.get("CARGO_TARGET_DIR", "target")
PLUGIN = f"{TARGET}/release/libOrthancRbyteaStorage.so"
LOGS = f"{TARGET}/orthanc-tests"
INDEX_PLUGIN = "/usr/share/orthanc/plugins/libOrthancPostgreSQLIndex.so"
INDEXES, STORAGES = ("SQLite", "PostgreSQL"), ("files", "rbytea")
# How often a name that differs is run by itself, with each storage.
BY_ITSELF = 5
# Seconds; a run takes one or two minutes.
LIMIT = 3600

# What the tests' second Orthanc would have written as its defaults, which Run.py edits: newer ones write these as comments.
DEFAULTS = {
    "StorageDirectory": "", "IndexDirectory": "", "DicomAet": "", "DicomPort": 0, "HttpPort": 0, "RemoteAccessAllowed": False,
    "AuthenticationEnabled": False, "ExecuteLuaEnabled": False, "HttpCompressionEnabled": True, "DicomAssociationCloseDelay": 5,
    "DicomModalities": {}, "RegisteredUsers": {}, "RleTransferSyntaxAccepted": True,
}  # fmt: skip


# --- outside of the namespaces ---------------------------------------------------------------------


def main():
    if os.geteuid() != 0 or len(sys.argv) not in (2, 3):
        sys.exit(f"as root: {sys.argv[0]} CHECKOUT [ROOT]")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o1777)
        os.mkdir(f"{scratch}/logs")
        os.chmod(f"{scratch}/logs", 0o1777)
        shutil.copy(PLUGIN, f"{scratch}/plugin.so")
        namespaces = "setpriv --pdeathsig KILL unshare --mount --net --uts --pid --fork --kill-child --mount-proc --".split()
        inside = [sys.executable, os.path.abspath(__file__), "--inside", scratch, *map(os.path.abspath, sys.argv[1:])]
        status = subprocess.run(namespaces + inside).returncode
        shutil.rmtree(LOGS, ignore_errors=True)
        shutil.copytree(f"{scratch}/logs", LOGS)
    print("logs:", LOGS)
    sys.exit(status)


# --- inside of them --------------------------------------------------------------------------------


def inside(scratch, checkout, root=None):
    """The scratch directory becomes /tmp, with the checkout and the root in it."""
    for name, path in [("checkout", checkout)] + ([("root", root)] if root else []):
        os.mkdir(f"{scratch}/{name}")
        run("mount", "--bind", path, f"{scratch}/{name}")
    run("mount", "--rbind", scratch, "/tmp")
    if root:
        run("mount", "--bind", "/tmp", "/tmp/root/tmp")
        run("mount", "--bind", "/proc", "/tmp/root/proc")
    run("ip", "link", "set", "lo", "up")
    socket.sethostname("localhost")
    os.chdir("/tmp")
    os.environ.update(PYTHONDONTWRITEBYTECODE="1", LC_ALL="C.UTF-8")
    orthanc = "chroot /tmp/root /usr/sbin/Orthanc" if root else "/usr/sbin/Orthanc"
    with open("second-orthanc", "w") as script:
        script.write(f"#!/bin/sh\ncase $1 in\n--config=*) echo '{json.dumps(DEFAULTS)}' >\"${{1#*=}}\" ;;\n*) exec {orthanc} \"$1\" ;;\nesac\n")
    os.chmod("second-orthanc", 0o755)
    version = subprocess.run([*orthanc.split(), "--version"], check=True, capture_output=True, text=True).stdout.split()
    print("Orthanc", next(word for word in version if word[0].isdigit()), flush=True)
    start_server()
    wanted = tests_configuration()
    differ = [index for index in INDEXES if not same_names(wanted, orthanc.split(), index)]
    if differ:
        sys.exit(f"other names fail with the plugin than with the file system; index in {' and in '.join(differ)}")
    print("the same names fail with the plugin as with the file system")


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def postgres(program, *arguments):
    bindir = subprocess.run([PG_CONFIG, "--bindir"], check=True, capture_output=True, text=True).stdout.strip()
    run("setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups", f"{bindir}/{program}", *arguments)


def database(index, storage):
    return f"{storage}_{index}".lower()


def start_server():
    """A server at the socket /tmp/.s.PGSQL.5432."""
    names = [database(*which) for which in itertools.product(INDEXES, STORAGES)]
    settings = {
        "listen_addresses": "", "unix_socket_directories": "/tmp", "fsync": "off", "shared_preload_libraries": "rbytea",
        "rbytea.databases_for_vacuuming": ",".join(names),
    }  # fmt: skip
    postgres("initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--pgdata=/tmp/data")
    with open("/tmp/data/postgresql.conf", "a") as conf:
        conf.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
    postgres("pg_ctl", "--wait", "--pgdata=/tmp/data", "--log=/tmp/logs/server.log", "start")


def make_database(name):
    quiet = "SET client_min_messages = warning"
    drop, create = f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"CREATE DATABASE {name}"
    commands = [quiet, drop, create, rf"\c {name}", quiet, "CREATE EXTENSION rbytea CASCADE"]
    postgres("psql", "-X", "-q", "-h", "/tmp", "-v", "ON_ERROR_STOP=1", *(f"--command={command}" for command in commands))


def tests_configuration():
    """What the checkout's own script makes, out of an Orthanc's defaults, which it would download, and which Orthanc knows."""
    defaults = json.dumps({"DeidentifyLogsDicomVersion": "", "KeepAlive": True})

    class Downloaded:
        def __init__(self, content):
            self.read, self.getcode = lambda: content, lambda: 200

    urllib.request.urlopen = lambda url: Downloaded(defaults.encode())
    urllib.urlopen = lambda url: Downloaded(defaults)  # of Python 2, in the older ones
    sys.argv = ["", "--force", "--target", "/tmp/tests.json"]
    runpy.run_path("/tmp/checkout/GenerateConfigurationForTests.py")
    with open("/tmp/tests.json") as file:
        return json.load(file)


class Run:
    """A run of these tests, or of all: how many there were, and which of them failed."""

    def __init__(self, wanted, orthanc, index, storage, tests=()):
        name = database(index, storage)
        plugins = [INDEX_PLUGIN] if index == "PostgreSQL" else []
        if storage == "rbytea":
            plugins.append("/tmp/plugin.so")
        server = {"Host": "/tmp", "Port": 5432, "Database": name, "Username": "postgres", "Password": ""}
        configuration = {section: value for section, value in wanted.items() if section not in ("MySQL", "Odbc")}
        configuration |= {
            "Plugins": plugins, "StorageDirectory": "/tmp/files", "IndexDirectory": "/tmp/files",
            "PostgreSQL": server | {"EnableIndex": True, "EnableStorage": False, "Lock": False},
            "Rbytea": server | {"EnableStorage": True},
        }  # fmt: skip
        with open("/tmp/orthanc.json", "w") as file:
            json.dump(configuration, file)
        make_database(name)
        shutil.rmtree("/tmp/files", ignore_errors=True)
        shutil.rmtree("/tmp/OrthancStorage", ignore_errors=True)
        command = [sys.executable, "/tmp/checkout/Tests/Run.py", "--force", "--orthanc", "/tmp/second-orthanc", *tests]
        with open(f"/tmp/logs/{name}.orthanc.log", "a") as log, open(f"/tmp/logs/{name}.tests.log", "a+") as output:
            begun = output.seek(0, os.SEEK_END)
            process = subprocess.Popen([*orthanc, "/tmp/orthanc.json"], stdout=log, stderr=log)
            try:
                self.wait_for(process, f"{name}.orthanc.log")
                subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=LIMIT)
                output.seek(begun)
                said = output.read()
                self.stored = self.get("/rbytea/status")["since_start"]["files_stored"] if storage == "rbytea" else None
            finally:
                process.terminate()
                process.wait()
        ran = re.search(r"^Ran (\d+) tests? in", said, re.MULTILINE)
        if not ran:
            sys.exit(f"Run.py has run nothing: {name}.tests.log")
        self.count = int(ran[1])
        self.failed = set(re.findall(r"^(?:FAIL|ERROR): (\w+) \(", said, re.MULTILINE))

    @staticmethod
    def get(path):
        manager = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        manager.add_password(None, "http://localhost:8042", "alice", "orthanctest")
        opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(manager))
        with opener.open(f"http://localhost:8042{path}") as answer:
            return json.load(answer)

    def wait_for(self, process, log):
        while process.poll() is None:
            try:
                return self.get("/system")
            except OSError:
                time.sleep(0.1)
        sys.exit(f"Orthanc does not start: {log}")


def same_names(wanted, orthanc, index):
    """Whether the same names fail with both storages. Names that do not are run again, among all and by themselves: what then fails as often
    with the other storage, or never again, was chance."""

    def all_tests():
        runs = {}
        for storage in STORAGES:
            runs[storage] = one = Run(wanted, orthanc, index, storage)
            stored = "" if one.stored is None else f", the plugin has stored {one.stored} files"
            print(f"index in {index}, {storage}: {one.count} run, {len(one.failed)} failed{stored}", flush=True)
        return runs

    first = all_tests()
    same = first["files"].count == first["rbytea"].count and bool(first["rbytea"].stored)
    names = sorted(first["files"].failed ^ first["rbytea"].failed)
    wholes = [first, all_tests()] if names else []
    for name in names:
        failed = {}
        for storage in STORAGES:
            runs = [whole[storage] for whole in wholes]
            runs += [Run(wanted, orthanc, index, storage, [f"Orthanc.{name}"]) for _ in range(BY_ITSELF)]
            failed[storage] = sum(name in one.failed for one in runs)
        differs = abs(failed["files"] - failed["rbytea"]) > 1
        same = same and not differs
        counts = ", ".join(f"{failed[storage]} with {storage}" for storage in STORAGES)
        print(f"  {name}: of {len(runs)} times failed {counts}: {'DIFFERS' if differs else 'chance'}", flush=True)
    return same


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(*sys.argv[2:])
    else:
        main()
