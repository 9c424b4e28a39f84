//! A database that has the type in the place of `@type`, and what it answers to a statement.

use std::collections::BTreeSet;

use tokio_postgres::types::Type;
use tokio_postgres::{Error, SimpleQueryMessage};

use super::script::{Statement, replace_values};
use crate::support::cluster::Cluster;
use crate::support::session::{Session, block_on};
use crate::support::twins::quoted;

/// Where values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// In guillemets: constants; in tables: in the row.
    Inline,
    /// In guillemets: read from a table; in tables: in files, whatever their length.
    Stored,
}

/// A database for each type and form.
pub struct Side<'a> {
    cluster: &'a Cluster,
    database: String,
    ty: &'static str,
    form: Form,
}

impl<'a> Side<'a> {
    /// Creates it, with the table `payloads` of these values and those of `setup`.
    pub fn new(
        cluster: &'a Cluster,
        ty: &'static str,
        form: Form,
        setup: &str,
        values: &BTreeSet<String>,
    ) -> Self {
        let database = format!("{form:?}_{ty}").to_lowercase();
        let threshold = if form == Form::Inline { "1GB" } else { "0" };
        let db = cluster.session();
        db.run(&format!("create database {database}"));
        db.run(&format!("alter database {database} set rbytea.external_threshold = '{threshold}'"));
        let side = Self { cluster, database, ty, form };
        let db = side.session();
        if ty == "rbytea" {
            db.run("create extension rbytea");
        }
        db.run(&setup.replace("@type", ty));
        let rows: Vec<_> = values.iter().map(|value| format!("({0}, {0})", quoted(value))).collect();
        db.run(&format!(
            "create table payloads (name text primary key, v {ty}); insert into payloads values {}",
            rows.join(", ")
        ));
        side
    }

    /// A session for one script.
    pub fn session(&self) -> Session {
        self.cluster.session_in(&self.database)
    }

    /// What a client sees of a statement, as text: the types of its parameters and columns, rows, messages, or the error.
    pub fn answer(&self, db: &Session, statement: &Statement) -> String {
        let sql = replace_values(&statement.text, |value| match self.form {
            Form::Inline => format!("{}::{}", quoted(value), self.ty),
            Form::Stored => format!("(select v from public.payloads where name = {})", quoted(value)),
        });
        let sql = sql.replace("@type", self.ty);
        db.notices();
        let mut answer =
            answer(db, &sql, statement.data.as_deref()).unwrap_or_else(|error| error_text(&sql, &error));
        for notice in db.notices() {
            answer += &format!("\n{} {}: {}", notice.severity(), notice.code().code(), notice.message());
        }
        answer
    }
}

fn answer(db: &Session, sql: &str, data: Option<&str>) -> Result<String, Error> {
    if let Some(data) = data {
        let copied = block_on(async {
            let sink = db.client().copy_in(sql).await?;
            futures_util::pin_mut!(sink);
            futures_util::SinkExt::send(&mut sink, bytes::Bytes::copy_from_slice(data.as_bytes())).await?;
            sink.finish().await
        })?;
        return Ok(format!("{copied} rows copied"));
    }
    let prepared = block_on(db.client().prepare(sql))?;
    let described = |(name, ty): (&str, &Type)| match Type::from_oid(ty.oid()) {
        Some(_) => format!("{name} {}", ty.oid()),
        None => format!("{name} ({})", ty.name()),
    };
    let list = |types: Vec<String>| types.join(", ");
    if !prepared.params().is_empty() {
        let parameters = list(prepared.params().iter().map(|ty| described(("", ty))).collect());
        let columns = list(
            prepared.columns().iter().map(|column| described((column.name(), column.type_()))).collect(),
        );
        return Ok(format!("parameters{parameters}; columns {columns}"));
    }
    if sql.starts_with("copy ") {
        let copied = block_on(async {
            let stream = db.client().copy_out(sql).await?;
            futures_util::TryStreamExt::try_collect::<Vec<bytes::Bytes>>(stream).await
        })?;
        return Ok(copied.concat().escape_ascii().to_string());
    }
    let columns =
        prepared.columns().iter().map(|column| described((column.name(), column.type_()))).collect();
    let mut lines = vec![format!("columns {}", list(columns))];
    for message in block_on(db.client().simple_query(sql))? {
        match message {
            SimpleQueryMessage::Row(row) => {
                let fields: Vec<_> = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect();
                lines.push(fields.join("|"));
            }
            SimpleQueryMessage::CommandComplete(rows) => lines.push(format!("{rows} rows")),
            _ => {}
        }
    }
    Ok(lines.join("\n"))
}

fn error_text(sql: &str, error: &Error) -> String {
    let Some(error) = error.as_db_error() else { panic!("{error} from: {sql}") };
    let mut text = format!("error {}: {}", error.code().code(), error.message());
    for (what, more) in [("detail", error.detail()), ("hint", error.hint())] {
        if let Some(more) = more {
            text += &format!("\n{what}: {more}");
        }
    }
    text
}
