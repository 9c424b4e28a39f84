//! What the tool does not do: write payloads to columns that are not of the type, and what was not meant.

use std::fs;

use crate::support::tool::{run, tool};

use super::files::cluster_with_files;

#[test]
fn columns_of_other_types_are_refused_and_left_alone() {
    let cluster = cluster_with_files();
    let db = cluster.session();
    db.run(
        "create table other (name text, bytes bytea, picture oid, content rbytea);
         insert into other (picture, name) values (lo_from_bytea(0, 'large'), '17');
         create domain scan as rbytea; create table d (content scan)",
    );
    let from = cluster.dir().join("file");
    fs::write(&from, b"file").unwrap();
    for column in ["name", "bytes", "picture"] {
        let put = run(tool(&cluster, ["put", "-t", "other", "-c", column]).arg(&from)).ends_with(1);
        assert!(put.said.contains("not rbytea"), "{}", put.said);
        let got =
            run(&mut tool(&cluster, ["get", "-t", "other", "-c", column, "--where", "true", "-o", "-"]))
                .ends_with(1);
        assert!(got.said.contains("not rbytea"), "{}", got.said);
        let imported =
            run(&mut tool(&cluster, ["import-lo", "-t", "other", "-c", column, "-o", "picture", "--unlink"]))
                .ends_with(1);
        assert!(imported.said.contains("not rbytea"), "{}", imported.said);
    }
    for column in ["name", "bytes", "content"] {
        let imported = run(&mut tool(&cluster, ["import-lo", "-t", "other", "-c", "content", "-o", column]))
            .ends_with(1);
        assert!(imported.said.contains("not oid, integer or bigint"), "{}", imported.said);
    }
    assert_eq!(db.text("select count(*) from other"), "1");
    assert_eq!(
        db.text("select convert_from(lo_get(picture), 'UTF8') from other"),
        "large",
        "the large object is gone"
    );
    run(tool(&cluster, ["put", "-t", "d", "-c", "content"]).arg(&from)).ends_with(0);
    assert_eq!(db.text("select len(content) from d"), "4", "a domain is of its type");
}

#[test]
fn names_for_what_takes_none_are_refused() {
    let cluster = cluster_with_files();
    let directory = cluster.dir().join("directory");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("file"), b"file").unwrap();
    let put = ["put", "-t", "files", "-c", "content", "--name", "x"];
    run(tool(&cluster, put).arg(directory.join("file"))).ends_with(1);
    let named = run(tool(&cluster, put).args(["-n", "name"]).arg(&directory)).ends_with(1);
    assert!(named.said.contains("--name is for one file"), "{}", named.said);
    assert_eq!(cluster.session().text("select count(*) from files"), "0");
}

#[test]
fn a_dump_s_payloads_are_not_given_to_the_store_itself() {
    let cluster = cluster_with_files();
    let db = cluster.session();
    db.run("insert into files (content) values ('x')");
    for directory in
        [cluster.store(), cluster.store().join(db.database().to_string()), cluster.store().join("new")]
    {
        let dumped = run(tool(&cluster, ["dump", "--payloads"]).arg(&directory)).ends_with(1);
        assert!(dumped.said.contains("is in the store itself"), "{}", dumped.said);
    }
    let restored = run(&mut tool(&cluster, ["restore", "--payloads", "/nonexistent/payloads", "/dev/null"]))
        .ends_with(1);
    assert!(restored.said.contains("could not find directory"), "{}", restored.said);
}
