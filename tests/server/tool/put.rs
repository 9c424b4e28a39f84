//! `rbytea put`, and `get` of what it has put: every byte comes back, and what is there is left out if that is wanted.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::cluster::{PATIENCE, wait_until};
use crate::support::tool::{backend, run, run_with_input, start, tool};
use crate::support::twins::noise;

use super::files::{GET, PUT, PUT_UNNAMED, cluster_with_files, read_tree, tree};

#[test]
fn a_directory_comes_back_as_it_was() {
    let cluster = cluster_with_files();
    let (from, to) = (cluster.dir().join("from"), cluster.dir().join("to"));
    fs::create_dir_all(&to).unwrap();
    let files = tree(&from);
    symlink("/etc/passwd", from.join("link")).unwrap();
    // Nothing that is found by a search path is the extension's.
    cluster.session().run(
        "create schema bait; create function bait.rbytea_begin() returns bigint language sql as 'select 1 / 0';
         create function bait.len(rbytea) returns bigint language sql as 'select 1 / 0';
         alter role postgres set search_path = bait, public",
    );
    let put = run(tool(&cluster, PUT).args(["--jobs", "3", "--set", "kind=it's"]).arg(&from)).ends_with(0);
    assert!(put.said.contains(&format!("put {} files", files.len())), "{}", put.said);
    let db = cluster.session();
    assert_eq!(db.one::<i64>("select count(*) from files where kind = 'it''s'", &[]), files.len() as i64);
    run(tool(&cluster, GET).args(["--jobs", "3", "--verify", "-o"]).arg(&to)).ends_with(0);
    assert!(read_tree(&to) == files, "other files came back");
}

#[test]
fn large_files_come_back_in_little_memory() {
    let cluster = cluster_with_files();
    let payload = noise(100 << 20, 1);
    let (from, to) = (cluster.dir().join("large"), cluster.dir().join("back"));
    fs::write(&from, &payload).unwrap();
    let mut putting = start(tool(&cluster, PUT_UNNAMED).arg(&from));
    let mut peak = 0;
    while putting.goes_on() {
        peak = peak.max(putting.peak_memory());
    }
    putting.end().ends_with(0);
    let db = cluster.session();
    let digest: String = db.one("select sha256sum(content) from files", &[]);
    let mut getting = start(
        tool(&cluster, ["get", "-t", "files", "-c", "content", "--where", "id = 1", "--verify", "-o"])
            .arg(&to),
    );
    while getting.goes_on() {
        peak = peak.max(getting.peak_memory());
    }
    getting.end().ends_with(0);
    assert!(fs::read(&to).unwrap() == payload, "other bytes than were put, digest {digest}");
    assert!(peak > 0 && peak < 64 << 20, "the client has taken {peak} bytes");
}

#[test]
fn standard_input_and_output_are_files() {
    let cluster = cluster_with_files();
    for (name, size) in [("none", 0), ("few", 100), ("many", 5_000_000)] {
        let payload = noise(size, 7);
        run_with_input(tool(&cluster, PUT).args(["--name", name, "-"]), &payload).ends_with(0);
        let got = run(tool(&cluster, GET).args(["--name", name, "-o", "-"])).ends_with(0);
        assert!(got.output == payload, "{name} has come back differently");
    }
    let nameless = run_with_input(tool(&cluster, PUT).arg("-"), b"x").ends_with(1);
    assert!(nameless.said.contains("--name"), "{}", nameless.said);
}

#[test]
fn what_is_there_is_left_out() {
    let cluster = cluster_with_files();
    let from = cluster.dir().join("from");
    let files = tree(&from);
    let again = || run(tool(&cluster, PUT).arg("--skip-existing").arg(&from)).ends_with(0).said;
    let count = || cluster.session().one::<i64>("select count(*) from files", &[]);
    again();
    let said = again();
    assert!(said.contains("put 0 files") && said.contains(&format!("{} left out", files.len())), "{said}");
    cluster.session().run("delete from files where name in ('a/one', 'z/more')");
    assert!(again().contains("put 2 files"));
    assert_eq!(count(), files.len() as i64);
    // Another length is another file; other bytes of the same length take reading.
    fs::write(from.join("empty"), "filled").unwrap();
    assert!(again().contains("put 1 file,"));
    fs::write(from.join("a/one"), "?").unwrap();
    assert!(again().contains("put 0 files"));
    let verified = run(tool(&cluster, PUT).args(["--skip-existing", "--verify"]).arg(&from)).ends_with(0);
    assert!(verified.said.contains("put 1 file,"), "{}", verified.said);
}

