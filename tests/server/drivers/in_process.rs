//! tokio-postgres, which is linked into the tests.

use std::fmt::Write;

use futures_util::pin_mut;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::scenario::{self, BYTEA, RBYTEA};
use crate::support::session::block_on;

/// How parameters and results travel.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Prepared,
    /// The client says the types of the parameters.
    Typed,
    Copy,
}

fn bytes_of(content: Option<Vec<u8>>) -> String {
    let kind = if content.is_some() { "Vec<u8> " } else { "" };
    format!("{kind}{}", scenario::printed(content.as_deref()))
}

async fn read(client: &Client, table: &str, mode: Mode) -> Vec<Row> {
    let sql = format!("SELECT name, note, content FROM {table} ORDER BY name");
    match mode {
        Mode::Typed => client.query_typed(&sql, &[]).await.unwrap(),
        _ => client.query(&sql, &[]).await.unwrap(),
    }
}

async fn show(client: &Client, table: &str, mode: Mode, output: &mut String) {
    for row in read(client, table, mode).await {
        let (name, note, content): (&str, &str, Option<Vec<u8>>) = (row.get(0), row.get(1), row.get(2));
        writeln!(output, "row {name} {note} {}", bytes_of(content)).unwrap();
    }
}

async fn insert(client: &Client, table: &str, mode: Mode, row: (&str, &str, Option<&[u8]>)) {
    let sql = format!("INSERT INTO {table} (name, note, content) VALUES ($1, $2, $3)");
    if mode == Mode::Typed {
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
            [(&row.0, Type::TEXT), (&row.1, Type::TEXT), (&row.2, Type::BYTEA)];
        client.execute_typed(&sql, &parameters).await.unwrap();
    } else {
        client.execute(&sql, &[&row.0, &row.1, &row.2]).await.unwrap();
    }
}

async fn program(client: &Client, table: &str, mode: Mode) -> String {
    let mut output = String::new();
    let payloads = scenario::payloads();
    if mode == Mode::Copy {
        let sql = format!("COPY {table} (name, note, content) FROM STDIN (FORMAT binary)");
        let sink = client.copy_in(&sql).await.unwrap();
        let writer = BinaryCopyInWriter::new(sink, &[Type::TEXT, Type::TEXT, Type::BYTEA]);
        pin_mut!(writer);
        for (name, content) in payloads {
            writer.as_mut().write(&[name, &"new", content]).await.unwrap();
        }
        writer.finish().await.unwrap();
    } else {
        for (name, content) in payloads {
            insert(client, table, mode, (name, "new", content.as_deref())).await;
        }
    }
    show(client, table, mode, &mut output).await;
    let statement = client.prepare(&format!("SELECT content FROM {table}")).await.unwrap();
    writeln!(output, "type {}", statement.columns()[0].type_()).unwrap();

    let sql = format!("SELECT name FROM {table} WHERE content = $1");
    let found = client.query_one(&sql, &[&payloads["all-bytes"]]).await.unwrap();
    writeln!(output, "found {}", found.get::<_, &str>(0)).unwrap();
    client.execute(&format!("UPDATE {table} SET note = 'changed'"), &[]).await.unwrap();
    for row in read(client, table, mode).await {
        let (name, content): (&str, Option<Vec<u8>>) = (row.get(0), row.get(2));
        insert(client, table, mode, (&format!("copy-of-{name}"), "copied", content.as_deref())).await;
    }
    let sql = format!("DELETE FROM {table} WHERE name = 'empty' RETURNING content");
    let deleted = client.query_one(&sql, &[]).await.unwrap();
    writeln!(output, "deleted {}", bytes_of(deleted.get(0))).unwrap();
    show(client, table, mode, &mut output).await;
    output
}

#[test]
#[ignore = "with the other drivers: make driver-test"]
fn tokio_postgres() {
    let cluster = scenario::cluster(&[]);
    let db = cluster.session();
    for mode in [Mode::Prepared, Mode::Typed, Mode::Copy] {
        let [with_bytea, with_rbytea] = [BYTEA, RBYTEA].map(|column| {
            let table = scenario::create_table(&db, column);
            let output = block_on(program(db.client(), &table, mode));
            let context = format!("{mode:?}, {column}");
            scenario::assert_read(&output, &context);
            scenario::assert_stored(&cluster, &db, column, &context);
            output
        });
        assert_eq!(with_rbytea, with_bytea, "{mode:?}: rbytea on the left, bytea on the right");
    }
}
