# Builds, installs and tests rbytea against one PostgreSQL installation, the one that PG_CONFIG names.
# All major versions, and the store without one, build in one directory, so that what they share is compiled once; the
# library of each is kept in target/pgNN.

MAKEFLAGS += --no-print-directory
.NOTPARALLEL:
.DELETE_ON_ERROR:

PG_CONFIG ?= $(shell command -v pg_config || echo /usr/lib/postgresql/15/bin/pg_config)
CARGO ?= $(shell command -v cargo || echo $(HOME)/.cargo/bin/cargo)

# RUSTFLAGS in the environment (Debian's builds have some) take the place of what .cargo/config.toml has, the choice of the cipher's
# implementation: they get it as well.
cipher := --cfg=kuznyechik_backend="soft"
ifneq ($(origin RUSTFLAGS),undefined)
override RUSTFLAGS := $(filter-out $(cipher),$(RUSTFLAGS)) $(cipher)
export RUSTFLAGS
endif

# One spelling for one installation (Debian's /usr/bin/pg_config is a wrapper): another path would mean another build.
pg_config := $(or $(PG_CONFIG),pg_config)
pg_config := $(or $(wildcard $(shell $(pg_config) --bindir 2>/dev/null)/pg_config),$(pg_config))
pg_version := $(shell $(pg_config) --version 2>/dev/null)
pg_major := $(shell echo '$(pg_version)' | sed -n 's/^PostgreSQL \([0-9]*\).*/\1/p')
bindir := $(shell $(pg_config) --bindir 2>/dev/null)
includedir := $(shell $(pg_config) --includedir-server 2>/dev/null)
pkglibdir := $(shell $(pg_config) --pkglibdir 2>/dev/null)
extensiondir := $(shell $(pg_config) --sharedir 2>/dev/null)/extension
pg_regress := $(dir $(shell $(pg_config) --pgxs 2>/dev/null))../../src/test/regress/pg_regress

target := $(or $(CARGO_TARGET_DIR),target)
kept := $(target)/pg$(pg_major)
cargo := CARGO_TARGET_DIR=$(target) PGRX_PG_CONFIG_PATH=$(pg_config) PG_CONFIG=$(pg_config) $(CARGO)
features := --locked --no-default-features --features pg$(pg_major)

# The server tests are a client, the same for every major version: CLIENT names the installation whose build of it is
# used, so that a second major version costs no second one. Its features are those of core-test, which has built what it depends on.
CLIENT ?= $(pg_config)
client_major := $(shell $(CLIENT) --version 2>/dev/null | sed -n 's/^PostgreSQL \([0-9]*\).*/\1/p')
client := CARGO_TARGET_DIR=$(target) PGRX_PG_CONFIG_PATH=$(CLIENT) \
	PG_CONFIG=$(pg_config) $(CARGO) test --locked --no-default-features --features pg$(client_major),rbytea-store/interoperation \
	--test server

library := $(kept)/librbytea.so
alias := $(kept)/alias.so
stamp := $(kept)/pg_version
scripts := $(wildcard sql/rbytea--*.sql)
sources := Cargo.toml Cargo.lock crates/store/Cargo.toml .cargo/config.toml $(shell find src crates/store/src -name '*.rs')

# The tool knows no PostgreSQL either, and is the same for every major version.
tool := $(target)/release/rbytea
tool_sources := Cargo.toml Cargo.lock $(foreach crate,connect tool,crates/$(crate)/Cargo.toml $(shell find crates/$(crate)/src -name '*.rs'))

# Orthanc's storage plugin, and the program for its administrators.
plugin := $(target)/release/libOrthancRbyteaStorage.so
plugin_crates := connect tool orthanc-sdk orthanc-storage orthanc-plugin orthanc-tool
plugin_sources := Cargo.toml Cargo.lock $(foreach crate,$(plugin_crates),crates/$(crate)/Cargo.toml $(shell find crates/$(crate)/src -name '*.rs'))

