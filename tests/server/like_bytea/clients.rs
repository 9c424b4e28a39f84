//! COPY in its three formats, psql, and a driver's text and binary protocol.

use std::fs;

use futures_util::pin_mut;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{Kind, Type};

use crate::support::cluster::Cluster;
use crate::support::payload::Payload;
use crate::support::session::block_on;
use crate::support::twins::{noise, payloads, twins};

const FORMATS: [&str; 5] = ["", "csv", "csv force quote *", "delimiter ';' null 'none'", "binary"];

#[test]
fn copy_writes_and_reads_what_it_does_for_bytea() {
    let cluster = Cluster::with_extension();
    let db = twins(&cluster);
    db.run("insert into stored values (-1, null, null); insert into in_row values (-1, null, null); create table loaded (id int, v rbytea)");
    let written = cluster.live().len();
    for output in ["hex", "escape"] {
        db.run(&format!("set bytea_output = {output}"));
        for format in FORMATS {
            let copy = |column: &str, table: &str| {
                db.copy_out(&format!(
                    "copy (select id, {column} from {table} order by id) to stdout {format}"
                ))
            };
            let expected = copy("b", "stored");
            for table in ["stored", "in_row"] {
                assert!(
                    copy("v", table) == expected,
                    "COPY TO {format} of {table} writes something else ({output})"
                );
            }
            let rows = db.copy_in(
                &format!("copy loaded from stdin {}", format.replace("force quote *", "")),
                &expected,
            );
            assert_eq!(rows, payloads().len() as u64 + 1);
            assert_eq!(
                db.text(
                    "select count(*) from stored s full join loaded l using (id)
                     where s.b is distinct from l.v::bytea or (l.v is null) <> (uuid(l.v) is null)"
                ),
                "0",
                "COPY FROM {format} has changed a payload or left it in its row ({output})"
            );
            db.run("truncate loaded");
        }
    }
    assert_eq!(cluster.live().len(), written + 2 * FORMATS.len() * payloads().len(), "each row has one file");
}

#[test]
fn copy_to_files_of_the_server_and_to_programs() {
    let cluster = Cluster::with_extension();
    let db = twins(&cluster);
    db.run("create table loaded (id int, v rbytea)");
    for format in ["text", "csv", "binary"] {
        let path = cluster.data().join(format!("dump.{format}"));
        db.run(&format!("copy (select id, v from stored) to '{}' (format {format})", path.display()));
        db.run(&format!("copy loaded from '{}' (format {format})", path.display()));
        fs::remove_file(path).unwrap();
    }
    db.run("copy (select id, v from stored) to program 'cat > program.out'; copy loaded from program 'cat program.out'");
    assert_eq!(
        db.text("select count(*), count(distinct uuid(l.v)), bool_and(l.v = s.v) from stored s join loaded l using (id)"),
        format!("{0}|{0}|t", 4 * payloads().len())
    );
}

#[test]
fn psql_shows_copies_and_substitutes() {
    let cluster = Cluster::with_extension();
    let file = cluster.dir().join("copied");
    let (file, escaped) = (file.display(), r"\x00\\x27");
    let script = format!(
        r"create table t (id int, v rbytea, b bytea);
          \set payload '\\x00275cff'
          insert into t values (1, :'payload', :'payload'), (2, '', ''), (3, null, null);
          select v, v = b from t order by id;
          \copy t to '{file}'
          truncate t;
          \copy t from '{file}'
          \copy (select v from t where id = 1) to stdout
          select uuid(v) is not null, v::bytea is not distinct from b from t order by id;
          select v as again from t where id = 1 \gset
          select :'again'::rbytea = b from t where id = 1;
          set bytea_output = escape;
          select v from t where id = 1;
          \d t"
    );
    let seen = cluster.psql(&[], &script);
    let expected = format!("\\x00275cff|t\n\\x|t\n|\n\\\\x00275cff\nt|t\nt|t\nf|t\nt\n{}\n", r"\000'\\\377");
    assert!(seen.starts_with(&expected), "{escaped}: psql shows {seen}");
    assert!(seen.contains("v|rbytea|"), "\\d does not know the type: {seen}");
    assert!(!seen.contains("rigger"), "\\d shows the extension's own trigger: {seen}");
}

#[tokio::test]
async fn a_driver_reads_and_writes_text_and_binary() {
    let cluster = Cluster::running();
    let client = cluster.client().await;
    client
        .batch_execute("create extension rbytea; create table t (id int, v rbytea, b bytea)")
        .await
        .unwrap();
    let statement = client.prepare("insert into t values ($1, $2, $2)").await;
    assert!(statement.is_err(), "one parameter cannot have two types");
    let statement = client.prepare("insert into t values ($1, $2, $3)").await.unwrap();
    let ty: &Type = &statement.params()[1];
    assert_eq!((ty.name(), ty.kind()), ("bytea", &Kind::Simple));
    for (id, bytes) in payloads().into_iter().enumerate() {
        let payload = Payload(bytes);
        client.execute(&statement, &[&(id as i32), &payload, &payload]).await.unwrap();
    }
    client.execute(&statement, &[&-1, &None::<Payload>, &None::<Payload>]).await.unwrap();

    for row in client.query("select id, v, b from t", &[]).await.unwrap() {
        assert!(
            row.get::<_, Option<Payload>>(1) == row.get::<_, Option<Payload>>(2),
            "row {} in binary",
            row.get::<_, i32>(0)
        );
    }
    let text = client.simple_query("select id, v, b from t").await.unwrap();
    let rows = text.iter().filter_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    assert_eq!(rows.clone().count(), payloads().len() + 1);
    for row in rows {
        assert!(row.get(1) == row.get(2), "row {:?} in text", row.get(0));
    }
    let portal_rows =
        client.query("select v from t where v = $1", &[&Payload(payloads()[9].clone())]).await.unwrap();
    assert_eq!(portal_rows.len(), 1, "a parameter finds its row");
}

#[test]
fn a_driver_copies_in_binary() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run("create table t (id int, v rbytea)");
    let rbytea = block_on(db.client().prepare("select v from t")).unwrap().columns()[0].type_().clone();
    block_on(async {
        let sink = db.client().copy_in("copy t from stdin binary").await.unwrap();
        let writer = BinaryCopyInWriter::new(sink, &[Type::INT4, rbytea]);
        pin_mut!(writer);
        for id in 0..500i32 {
            let payload = Payload(noise(1000 + id as usize, id as u64));
            writer.as_mut().write(&[&id, &payload]).await.unwrap();
        }
        writer.finish().await.unwrap();
    });
    for row in db.rows("select id, v, uuid(v) is not null from t", &[]) {
        let id: i32 = row.get(0);
        assert!(row.get::<_, Payload>(1).0 == noise(1000 + id as usize, id as u64), "row {id} was changed");
        assert!(row.get::<_, bool>(2), "row {id} keeps its payload");
    }
    assert_eq!(cluster.live().len(), 500);
}
