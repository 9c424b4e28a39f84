//! The specs of tests/isolation, run by PostgreSQL's isolationtester: sessions do their work while the vacuum stands at
//! one of its injection points (src/pg/injection.rs). The driver pg_isolation_regress is not needed, and not every installation has
//! one that works.
//!
//! With RBYTEA_ISOLATION_ACCEPT set, what the specs print becomes what is expected.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::cluster::Cluster;

/// Runs one spec in a cluster of its own.
#[track_caller]
fn passes(spec: &str) {
    let cluster = Cluster::running();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/isolation");
    cluster.psql(&["-f", "-"], fs::read(dir.join("setup.sql")).unwrap());
    let output = cluster
        .client_command(isolationtester(&cluster))
        .arg(format!(
            "dbname=postgres user=postgres port={} host={}",
            cluster.port(),
            cluster.dir().display()
        ))
        .stdin(fs::File::open(dir.join("specs").join(spec).with_extension("spec")).unwrap())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let expected = dir.join("expected").join(spec).with_extension("out");
    if std::env::var_os("RBYTEA_ISOLATION_ACCEPT").is_some() {
        fs::write(&expected, &printed).unwrap();
    }
    assert!(output.status.success(), "isolationtester: {}", output.status);
    let result = cluster.dir().join("result");
    fs::write(&result, &printed).unwrap();
    let diff = Command::new("diff").arg("-U8").args([&expected, &result]).output().unwrap();
    assert!(diff.status.success(), "{spec}:\n{}", String::from_utf8_lossy(&diff.stdout));
    assert!(!printed.contains("WARNING"), "the vacuum has had to bring back what it had moved");
}

/// Beside pg_regress.
fn isolationtester(cluster: &Cluster) -> PathBuf {
    let pgxs = Command::new(&cluster.installation().pg_config).arg("--pgxs").output().unwrap();
    let pgxs = PathBuf::from(String::from_utf8(pgxs.stdout).unwrap().trim());
    pgxs.ancestors().nth(2).unwrap().join("test/isolation/isolationtester")
}

#[test]
fn a_reference_that_moves_from_table_to_table_keeps_its_file() {
    passes("move");
}

#[test]
fn a_reference_whose_source_is_emptied_dropped_or_rewritten_keeps_its_file() {
    passes("rewrite");
}

#[test]
fn a_reference_that_goes_into_an_array_or_a_composite_value_and_back_keeps_its_file() {
    passes("container");
}

#[test]
fn a_reference_that_goes_to_a_new_table_column_or_attribute_keeps_its_file() {
    passes("new_place");
}

#[test]
fn a_reference_of_a_prepared_transaction_keeps_its_file() {
    passes("prepared");
}

#[test]
fn a_reference_that_only_an_old_snapshot_sees_can_be_copied_until_it_ends() {
    passes("old_snapshot");
}

#[test]
fn a_payload_that_is_written_while_the_vacuum_runs_is_not_judged() {
    passes("write");
}
