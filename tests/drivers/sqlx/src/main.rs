//! Files in a table, with sqlx.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Column, ConnectOptions, Connection, PgConnection, Row, TypeInfo};

type Content = Option<Vec<u8>>;
type Document = (String, String, Content);

fn bytes_of(content: &Content) -> String {
    match content {
        None => "null".into(),
        Some(bytes) => format!("Vec<u8> {} {:x}", bytes.len(), Sha256::digest(bytes)),
    }
}

/// A file, or nothing, as `null`.
fn contents(directory: &str) -> Result<Vec<(String, Content)>, Box<dyn Error>> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory)?.map(|file| Ok(file?.path())).collect::<Result<_, std::io::Error>>()?;
    files.sort();
    let mut contents = Vec::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        contents.push((name, Some(fs::read(file)?)));
    }
    contents.push(("null".into(), None));
    Ok(contents)
}

/// `unprepared` has its results in text format.
async fn read(db: &mut PgConnection, table: &str, mode: &str) -> sqlx::Result<Vec<Document>> {
    let select = format!("SELECT name, note, content FROM {table} ORDER BY name");
    if mode == "unprepared" {
        let rows = sqlx::raw_sql(&select).fetch_all(db).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect()
    } else {
        sqlx::query_as(&select).persistent(mode == "prepared").fetch_all(db).await
    }
}

async fn show(db: &mut PgConnection, table: &str, mode: &str) -> sqlx::Result<()> {
    for (name, note, content) in read(db, table, mode).await? {
        println!("row {name} {note} {}", bytes_of(&content));
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [table, directory, mode] = &arguments[..] else { return Err("TABLE DIRECTORY MODE".into()) };
    let contents = contents(directory)?;
    let mut db = PgConnectOptions::new().connect().await?;
    let insert = format!("INSERT INTO {table} (name, note, content) VALUES ($1, $2, $3)");
    let add = |name: String, note: &'static str, content: Content| {
        sqlx::query(&insert).persistent(mode == "prepared").bind(name).bind(note).bind(content)
    };

    for (name, content) in &contents {
        add(name.clone(), "new", content.clone()).execute(&mut db).await?;
    }
    show(&mut db, table, mode).await?;
    let row = sqlx::query(&format!("SELECT content FROM {table}")).fetch_one(&mut db).await?;
    println!("type {}", row.column(0).type_info().name());

    let find = format!("SELECT name FROM {table} WHERE content = $1");
    let found: String = sqlx::query_scalar(&find).bind(&contents[0].1).fetch_one(&mut db).await?;
    println!("found {found}");
    sqlx::query(&format!("UPDATE {table} SET note = 'changed'")).execute(&mut db).await?;
    for (name, _, content) in read(&mut db, table, mode).await? {
        add(format!("copy-of-{name}"), "copied", content).execute(&mut db).await?;
    }
    let delete = format!("DELETE FROM {table} WHERE name = 'empty' RETURNING content");
    println!("deleted {}", bytes_of(&sqlx::query_scalar(&delete).fetch_one(&mut db).await?));
    show(&mut db, table, mode).await?;
    db.close().await?;
    Ok(())
}
