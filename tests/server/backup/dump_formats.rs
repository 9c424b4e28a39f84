//! pg_dump and pg_restore in every format: the payloads are in the dump, and in files again after the restore.

use std::process::Output;

use crate::backup::original::{assert_restored, empty, original};
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::Cluster;

/// What only the extension may create; a dump that had it would restore it twice, or fail as an ordinary user.
const INTERNAL: [&str; 5] =
    ["~rbytea", "rbytea_externalize", "rbytea_ddl_command_end", "rbytea_vacuum_history", "SCHEMA rbytea;"];

#[track_caller]
fn assert_no_trace(dump: &[u8]) {
    let text = String::from_utf8_lossy(dump).replace('"', "");
    for internal in INTERNAL {
        assert!(!text.contains(internal), "the dump has {internal}");
    }
    assert!(text.contains("CREATE EXTENSION IF NOT EXISTS rbytea") && text.contains("CREATE TRIGGER shout"));
}

#[track_caller]
fn assert_silent(output: Output) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
}

#[test]
fn plain_dumps_restore_through_psql() {
    let mut cases = 0;
    let cluster = Cluster::with_extension();
    let db = original(&cluster);
    let ways: [(&str, &[&str]); 4] = [
        ("plain", &[]),
        ("inserts", &["--inserts"]),
        ("several_rows", &["--column-inserts", "--rows-per-insert=7"]),
        ("no_owner", &["--no-owner", "--no-privileges", "--quote-all-identifiers"]),
    ];
    for (name, options) in ways {
        let dump = cluster.pg_dump(&[&["-d", "original"], options].concat());
        assert_no_trace(&dump);
        empty(&cluster, name);
        assert_silent(cluster.try_psql(&["-d", name, "-o", "/dev/null"], &dump));
        cases += assert_restored(&cluster, &db, name, None);
    }
    proves_by_assertions(Promise::Backups, cases);
}

#[test]
fn archives_restore_in_every_format() {
    let mut cases = 0;
    let cluster = Cluster::with_extension();
    let db = original(&cluster);
    let path = |name: &str| cluster.dir().join(name).to_str().unwrap().to_owned();
    let ways: [(&str, &[&str], &[&str]); 5] = [
        ("custom", &["-Fc"], &[]),
        ("tar", &["-Ft"], &[]),
        ("directory", &["-Fd", "-j4"], &["-j4"]),
        ("uncompressed", &["-Fc", "-Z0"], &["--single-transaction"]),
        ("custom_parallel", &["-Fc"], &["-j2"]),
    ];
    for (name, dump, restore) in ways {
        let archive = path(name);
        cluster.pg_dump(&[&["-d", "original", "-f", &archive], dump].concat());
        assert_no_trace(cluster.pg_restore(&["-f", "-", &archive], b"").as_bytes());
        empty(&cluster, name);
        assert_silent(cluster.run_tool("pg_restore", &[&["-d", name, &archive], restore].concat(), b""));
        cases += assert_restored(&cluster, &db, name, None);
    }

    // Into a database that has it all already; the replaced rows' files are garbage then.
    cluster.pg_restore(&["-d", "custom", "--clean", "--if-exists", &path("custom")], b"");
    cluster.session_in("custom").one::<i64>("select rvacuum()", &[]);
    cases += assert_restored(&cluster, &db, "custom", None);
    proves_by_assertions(Promise::Backups, cases);
}

#[test]
fn data_alone_restores_with_triggers_disabled() {
    let mut cases = 0;
    let cluster = Cluster::with_extension();
    let db = original(&cluster);
    let schema = cluster.pg_dump(&["-d", "original", "--schema-only"]);
    let archive = cluster.pg_dump(&["-d", "original", "-Fc"]);
    assert_no_trace(&schema);
    for name in ["from_archive", "from_text", "in_sections"] {
        empty(&cluster, name);
        match name {
            "from_archive" => {
                cluster.psql(&["-d", name, "-o", "/dev/null"], &schema);
                assert_silent(cluster.run_tool(
                    "pg_restore",
                    &["-d", name, "--data-only", "--disable-triggers"],
                    &archive,
                ));
            }
            "from_text" => {
                cluster.psql(&["-d", name, "-o", "/dev/null"], &schema);
                let data = cluster.pg_dump(&["-d", "original", "--data-only", "--disable-triggers"]);
                assert!(String::from_utf8_lossy(&data).contains("DISABLE TRIGGER ALL"));
                assert_silent(cluster.try_psql(&["-d", name, "-o", "/dev/null"], &data));
                cluster.session_in(name).run("refresh materialized view kept");
            }
            _ => {
                for section in ["pre-data", "data", "post-data"] {
                    assert_silent(cluster.run_tool(
                        "pg_restore",
                        &["-d", name, "--section", section],
                        &archive,
                    ));
                }
            }
        }
        if name == "from_archive" {
            cluster.session_in(name).run("refresh materialized view kept");
        }
        cases += assert_restored(&cluster, &db, name, None);
        cluster.session_in(name).run(
            "insert into plain (id, v) values (5000, 'later'); insert into child values (5000, 'later')",
        );
        assert_eq!(
            cluster.session_in(name).text("select uuid(p.v) is not null, uuid(c.v) is not null from plain p join child c using (id) where id = 5000"),
            "t|t",
            "{name}: after the restore payloads stay in their rows"
        );
    }
    proves_by_assertions(Promise::Backups, cases);
}

/// An ordinary user dumps and restores what is his; the extension itself is the administrator's.
#[test]
fn an_ordinary_user_dumps_and_restores_his_schema() {
    let mut cases = 0;
    let cluster = Cluster::with_extension();
    let db = original(&cluster);
    db.run("alter table alice.own drop constraint own_other_fkey");
    cluster.session().run("create database hers owner alice");
    cluster.session_in("hers").run("create extension rbytea");
    let alice = |tool: &str, args: &[&str], stdin: &[u8]| {
        cluster.run_tool(tool, &[&["-U", "alice"], args].concat(), stdin)
    };

    for format in ["-Fc", "-Ft"] {
        let dump = alice("pg_dump", &["-d", "original", "-n", "alice", format], b"");
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        assert_silent(alice("pg_restore", &["-d", "hers"], &dump.stdout));
        cases += assert_restored(&cluster, &db, "hers", Some("alice"));
        cluster.session_in("hers").run("drop schema alice cascade");
        cluster.session_in("hers").one::<i64>("select rvacuum()", &[]);
    }
    let dump = alice("pg_dump", &["-d", "original", "-n", "alice"], b"");
    assert_silent(alice(
        "psql",
        &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "hers", "-o", "/dev/null"],
        &dump.stdout,
    ));
    cases += assert_restored(&cluster, &db, "hers", Some("alice"));
    proves_by_assertions(Promise::Backups, cases);
}
