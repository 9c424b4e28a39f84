//! `rbytea check` and `rbytea status`: exit codes, and names that scripts rely on.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::support::tool::{run, tool};

use super::files::cluster_with_files;

#[test]
fn check_tells_by_its_exit_status_what_it_has_found() {
    let mut cluster = cluster_with_files();
    let db = cluster.session();
    db.run("insert into files (name, content) values ('a', 'bytes')");
    assert_eq!(run(&mut tool(&cluster, ["check"])).ends_with(0).text(), "");
    let file = &cluster.live()[0];
    fs::write(file, "bytex").unwrap();
    run(&mut tool(&cluster, ["check"])).ends_with(0);
    let found = run(&mut tool(&cluster, ["check", "--digest"])).ends_with(2);
    assert!(
        found.text().starts_with("postgres\tpublic.files\t(0,1)\t")
            && found.text().contains("\twrong digest\t")
    );
    run(&mut tool(&cluster, ["check", "--nonsense"])).ends_with(1);
    run(&mut tool(&cluster, ["check", "-p", "1"])).ends_with(1);
    cluster.kill9();
    run(&mut tool(&cluster, ["check"])).ends_with(1);
}

fn names(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn status_has_the_documented_names() {
    let cluster = cluster_with_files();
    let db = cluster.session();
    db.run("insert into files (name, content) values ('a', 'bytes'), ('b', 'more'); delete from files where name = 'a'");
    db.run("select rvacuum()");
    let shown = run(&mut tool(&cluster, ["status", "--json", "--large"])).ends_with(0);
    let status: Value = serde_json::from_slice(&shown.output).unwrap();
    let documented = [
        "database",
        "server_version",
        "extension_version",
        "in_recovery",
        "store",
        "keepers",
        "settings",
        "progress",
        "runs",
        "large",
    ];
    assert_eq!(names(&status), BTreeSet::from(documented));
    assert_eq!(names(&status["progress"]), BTreeSet::from(["vacuum", "reencrypt", "store"]));
    let columns: Vec<String> = db.column(
        "select attname::text from pg_attribute where attrelid = 'rbytea.rbytea_stat'::regclass and attnum > 0",
        &[],
    );
    assert!(columns.iter().all(|column| names(&status["store"]).contains(column.as_str())));
    assert_eq!((&status["store"]["live_files"], &status["store"]["trash_files"]), (&1.into(), &1.into()));
    assert_eq!((&status["store"]["live_bytes"], &status["runs"][0]["trashed"]), (&4.into(), &1.into()));
    assert_eq!(status["settings"]["rbytea.trash_retention"], "7d");
    let text = run(&mut tool(&cluster, ["status"])).ends_with(0);
    assert!(text.text().contains("1 file, 4 bytes"), "{}", text.text());
}

#[test]
fn status_takes_no_more_than_the_right_to_monitor() {
    let cluster = cluster_with_files();
    cluster.session().run("create role monitor login; grant pg_monitor to monitor; create role lena login");
    let shown = run(&mut tool(&cluster, ["status", "--json", "-U", "monitor"])).ends_with(0);
    serde_json::from_slice::<Value>(&shown.output).unwrap();
    let refused = run(&mut tool(&cluster, ["status", "-U", "lena"])).ends_with(1);
    assert!(refused.said.contains("permission denied"), "{}", refused.said);
}

#[test]
fn every_command_has_help_with_an_example() {
    let cluster = cluster_with_files();
    for command in ["put", "get", "import-lo", "check", "status", "dump", "restore"] {
        let help = run(&mut tool(&cluster, [command, "--help"])).ends_with(0);
        assert!(help.text().starts_with(&format!("Usage: rbytea {command}")), "{}", help.text());
        assert!(help.text().contains("Example") && help.text().contains("Exit status:"), "{}", help.text());
    }
}
