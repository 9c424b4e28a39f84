//! `rbytea get` writes complete files, in the directory that it was given and nowhere else.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::cluster::Cluster;
use crate::support::tool::{run, tool};

use super::files::{GET, cluster_with_files, read_tree};

/// A cluster whose table has a row of each of these names, and a directory `to`.
fn cluster_with_rows(names: &[&str]) -> Cluster {
    let cluster = cluster_with_files();
    fs::create_dir(cluster.dir().join("to")).unwrap();
    let db = cluster.session();
    for name in names {
        db.execute("insert into files (name, content) values ($1, 'bytes')", &[name]);
    }
    cluster
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let hostile = ["/tmp/absolute", "../outside", "a/../../outside", "link/outside", "a//b", ".", "", "a/"];
    let cluster = cluster_with_rows(&hostile);
    cluster.session().run("insert into files (name, content) values (null, 'bytes'), ('good', 'bytes')");
    let to = cluster.dir().join("to");
    let outside = cluster.dir().join("elsewhere");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, to.join("link")).unwrap();
    let got = run(tool(&cluster, GET).args(["--force", "--jobs", "2", "-o"]).arg(&to)).ends_with(1);
    assert!(got.said.contains(&format!("{} files not got", hostile.len() + 1)), "{}", got.said);
    assert_eq!(got.said.matches("is refused").count(), hostile.len() - 1, "{}", got.said);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "a link was followed");
    assert!(!cluster.dir().join("outside").exists());
    fs::remove_file(to.join("link")).unwrap();
    assert_eq!(read_tree(&to).into_keys().collect::<Vec<_>>(), ["good"]);
}

#[test]
fn files_that_are_there_are_replaced_only_by_force() {
    let cluster = cluster_with_rows(&["a", "b"]);
    let to = cluster.dir().join("to");
    fs::write(to.join("a"), "mine").unwrap();
    let got = run(tool(&cluster, GET).arg("-o").arg(&to)).ends_with(1);
    assert!(got.said.contains("exists already"), "{}", got.said);
    assert_eq!(
        (fs::read(to.join("a")).unwrap(), fs::read(to.join("b")).unwrap()),
        (b"mine".to_vec(), b"bytes".to_vec())
    );
    run(tool(&cluster, GET).arg("--force").arg("-o").arg(&to)).ends_with(0);
    assert_eq!(fs::read(to.join("a")).unwrap(), b"bytes");
    assert_eq!(read_tree(&to).len(), 2, "something unfinished is left");
}

#[test]
fn rows_of_one_name_are_not_written_over_each_other() {
    let cluster = cluster_with_rows(&["a", "b", "b"]);
    let to = cluster.dir().join("to");
    let got = run(tool(&cluster, GET).args(["--force", "-o"]).arg(&to)).ends_with(1);
    assert!(
        got.said.contains("b: another row has the same name") && got.said.contains("got 2 files"),
        "{}",
        got.said
    );
}

#[test]
fn one_file_takes_one_row() {
    let cluster = cluster_with_rows(&["a", "b"]);
    let file = cluster.dir().join("file");
    let one = |condition: &str| {
        run(tool(&cluster, ["get", "-t", "files", "-c", "content", "--where", condition, "-o"]).arg(&file))
    };
    assert!(one("true").ends_with(1).said.contains("2 rows fit"));
    assert!(one("false").ends_with(1).said.contains("no row fits"));
    assert!(one("1 / 0 = 1").ends_with(1).said.contains("division by zero"));
    assert!(!file.exists());
    one("name = 'a' -- the first").ends_with(0);
    assert_eq!(fs::read(&file).unwrap(), b"bytes");
    let got =
        run(tool(&cluster, GET).args(["--name", "a", "--name", "c", "-o"]).arg(cluster.dir().join("to")))
            .ends_with(1);
    assert!(got.said.contains("c: no such row") && got.said.contains("got 1 file,"), "{}", got.said);
}

#[test]
fn partitions_and_payloads_in_rows_are_got_as_well() {
    let cluster = cluster_with_files();
    let to = cluster.dir().join("to");
    fs::create_dir(&to).unwrap();
    cluster.session().run(
        "create table p (name text, content rbytea) partition by list (name);
         create table p1 partition of p for values in ('one'); create table p2 partition of p default;
         insert into p values ('one', '1'), ('two', '22'), ('null', null);
         set rbytea.external_threshold = 100; insert into p values ('in the row', '333'), ('none', '')",
    );
    run(tool(&cluster, ["get", "-t", "p", "-c", "content", "-n", "name", "--verify", "-o"]).arg(&to))
        .ends_with(0);
    let got: Vec<_> =
        read_tree(&to).into_iter().map(|(name, bytes)| (name, String::from_utf8(bytes).unwrap())).collect();
    let wanted = [("in the row", "333"), ("none", ""), ("one", "1"), ("two", "22")];
    assert_eq!(got, wanted.map(|(name, text)| (name.to_owned(), text.to_owned())));
}

#[test]
fn a_damaged_payload_is_no_file() {
    let cluster = cluster_with_rows(&["a"]);
    let to = cluster.dir().join("to");
    fs::write(&cluster.live()[0], "bytex").unwrap();
    let got = run(tool(&cluster, GET).arg("-o").arg(&to)).ends_with(1);
    assert!(got.said.contains("a: ERROR:"), "{}", got.said);
    assert!(read_tree(&to).is_empty());
}
