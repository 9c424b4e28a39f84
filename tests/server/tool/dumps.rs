//! `rbytea dump` and `restore`: a dump of references, with the payload files beside it, makes a database with every payload.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::support::cluster::Cluster;
use crate::support::session::Session;
use crate::support::tool::{run, tool};
use crate::support::twin_tables::{Twins, cluster_with_table};

/// A directory that the server's user may enter, as the tool leaves it.
fn dumped(cluster: &Cluster, options: &[&str], dump: &Path) -> std::path::PathBuf {
    let payloads = cluster.dir().join("payload files");
    let mut command = tool(cluster, ["dump", "--payloads"]);
    run(command.arg(&payloads).args(options).arg("-f").arg(dump)).ends_with(0);
    payloads
}

fn assert_restored(other: &Cluster, dump: &Path, payloads: &Path, options: &[&str]) -> Session {
    let mut command = tool(other, ["restore", "--payloads"]);
    run(command.arg(payloads).args(options).arg(dump)).ends_with(0);
    assert_eq!(run(&mut tool(other, ["check", "--digest"])).ends_with(0).text(), "");
    let db = other.session();
    db.assert_stored("t", 20);
    db
}

#[test]
fn a_dump_by_reference_comes_back_in_another_cluster() {
    for (options, format) in
        [(&["--", "-Fc"][..], "custom"), (&["--", "-Fp"], "plain"), (&["--copy", "--", "-Ft"], "tar")]
    {
        let cluster = cluster_with_table();
        let db = cluster.session();
        db.fill("t", 1..=20);
        let dump = cluster.dir().join("dump");
        let payloads = dumped(&cluster, options, &dump);
        assert_eq!(run(&mut tool(&cluster, ["check", "--digest"])).ends_with(0).text(), "");
        let links = fs::metadata(&cluster.live()[0]).unwrap().nlink();
        assert_eq!(links, if options[0] == "--copy" { 1 } else { 2 }, "{format}");
        let text = String::from_utf8_lossy(&fs::read(&dump).unwrap()).into_owned();
        assert!(format == "custom" || text.contains("rbytea"), "{format}");
        // What happens to the first cluster afterwards is of no account.
        db.run("delete from t");
        db.run("select rvacuum_purge()");
        let other = Cluster::running();
        assert_restored(&other, &dump, &payloads, if format == "tar" { &["--verify"] } else { &[] });
    }
}

#[test]
fn a_second_dump_adds_to_the_directory() {
    let cluster = cluster_with_table();
    cluster.session().fill("t", 1..=10);
    let dump = cluster.dir().join("dump");
    dumped(&cluster, &["--", "-Fc"], &dump);
    cluster.session().fill("t", 11..=20);
    let payloads = dumped(&cluster, &["--", "-Fc"], &dump);
    assert_restored(&Cluster::running(), &dump, &payloads, &[]);
}

#[test]
fn a_table_that_was_dropped_comes_back_without_a_copy() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.fill("t", 1..=20);
    let dump = cluster.dir().join("dump");
    run(tool(&cluster, ["dump", "--", "-t", "t", "-Fc", "-f"]).arg(&dump)).ends_with(0);
    db.run("drop table t");
    db.run("select rvacuum()");
    run(tool(&cluster, ["restore", "--verify"]).arg(&dump)).ends_with(0);
    db.assert_stored("t", 20);
}

#[test]
fn a_dump_that_fails_says_so() {
    let cluster = cluster_with_table();
    let failed = run(&mut tool(&cluster, ["dump", "--", "--nonsense"])).ends_with(1);
    assert!(failed.said.contains("pg_dump has failed"), "{}", failed.said);
    let refused =
        run(&mut tool(&cluster, ["restore", "--payloads", "/nonexistent", "/nonexistent"])).ends_with(1);
    assert!(refused.said.contains("/nonexistent"), "{}", refused.said);
}