#[test]
fn a_file_that_fails_does_not_end_the_others() {
    let cluster = cluster_with_files();
    let from = cluster.dir().join("from");
    let files = tree(&from);
    cluster.session().run("alter table files add check (name <> 'a/one' and name <> 'z/more')");
    let put = run(tool(&cluster, PUT).args(["--jobs", "2"]).arg(&from).arg(cluster.dir().join("nothing")))
        .ends_with(1);
    for failed in ["a/one: ERROR:", "z/more: ERROR:", "nothing: could not look at"] {
        assert!(put.said.contains(failed), "{failed} is missing in {}", put.said);
    }
    assert!(put.said.contains("3 files not put"), "{}", put.said);
    assert_eq!(cluster.session().one::<i64>("select count(*) from files", &[]), files.len() as i64 - 2);
}

/// A file that is said to be there has a row.
#[test]
fn a_row_that_a_trigger_leaves_out_is_an_error() {
    let cluster = cluster_with_files();
    cluster.session().run(
        "create function skip() returns trigger language plpgsql as 'begin return null; end';
         create trigger skip before insert on files for each row execute function skip()",
    );
    let from = cluster.dir().join("from");
    for size in [10, 3_000_000] {
        fs::write(&from, noise(size, 1)).unwrap();
        let put = run(tool(&cluster, PUT).arg(&from)).ends_with(1);
        assert!(put.said.contains("has not inserted the row"), "{}", put.said);
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error() {
    let cluster = cluster_with_files();
    let from = cluster.dir().join("from");
    fs::write(&from, noise(3_000_000, 1)).unwrap();
    let db = cluster.session();
    // The file has been read when the row comes.
    db.run(
        "create function wait() returns trigger language plpgsql as
           $$ begin perform pg_advisory_xact_lock(1); return new; end $$;
         create trigger wait before insert on files for each row execute function wait()",
    );
    db.run("select pg_advisory_lock(1)");
    let putting = start(tool(&cluster, PUT).arg(&from));
    let watching = cluster.session();
    wait_until(PATIENCE, || backend(&watching, "INSERT").is_some_and(|pid| watching.sees_waiting(pid)));
    fs::OpenOptions::new().append(true).open(&from).unwrap().set_len(3_000_001).unwrap();
    db.run("select pg_advisory_unlock(1)");
    let put = putting.end().ends_with(1);
    assert!(put.said.contains("has changed while it was read"), "{}", put.said);
    assert_eq!(db.one::<i64>("select count(*) from files", &[]), 0);
}

#[test]
fn names_of_tables_and_columns_are_those_of_sql() {
    let cluster = cluster_with_files();
    let db = cluster.session();
    db.run("create schema \"S s\"; create table \"S s\".\"T.t\" (\"C c\" rbytea, \"N\"\"n\" varchar(20))");
    let from = cluster.dir().join("a file");
    fs::write(&from, "bytes").unwrap();
    let odd = ["-t", "\"S s\".\"T.t\"", "-c", "\"C c\"", "-n", "\"N\"\"n\""];
    run(tool(&cluster, ["put"]).args(odd).arg(&from)).ends_with(0);
    assert_eq!(db.text("select \"N\"\"n\", \"C c\"::bytea from \"S s\".\"T.t\""), "a file|\\x6279746573");
    assert_eq!(
        run(tool(&cluster, ["get"]).args(odd).args(["--name", "a file", "-o", "-"])).ends_with(0).text(),
        "bytes"
    );
    for (arguments, why) in [
        (["-t", "nothing", "-c", "content"], "table \"nothing\" does not exist"),
        (["-t", "files", "-c", "nothing"], "column \"nothing\""),
    ] {
        let refused = run(tool(&cluster, ["put"]).args(arguments).arg(&from)).ends_with(1);
        assert!(refused.said.contains(why), "{}", refused.said);
    }
}
