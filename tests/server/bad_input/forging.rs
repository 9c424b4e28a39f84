//! The bytes of a reference to another user's payload, and what must not come of them.

use std::fs;

use crate::support::cluster::Cluster;
use crate::support::session::Session;

/// What only its owner may read.
pub const SECRET: &str = "a payload that is none of mallory's business";

/// A cluster with a secret payload, mallory's session, and the reference to the payload in hexadecimal digits.
pub fn with_secret() -> (Cluster, Session, String) {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run(&format!(
        "create table secret (v rbytea); insert into secret values ('{}')",
        SECRET.replace('\'', "''")
    ));
    let reference = reference(&cluster, &db, "secret");
    // What mallory would have to make: a superuser can, and sees that these are the right bytes.
    db.run("create function forge(bytea) returns rbytea language internal strict as 'int8up'");
    assert_eq!(db.text(&format!("select convert_from(forge('\\x{reference}'), 'utf8')")), SECRET);
    db.run("drop function forge");
    db.run("create role mallory login; create schema mallory authorization mallory; grant create on database postgres to mallory");
    let user = cluster.session_as("mallory");
    // Most of all when nothing is compared with a digest.
    user.run("set search_path = mallory, public; set rbytea.verify = off");
    (cluster, user, reference)
}

/// The 78 bytes that stand in the only row of a table.
pub fn reference(cluster: &Cluster, db: &Session, table: &str) -> String {
    let uuid: String = db.one(&format!("select replace(uuid(v)::text, '-', '') from {table}"), &[]);
    db.run("checkpoint");
    let heap =
        fs::read(cluster.data().join(db.text(&format!("select pg_relation_filepath('{table}')")))).unwrap();
    let uuid = uuid::Uuid::parse_str(&uuid).unwrap();
    let at = heap.windows(16).position(|bytes| bytes == uuid.as_bytes()).unwrap() - 22;
    assert_eq!(&heap[at..at + 2], [2, 0], "this is not a reference");
    heap[at..at + 78].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whatever comes of these statements, no result has the secret, and no row refers to it.
#[track_caller]
pub fn assert_kept(user: &Session, statements: &[String]) -> u64 {
    let secret: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    for sql in statements {
        let shown = match user.try_run(sql) {
            Ok(()) if sql.starts_with("select") || sql.starts_with("fetch") => user.text(sql),
            Ok(()) => String::new(),
            Err(error) => {
                assert!(!error.is_closed(), "{sql} has ended the session");
                error.to_string()
            }
        };
        let said: String = user.notices().iter().map(|notice| format!("{notice:?}")).collect();
        for text in [shown, said] {
            assert!(!text.contains(&secret) && !text.contains(SECRET), "{sql} shows the secret: {text}");
        }
        let _ = user.try_run("rollback");
    }
    statements.len() as u64
}
