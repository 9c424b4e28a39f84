//! pg_dump and pg_restore by the owner of a database who is no superuser, into a database where a superuser has created the extension.

use std::collections::BTreeMap;

use crate::evidence::{Promise, proves};
use crate::support::cluster::Cluster;
use crate::support::judge::And;
use crate::support::judge::ledger::Ledger;
use crate::support::session::Session;

fn as_alice(cluster: &Cluster, tool: &str, args: &[&str], stdin: &[u8]) -> Vec<u8> {
    let output = cluster.run_tool(tool, &[&["-U", "alice"], args].concat(), stdin);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{tool} {args:?}: {said}");
    output.stdout
}

/// The rows of a table, domains as what they are over.
fn plain(table: &str) -> String {
    format!("(select n, r::rbytea as r from {table}) s")
}

#[test]
fn an_owner_dumps_and_restores_without_a_superuser() {
    let cluster = Cluster::running();
    let db = cluster.session();
    db.run("create role alice login; create role bob login");
    for database in ["here", "there", "data_only"] {
        db.run(&format!("create database {database} owner alice"));
        cluster.session_in(database).run("create extension rbytea; grant create on schema public to alice");
    }
    let session = |database: &str| Session::connect(&cluster.config("alice", database));
    let alice = session("here");
    alice.run(
        "create table t (n int primary key, r rbytea); create table parts (n int, r rbytea) partition by list (n);
         create table part1 partition of parts for values in (1, 2, 3); create domain document as rbytea check (len(value) < 1000000);
         create table docs (n int, r document, a rbytea[]); create materialized view seen as select * from t with no data;
         grant select on t to bob; alter table t enable row level security; create policy p on t to bob using (n < 3)",
    );
    let mut ledgers: BTreeMap<&str, Ledger> = BTreeMap::new();
    for table in ["t", "parts", "docs"] {
        let ledger = ledgers.entry(table).or_default();
        for n in 1..=3 {
            ledger.store(&alice, &format!("insert into {table} (n, r) values ($1, $2::bytea)"), n);
        }
    }
    alice.run("refresh materialized view seen; update docs set a = array[r]");

    let mut found = crate::evidence::Found::default();
    for (format, jobs) in [("-Fc", ""), ("-Fp", ""), ("-Fd", "-j2"), ("-Ft", "")] {
        alice.run("select 1");
        let there = session("there");
        there.run("drop materialized view if exists seen; drop table if exists t, parts, docs; drop domain if exists document");
        drop(there);
        let path = cluster.dir().join(format!("dump{format}"));
        // The extension, and its comment, are the superuser's.
        let mut args = vec!["-d", "here", format, "--no-comments", "-f", path.to_str().unwrap()];
        args.extend(Some(jobs).filter(|jobs| !jobs.is_empty()));
        as_alice(&cluster, "pg_dump", &args, b"");
        if format == "-Fp" {
            as_alice(
                &cluster,
                "psql",
                &["-d", "there", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", path.to_str().unwrap()],
                b"",
            );
        } else {
            as_alice(
                &cluster,
                "pg_restore",
                &["-d", "there", "--exit-on-error", path.to_str().unwrap()],
                b"",
            );
        }
        let there = session("there");
        for (table, ledger) in &ledgers {
            found = found.and(ledger.compare(&there, &plain(table)));
            assert_eq!(
                there.text(&format!("select bool_and(uuid(r) is not null) from {table}")),
                "t",
                "the payloads of {table} have stayed in their rows after {format}"
            );
        }
        found = found.and(ledgers["t"].compare(&there, "seen"));
        assert_eq!(there.text("select count(*) from docs where a[1] = r"), "3");
    }

    // The rows alone, into tables that are there.
    let data_only = session("data_only");
    let schema = as_alice(&cluster, "pg_dump", &["-d", "here", "--schema-only", "--no-comments"], b"");
    as_alice(&cluster, "psql", &["-d", "data_only", "-X", "-q", "-v", "ON_ERROR_STOP=1"], &schema);
    let dump = as_alice(&cluster, "pg_dump", &["-d", "here", "--data-only", "-Fc"], b"");
    as_alice(&cluster, "pg_restore", &["-d", "data_only", "--data-only", "--exit-on-error"], &dump);
    for (table, ledger) in &ledgers {
        found = found.and(ledger.compare(&data_only, &plain(table)));
    }
    let bob = Session::connect(&cluster.config("bob", "there"));
    assert_eq!(bob.text("select count(md5sum(r)) from t"), "2", "the policy came along");
    proves(Promise::Backups, found);
}