# The fuzz targets have a workspace of their own; what is passed to the compiler is what cargo-fuzz passes, less what
# stable Rust does not know (the sanitizers).
fuzz_dir := $(abspath $(target))/fuzz
fuzz_host = $(shell $(CARGO) -vV | sed -n 's/^host: //p')
fuzz := crates/store/fuzz
fuzz_targets := $(sort $(basename $(notdir $(wildcard $(fuzz)/fuzz_targets/*.rs))))
fuzz_cargo = cd $(fuzz) && CARGO_TARGET_DIR=$(fuzz_dir) RUSTFLAGS='$(fuzz_flags)' $(CARGO)
fuzz_flags := $(cipher) --cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 \
	$(addprefix -Cllvm-args=-sanitizer-coverage-,level=4 inline-8bit-counters pc-table trace-compares)

# The one driver's program in Rust that is a workspace of its own, because of what it depends on.
sqlx := tests/drivers/sqlx

deny := $(CARGO) deny --locked --config $(abspath deny.toml)

# The store, the tool and their tests know no PostgreSQL: they build without pg_config.
store := CARGO_TARGET_DIR=$(target) $(CARGO)

store_tests := $(patsubst crates/store/tests/%/main.rs,%,$(wildcard crates/store/tests/*/main.rs))

# The extension's own tests that need no server: every test binary but `server`.
logic_tests := $(filter-out server,$(patsubst tests/%/main.rs,%,$(wildcard tests/*/main.rs)) $(patsubst tests/%.rs,%,$(wildcard tests/*.rs)))
regress_tests := $(basename $(notdir $(sort $(wildcard tests/regress/sql/*.sql))))

.PHONY: all
all: $(library) $(alias) $(tool)

.PHONY: help
help:
	@echo 'make                build the extension for the PostgreSQL of PG_CONFIG=$(PG_CONFIG), and the tool rbytea'
	@echo 'make install        install it (DESTDIR is honoured); make uninstall removes it'
	@echo 'make deb            packages for Debian, in $(deb_dir);  make deb-test: installs, upgrades and purges them in a chroot'
	@echo 'make dist           the archive for PGXN'
	@echo 'make plugin         the storage plugin for Orthanc, $(plugin), and orthanc-rbytea beside it'
	@echo 'make installcheck   run the regression tests against a running server (PGHOST, PGPORT, PGUSER)'
	@echo 'make test           install what is missing, then run every check and test'
	@echo 'make demo           install what is missing, then show the main job on real files (FILES="…")'
	@echo 'make core-test      the tests that need no server;  make store-test: those that need no PostgreSQL either'
	@echo 'make server-test    the tests that start a server (TESTS=filter)'
	@echo 'make upgrade-test   pg_upgrade from one installation to another (OLD=pg_config NEW=pg_config)'
	@echo 'make driver-test    drivers of eight languages that do not know the type, beside bytea (installs them)'
	@echo 'make orthanc-test   the storage plugin in the Orthanc of Debian (installs it)'
	@echo 'make orthanc-suite  the integration tests of Orthanc with files and with the plugin (CHECKOUT=orthanc-tests)'
	@echo 'make evidence       docs/EVIDENCE.md: what the tests have shown of each guarantee, out of a run of all of them'
	@echo 'make fuzz           50000 inputs for each fuzz target (FUZZ_RUNS=…, FUZZ="targets")'
	@echo 'make soak           the vacuum against many sessions for ten minutes (SOAK_SECONDS=…), 500 crashes (SOAK_CRASHES=…), 10^6 new inputs'
	@echo 'make bench          rbytea beside bytea, large objects and files, with charts;  make bench-store: the store without a server'
	@echo 'make bench-vacuum   the vacuum beside vacuumlo, on 10,000 to 1,000,000 payloads'
	@echo 'make bench-wire     what it costs that clients see bytea'
	@echo 'make bench-replay   how fast a standby replays payloads, beside bytea'
	@echo 'make bench-streams  payloads of any size beside large objects and bytea, their memory, dumps by reference, migration'
	@echo 'make bench-orthanc  the storage plugin beside files and the official large objects'
	@echo 'make bench-encryption  encrypted payloads beside plain ones, through the store alone'
	@echo 'make audit          licences, sources and known vulnerabilities of all dependencies (takes cargo-deny)'
	@echo 'make fmt lint clean'

# Where PG_CONFIG names nothing, say so once and clearly.
.PHONY: installation
installation:
	@test -n '$(pg_major)' || { echo "no PostgreSQL at PG_CONFIG=$(PG_CONFIG); scripts/install-deps.sh installs one" >&2; exit 1; }

# --- build -------------------------------------------------------------------------------------

# pgrx-pg-sys does not notice that the headers at the same path became those of another minor version.
$(stamp): FORCE | installation
	@mkdir -p $(kept)
	@if [ "$$(cat $@ 2>/dev/null)" != '$(pg_version)' ]; then \
		if [ -e $@ ]; then \
			$(cargo) clean --quiet --package pgrx-pg-sys; $(cargo) clean --quiet --release --package pgrx-pg-sys; \
		fi; \
		echo '$(pg_version)' > $@; \
	fi

.PHONY: FORCE
FORCE:

# The library is older than its sources or cargo is not asked: `sudo make install` needs no cargo of root's.
$(library): $(sources) $(stamp)
	@$(CARGO) --version >/dev/null || { echo "no Rust at CARGO=$(CARGO): make deps installs it" >&2; exit 1; }
	$(cargo) build --release --lib $(features)
	@cp $(target)/release/librbytea.so $@

$(alias): src/alias.c $(stamp)
	$(CC) $(CPPFLAGS) $(CFLAGS) -Wall -fPIC -shared -I'$(includedir)' $(LDFLAGS) -o $@ $<

$(tool): $(tool_sources)
	@$(CARGO) --version >/dev/null || { echo "no Rust at CARGO=$(CARGO): make deps installs it" >&2; exit 1; }
	$(store) build --release --locked --package rbytea-tool
	@touch $@

$(plugin): $(plugin_sources)
	@$(CARGO) --version >/dev/null || { echo "no Rust at CARGO=$(CARGO): make deps installs it" >&2; exit 1; }
	$(store) build --release --locked --package rbytea-orthanc-plugin --package rbytea-orthanc-tool
	@touch $@

.PHONY: plugin
plugin: $(plugin)

# --- install -----------------------------------------------------------------------------------

# What is installed beside PostgreSQL's programs. Debian has them in a package of its own (debian/rbytea-tools.install).
PROGRAMS := $(tool) bin/rbytea_check

# The libraries are renamed into place: a running server has the old ones mapped.
define copy_into_place
	@for dir in $(if $(PROGRAMS),'$(DESTDIR)$(bindir)') '$(DESTDIR)$(pkglibdir)' '$(DESTDIR)$(extensiondir)'; do \
		mkdir -p "$$dir" 2>/dev/null && test -w "$$dir" || \
		{ echo "no right to write to $$dir: run  sudo make install PG_CONFIG=$(pg_config)" >&2; exit 1; }; \
	done
	install -m 0755 $(library) '$(DESTDIR)$(pkglibdir)/.rbytea.so.new'
	mv -f '$(DESTDIR)$(pkglibdir)/.rbytea.so.new' '$(DESTDIR)$(pkglibdir)/rbytea.so'
	install -m 0755 $(alias) '$(DESTDIR)$(pkglibdir)/.librbytea.so.new'
	mv -f '$(DESTDIR)$(pkglibdir)/.librbytea.so.new' '$(DESTDIR)$(pkglibdir)/librbytea.so'
	install -m 0644 rbytea.control $(scripts) '$(DESTDIR)$(extensiondir)/'
	$(if $(filter $(tool),$(PROGRAMS)),install -s -m 0755 $(tool) '$(DESTDIR)$(bindir)/')
	$(if $(filter-out $(tool),$(PROGRAMS)),install -m 0755 $(filter-out $(tool),$(PROGRAMS)) '$(DESTDIR)$(bindir)/')
endef

.PHONY: install
install: $(library) $(alias) $(filter $(tool),$(PROGRAMS))
	$(copy_into_place)

# What was built for one minor version goes into an installation of another one: they have the same ABI.
.PHONY: install-built
install-built: installation
	@test '$(library)' -nt '$(firstword $(shell ls -t $(sources)))' && test '$(alias)' -nt src/alias.c || \
		{ echo "$(library) is missing or older than its sources: make it first" >&2; exit 1; }
	@test '$(tool)' -nt '$(firstword $(shell ls -t $(tool_sources)))' || \
		{ echo "$(tool) is missing or older than its sources: make it first" >&2; exit 1; }
	$(copy_into_place)

.PHONY: uninstall
uninstall: installation
	rm -f $(patsubst %,'$(DESTDIR)$(bindir)/%',$(notdir $(PROGRAMS))) '$(DESTDIR)$(pkglibdir)/rbytea.so' '$(DESTDIR)$(pkglibdir)/librbytea.so' \
		'$(DESTDIR)$(extensiondir)/rbytea.control' '$(DESTDIR)$(extensiondir)'/rbytea--*.sql

# Builds as the user and installs as root where that takes root.
.PHONY: install-for-tests
install-for-tests: $(library) $(alias) $(tool) $(plugin)
	@if [ -w '$(bindir)' ] && [ -w '$(pkglibdir)' ] && [ -w '$(extensiondir)' ]; then $(MAKE) install PG_CONFIG=$(pg_config); \
	else sudo $(MAKE) install PG_CONFIG=$(pg_config); fi

# --- packages ----------------------------------------------------------------------------------

version := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" rbytea.control)

# The archive that PGXN takes, of the last commit.
.PHONY: dist
dist:
	@mkdir -p $(target)
	git archive --format=zip --prefix=rbytea-$(version)/ --output=$(target)/rbytea-$(version).zip HEAD
	@echo $(target)/rbytea-$(version).zip

# Debian's source package and packages of the last commit, for the majors of PostgreSQL that this machine has.
deb_dir := $(target)/deb
.PHONY: deb
deb:
	scripts/make-deb.sh $(deb_dir)

# The packages in a Debian of their own: quick start, upgrade, purge; and lintian. As root.
.PHONY: deb-test
deb-test:
	scripts/test-packages.sh $(deb_dir)

# --- test --------------------------------------------------------------------------------------

.PHONY: deps
deps:
	@PG_CONFIG='$(PG_CONFIG)' scripts/install-deps.sh

# A second make, because the first one may have been read before there was a PostgreSQL.
.PHONY: test
test: deps
	@$(MAKE) check PG_CONFIG='$(PG_CONFIG)'

.PHONY: check
check: fmt-check lint core-test fuzz server-test

.PHONY: core-test
core-test: $(stamp)
	$(cargo) test $(features),rbytea-store/interoperation --workspace $(addprefix --test ,$(store_tests) $(logic_tests)) -- $(TESTS)
	$(store) test --locked $(addprefix --package rbytea-,connect tool orthanc-storage orthanc-tool) -- $(TESTS)

# The same of the store alone, which takes no PostgreSQL.
.PHONY: store-test
store-test:
	$(store) test --locked --package rbytea-store --features interoperation -- $(TESTS)

# The committed inputs of each target, then new ones. What is new to the target stays in $(fuzz_dir)/corpus, an
# input that it fails on in $(fuzz_dir)/<target>-crash-….
.PHONY: fuzz
fuzz:
	$(fuzz_cargo) build --locked --release --bins --target $(fuzz_host)
	@for target in $(or $(FUZZ),$(fuzz_targets)); do \
		mkdir -p $(fuzz_dir)/corpus/$$target && log=$(fuzz_dir)/$$target.log && \
		$(fuzz_dir)/$(fuzz_host)/release/$$target -runs=$(or $(FUZZ_RUNS),50000) -max_len=300 -print_final_stats=1 \
			-artifact_prefix=$(fuzz_dir)/$$target- $(fuzz_dir)/corpus/$$target $(fuzz)/corpus/$$target >$$log 2>&1 || \
			{ cat $$log; exit 1; }; \
		inputs=$$(sed -n 's/^stat::number_of_executed_units: *//p' $$log) && echo "fuzz $$target: $$inputs inputs" && \
		if [ -n "$$RBYTEA_EVIDENCE" ]; then \
			printf '{"promise":"BadInput","binary":"fuzz","test":"%s","cases":%s,"lost":0,"dangling":0,"leaked":0}\n' \
				$$target $$inputs >"$$RBYTEA_EVIDENCE/fuzz-$$target-BadInput.json"; \
		fi || exit 1; \
	done

# Against the optimised build, the one that users get. More threads than processors, because many tests wait for the background vacuum.
.PHONY: server-test
server-test: install-for-tests
	RUST_TEST_THREADS=$(or $(RUST_TEST_THREADS),10) $(client) -- $(TESTS)

# The vacuum against many sessions for SOAK_SECONDS, SOAK_CRASHES times SIGKILL under load, and as often the power's failure, on a primary and on
# its standby, 20 promotions, a million new inputs, and what Orthanc is patient with for a minute and more.
.PHONY: soak
soak: install-for-tests
	RBYTEA_SOAK_SECONDS=$(or $(SOAK_SECONDS),600) RBYTEA_CRASHES=$(or $(SOAK_CRASHES),500) RBYTEA_PROMOTIONS=20 \
		RBYTEA_FAULTS=each RBYTEA_GENERATED_INPUTS=1000000 \
		RBYTEA_GENERATED_SEED=$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ') $(client) -- soak:: crashes:: generated:: wal::killed_calls:: \
		wal::lost_caches:: wal::standbys::
	@$(MAKE) orthanc-test TESTS='orthanc::network orthanc::patience' PG_CONFIG=$(pg_config)

# docs/EVIDENCE.md: promise, test, cases, and what was lost, dangling or leaked, out of a run of everything that CI runs. The environment
# makes it longer: RBYTEA_CRASHES=500 times SIGKILL, RBYTEA_SOAK_SECONDS=600 of load, FUZZ_RUNS=10000000 inputs for each fuzz target.
evidence := $(abspath $(target))/evidence
.PHONY: evidence
evidence:
	@rm -rf $(evidence) && mkdir -p $(evidence)
	RBYTEA_EVIDENCE=$(evidence) .ci/run >$(evidence)/ci.log 2>&1 || { tail -n 50 $(evidence)/ci.log; exit 1; }
	@$(MAKE) evidence-table PG_CONFIG=$(pg_config) WITH='$(pg_version), and in part 17 and 18'

# The table out of the reports that are there: RBYTEA_EVIDENCE names the directory to any target that tests, which appends its output there
# as a file that ends with .log.
.PHONY: evidence-table
evidence-table:
	@$(cargo) run --quiet $(features) --example evidence -- $(evidence) '$(or $(WITH),$(pg_version))' >$(evidence)/EVIDENCE.md
	@mv $(evidence)/EVIDENCE.md docs/EVIDENCE.md && echo docs/EVIDENCE.md

# pg_upgrade of clusters from the installation of pg_config OLD to that of NEW; both have the extension (`make install`, or
# `make install-built` for a minor version that nothing was built with).
.PHONY: upgrade-test
upgrade-test:
	@test -n '$(OLD)' && test -n '$(NEW)' || { echo "make upgrade-test OLD=<pg_config> NEW=<pg_config>" >&2; exit 2; }
	RBYTEA_UPGRADE_FROM='$(OLD)' RUST_TEST_THREADS=$(or $(RUST_TEST_THREADS),4) \
		$(subst PG_CONFIG=$(pg_config),PG_CONFIG=$(NEW),$(client)) -- --ignored upgrade::

# Drivers that do not know the type, each beside bytea. What they take is installed: Debian's packages by apt-get, the rest below $(drivers).
drivers := $(abspath $(target))/drivers
.PHONY: driver-test
driver-test: install-for-tests
	scripts/install-drivers.sh $(drivers)
	RBYTEA_DRIVERS=$(drivers) RUST_TEST_THREADS=$(or $(RUST_TEST_THREADS),4) $(client) -- --ignored $(or $(TESTS),drivers::)

# The plugin in Debian's Orthanc, and its interface beside Orthanc's header. The packages are installed; their service is not started.
# ORTHANC_ROOT names another Debian whose Orthanc is taken, which scripts/make-orthanc-root.sh has made; as root.
.PHONY: orthanc-test
orthanc-test: install-for-tests
	scripts/install-orthanc.sh
	$(store) test --locked --package rbytea-orthanc-sdk -- --include-ignored
	RUST_TEST_THREADS=$(or $(RUST_TEST_THREADS),4) $(client) -- --ignored $(or $(TESTS),orthanc::)

# Orthanc's integration tests, of which CHECKOUT is a checkout: with the plugin the same names fail as with the file system. As root, some
# minutes; PYTHON has the modules that scripts/orthanc-tests.py names, and ORTHANC_ROOT is as above.
PYTHON ?= python3
.PHONY: orthanc-suite
orthanc-suite: install-for-tests
	@test -n '$(CHECKOUT)' || { echo "make orthanc-suite CHECKOUT=<of orthanc-tests> [ORTHANC_ROOT=<root>]" >&2; exit 2; }
	PG_CONFIG=$(pg_config) CARGO_TARGET_DIR=$(target) $(PYTHON) scripts/orthanc-tests.py '$(CHECKOUT)' $(ORTHANC_ROOT)

# The database contrib_regression of the server that PGHOST, PGPORT and PGUSER name is created anew.
.PHONY: installcheck
installcheck: installation
	$(pg_regress) --inputdir=tests/regress --outputdir=$(or $(REGRESS_OUTPUT),.) \
		--bindir=$(shell $(pg_config) --bindir) --dbname=contrib_regression $(REGRESS_OPTS) $(or $(REGRESS),$(regress_tests))

.PHONY: fmt
fmt:
	$(CARGO) fmt --all
	$(CARGO) fmt --manifest-path $(fuzz)/Cargo.toml
	$(CARGO) fmt --manifest-path $(sqlx)/Cargo.toml

.PHONY: fmt-check
fmt-check:
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path $(fuzz)/Cargo.toml --check
	$(CARGO) fmt --manifest-path $(sqlx)/Cargo.toml --check

# Clippy with warnings denied; shellcheck and cargo-deny where they are installed. Clippy links nothing, so that libFuzzer need not be
# compiled for it.
.PHONY: lint
lint: $(stamp)
	$(cargo) clippy $(features),rbytea-store/interoperation --workspace --all-targets -- -D warnings
	CUSTOM_LIBFUZZER_PATH=/nonexistent $(store) clippy --locked --manifest-path $(fuzz)/Cargo.toml --bins -- -D warnings
	@if command -v shellcheck >/dev/null; then shellcheck bin/* scripts/*.sh .ci/run; fi
	@if command -v cargo-deny >/dev/null; then $(deny) --offline check --hide-inclusion-graph bans licenses sources && \
		$(deny) --manifest-path $(fuzz)/Cargo.toml --offline check --hide-inclusion-graph bans licenses sources; fi

# Licences, sources and duplicates of what is linked, and the advisories of RustSec, whose database is fetched from GitHub.
# Without a network, and with a database that was fetched before: make audit DENY_FLAGS=--offline
.PHONY: audit
audit:
	@command -v cargo-deny >/dev/null || { echo "this takes cargo-deny: cargo install --locked cargo-deny" >&2; exit 1; }
	$(deny) $(DENY_FLAGS) check
	$(deny) --manifest-path $(fuzz)/Cargo.toml $(DENY_FLAGS) check

# --- demo, bench -------------------------------------------------------------------------------

.PHONY: demo
demo: deps
	@$(MAKE) run-demo PG_CONFIG='$(PG_CONFIG)'

.PHONY: run-demo
run-demo: install-for-tests
	$(cargo) run --release $(features) --example demo -- $(FILES)

# rbytea beside bytea, large objects and files: docs/BENCHMARK.md, docs/benchmark.json and charts. Half an hour, on a disk;
# ARGUMENTS="sizes=4K,1M rows=1 clients=1 rounds=3 to=DIRECTORY" for a part (benches/comparison/main.rs has them all).
.PHONY: bench
bench: deps
	@$(MAKE) run-bench BENCH=comparison PG_CONFIG='$(PG_CONFIG)'

.PHONY: run-bench
run-bench: install-for-tests
	$(cargo) bench --quiet $(features) --bench $(BENCH) -- $(ARGUMENTS)

# The store without a server, function by function.
.PHONY: bench-store
bench-store:
	$(store) bench --locked --package rbytea-store --bench store

# rvacuum() and the background worker beside vacuumlo: docs/BENCHMARK-VACUUM.md and more. ARGUMENTS="payloads=10000 size=1024 rounds=1". On
# disk, a quarter of an hour.
.PHONY: bench-vacuum
bench-vacuum: deps
	@$(MAKE) run-bench BENCH=vacuum PG_CONFIG='$(PG_CONFIG)'

# What it costs that clients see bytea: reads, and a SELECT 1. Ten minutes, on a disk; ARGUMENTS="rounds=5 sizes=4096".
.PHONY: bench-wire
bench-wire: deps
	@$(MAKE) run-bench BENCH=wire PG_CONFIG='$(PG_CONFIG)'

# How fast a standby replays payloads beside bytea. Some minutes, on a disk; ARGUMENTS="rounds=5 sizes=4096,1048576".
.PHONY: bench-replay
bench-replay: deps
	@$(MAKE) run-bench BENCH=replay PG_CONFIG='$(PG_CONFIG)'

# Payloads of any size, in and out, their memory, dumps by reference, migration of large objects. Half an hour, on a disk with 40 GB of room;
# ARGUMENTS="parts=transfer rounds=3 size=1073741824" for a part (benches/streams/main.rs has them all).
.PHONY: bench-streams
bench-streams: deps
	@$(MAKE) run-bench BENCH=streams PG_CONFIG='$(PG_CONFIG)'

# Orthanc on files, on the official large objects, and on rbytea.
.PHONY: bench-orthanc
bench-orthanc: deps $(plugin)
	scripts/install-orthanc.sh
	@$(MAKE) run-bench BENCH=orthanc PG_CONFIG='$(PG_CONFIG)'

# What encryption costs the store: writes and reads of 4 KiB to 16 MiB. On the disk of the working directory.
.PHONY: bench-encryption
bench-encryption:
	$(store) run --quiet --release --locked --package rbytea-store --example encryption

.PHONY: clean
clean:
	$(CARGO) clean
	rm -rf regression.diffs regression.out results
