//! Bytes that look like a reference are bytes: in columns of whatever type, in both formats of output, through a dump of either kind.

use crate::evidence::{Promise, proves_by_assertions};
use crate::references::dumped::{database, directory, dump, reference, restore, restoring};
use crate::support::cluster::Cluster;
use crate::support::payload::Payload;

const ROWS: &str =
    "select n, x, b, encode(r::bytea, 'hex'), encode(short::bytea, 'hex') from looks order by n";

#[test]
fn what_looks_like_a_reference_goes_through_a_dump_as_bytes() {
    let cluster = Cluster::running();
    let db = database(&cluster, "source");
    db.run("create table real (r rbytea); insert into real values (repeat('a real payload', 10000)::bytea)");
    let text = reference(&db, "r from real");
    db.run("create table looks (n int, x text, b bytea, r rbytea, short rbytea)");
    let looks = [
        text.clone(),
        format!("\\{text}"),
        text.replace("1:", "2:"),
        "\\rbytea".to_owned(),
        "\\rbytea1:".to_owned(),
        "\\\\rbytea1:".to_owned(),
    ];
    for (n, text) in looks.iter().enumerate() {
        let bytes = Payload(text.clone().into_bytes());
        db.execute("insert into looks values ($1, $2, $3, $4)", &[&(n as i32), text, &bytes, &bytes]);
    }
    db.run("set rbytea.external_threshold = '1MB'; update looks set short = b");
    let rows = db.text(ROWS);
    assert_eq!(db.text("select count(uuid(r)), count(uuid(short)) from looks"), format!("{}|0", looks.len()));
    let mut restored = 0;
    for format in ["hex", "escape"] {
        db.run(&format!("alter database source set bytea_output = '{format}'"));
        for (kind, options) in [("copy", &[][..]), ("inserts", &["--inserts"])] {
            let name = format!("{format}_{kind}");
            let path = dump(&cluster, &format!("{name}.sql"), options);
            cluster.session().run(&format!("create database {name}"));
            let from = directory(&cluster, &db);
            restore(&cluster, &restoring("verify", Some(&from)), &name, &path, &[]);
            let copy = cluster.session_in(&name);
            assert_eq!(copy.text(ROWS), rows, "{name}");
            assert_eq!(
                copy.text("select sha256sum(r) from real"),
                db.text("select sha256sum(r) from real"),
                "{name}"
            );
            // By bytes, into a database that would take references.
            let plain = cluster.pg_dump(&[&["-d", "source", "-t", "looks", "-t", "real"], options].concat());
            copy.run("drop table looks, real");
            cluster.psql(&["-d", &name, "-o", "/dev/null"], &plain);
            assert_eq!(copy.text(ROWS), rows, "{name}: by bytes");
            restored += 2 * looks.len() as u64;
        }
    }
    proves_by_assertions(Promise::BadInput, restored);
}
