//! The program rbytea_check: every database of a cluster, whatever its name; its exit status says what it found.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};

use crate::check::healthy::other_database;
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::Cluster;
use crate::support::session::Session;
use crate::support::twin_tables::cluster_with_table;

/// Names that a connection string, psql, a shell or SQL would take for something else.
const ODD: &[&str] = &[
    "dbname=postgres",
    "Odd \"name\"",
    "o'dd",
    "$(exit 3)",
    "-d",
    "postgresql://",
    "ж é",
    "back\\slash",
    " ",
];

fn command(cluster: &Cluster, arguments: &[&str]) -> Command {
    let mut command = cluster.client_command(cluster.tool("rbytea_check"));
    command.args(arguments);
    command
}

/// Its exit status, and what it says on standard output and on standard error.
fn run(mut command: Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Loses the file of a row of `t`; the line that tells of it.
fn lose(cluster: &Cluster, database: &str, db: &Session) -> String {
    let uuid: String = db.one("select uuid(r)::text from t where n = 1", &[]);
    let file = cluster.live().into_iter().find(|file| file.to_str().unwrap().ends_with(&uuid)).unwrap();
    fs::remove_file(&file).unwrap();
    let path = file.strip_prefix(cluster.store()).unwrap().display().to_string();
    let ctid: String = db.one("select ctid::text from t where n = 1", &[]);
    format!("{database}\tpublic.t\t{ctid}\t{uuid}\tmissing\t{path}")
}

#[test]
fn every_database_is_checked_whatever_its_name() {
    let cluster = cluster_with_table();
    cluster.session().run("insert into t values (1, null, 'a payload')");
    cluster.session().run("create database without");
    let others: Vec<_> = ODD.iter().map(|name| other_database(&cluster, name)).collect();
    assert_eq!(run(command(&cluster, &[])), (0, String::new(), String::new()));
    assert_eq!(run(command(&cluster, &["--digest"])), (0, String::new(), String::new()));

    let mut expected = BTreeSet::from([lose(&cluster, "postgres", &cluster.session())]);
    expected.extend(ODD.iter().zip(&others).map(|(name, db)| lose(&cluster, name, db)));
    let (status, found, errors) = run(command(&cluster, &[]));
    assert_eq!((status, errors.as_str()), (2, ""));
    assert_eq!(found.lines().map(str::to_owned).collect::<BTreeSet<_>>(), expected);
    assert_eq!(found.lines().count(), expected.len(), "{found}");
    proves_by_assertions(Promise::DamageIsNoticed, expected.len() as u64);

    // A flipped bit takes reading.
    let uuid: String = others[0].one("select uuid(r)::text from t where n = 2", &[]);
    let file = cluster.live().into_iter().find(|file| file.to_str().unwrap().ends_with(&uuid)).unwrap();
    fs::write(&file, "3".repeat(50)).unwrap();
    assert_eq!(run(command(&cluster, &[])).1, found);
    let (status, read, _) = run(command(&cluster, &["--digest"]));
    assert_eq!((status, read.lines().count()), (2, expected.len() + 1));
    assert!(read.contains(&uuid) && read.contains("\twrong digest\t"), "{read}");
}

#[test]
fn what_could_not_be_found_out_weighs_more_than_what_was_found() {
    let mut cluster = cluster_with_table();
    cluster.session().run("insert into t values (1, null, 'a payload'); create role lena login");
    let other = other_database(&cluster, "other");
    let lost = lose(&cluster, "other", &other);
    // One database fails, the others are checked all the same.
    cluster.session().run(
        "alter extension rbytea drop function rbytea_check(regclass, boolean); drop function rbytea_check(regclass, boolean)",
    );
    let (status, found, errors) = run(command(&cluster, &[]));
    assert_eq!((status, found.trim_end()), (1, lost.as_str()));
    assert!(errors.contains("rbytea_check"), "{errors}");
    let (status, found, errors) = run(command(&cluster, &["-U", "lena"]));
    assert_eq!((status, found.as_str()), (1, ""));
    assert!(errors.contains("permission denied"), "{errors}");
    assert_eq!(run(command(&cluster, &["--port", "1"])).0, 1);
    cluster.kill9();
    assert_eq!(run(command(&cluster, &[])).0, 1);
    let (status, help, _) = run(command(&cluster, &["--help"]));
    assert!(status == 0 && help.starts_with("Usage: rbytea_check"), "{help}");
}

/// Also one that a service file, a .psqlrc or the search path of a role would change.
#[test]
fn nothing_in_the_environment_leads_the_program_astray() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    let other = other_database(&cluster, "other");
    let lost = lose(&cluster, "other", &other);
    db.run(
        "create schema bait; create function bait.rbytea_check(digest text) returns setof int language sql as 'select 1 / 0';
         alter role postgres set search_path = bait, public; alter role postgres set default_transaction_read_only = on",
    );
    fs::write(cluster.dir().join("psqlrc"), "\\echo noise\n").unwrap();
    fs::write(cluster.dir().join("services"), "[somewhere]\ndbname=postgres\n").unwrap();
    let mut command = command(&cluster, &[]);
    command
        .env("PSQLRC", cluster.dir().join("psqlrc"))
        .env("PGSERVICEFILE", cluster.dir().join("services"))
        .env("PGSERVICE", "somewhere")
        .env("PGOPTIONS", "-c intervalstyle=sql_standard");
    let (status, found, errors) = run(command);
    assert_eq!((status, found.trim_end(), errors.as_str()), (2, lost.as_str(), ""));
}

/// What is wrong with the store as a whole is said once.
#[test]
fn flaws_of_the_root_are_reported_once() {
    let cluster = cluster_with_table();
    cluster.session().run("insert into t values (1, null, 'a payload')");
    let _others = ["one", "two"].map(|name| other_database(&cluster, name));
    fs::write(cluster.store().join("notes"), "").unwrap();
    let (status, found, _) = run(command(&cluster, &[]));
    assert_eq!(status, 2);
    assert_eq!(found.matches("foreign name").count(), 1, "{found}");
}
