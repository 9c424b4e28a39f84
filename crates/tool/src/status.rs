//! `rbytea status`: what the views say of a database's store, for a person or as JSON. Both are made from the same answers.

use std::io::Write;

use clap::Args;
use serde_json::{Map, Value, json};
use tokio_postgres::types::Type;

use crate::catalog::{Extension, extension};
use crate::connection::{ConnectionOptions, Connector, Db};
use crate::error::Error;
use crate::human;

/// Options of `status`.
#[derive(Args, Debug)]
pub struct Status {
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    /// List payloads that no dump in text can carry; reads all tables with columns of type rbytea
    #[arg(long)]
    large: bool,
    /// How many of the last runs of the vacuum
    #[arg(long, value_name = "N", default_value_t = 5)]
    runs: u16,
    #[command(flatten)]
    connection: ConnectionOptions,
}

/// Settings that say how payloads are stored, vacuumed, encrypted and kept in the WAL. A user sees those that he may see.
const SETTINGS: &[&str] = &[
    "rbytea.filesystem_storage_path",
    "rbytea.databases_for_vacuuming",
    "rbytea.vacuum_naptime",
    "rbytea.trash_retention",
    "rbytea.external_threshold",
    "rbytea.wal_payload_limit",
    "rbytea.recovery_store",
    "rbytea.qss_mode",
    "rbytea.key_file",
    "rbytea.verify",
    "rbytea.max_uploads",
];

/// Columns of rbytea_stat that are points in time.
const TIMES: [&str; 5] = ["oldest_trash", "last_whole_sweep", "last_success", "last_run", "last_failure"];

/// Prints the status.
pub async fn run(options: Status, connector: &Connector) -> Result<(), Error> {
    let db = connector.open(&options.connection).await?;
    let extension = extension(&db).await?;
    let status = status(&db, &extension, &options).await?;
    db.close().await;
    let text = if options.json {
        serde_json::to_string_pretty(&status).map_err(|error| Error::said(error.to_string()))?
    } else {
        text(&status)
    };
    writeln!(std::io::stdout(), "{text}").map_err(|error| Error::said(format!("could not write: {error}")))
}

/// The rows of a query as JSON, an object for each.
async fn rows(db: &Db, query: &str) -> Result<Value, Error> {
    let query = format!("SELECT coalesce(json_agg(r), '[]')::text FROM ({query}) r");
    parsed(&db.query_one(&query, &[]).await?.get::<_, String>(0))
}

fn parsed(text: &str) -> Result<Value, Error> {
    serde_json::from_str(text).map_err(|error| Error::said(error.to_string()))
}

/// All of it: an object whose names stay.
async fn status(db: &Db, extension: &Extension, options: &Status) -> Result<Value, Error> {
    db.batch_execute("BEGIN READ ONLY; SET LOCAL search_path = ''; SET LOCAL intervalstyle = postgres")
        .await?;
    let about = "SELECT current_database() AS database, current_setting('server_version') AS server_version,
                        pg_is_in_recovery() AS in_recovery";
    let mut status = first(rows(db, about).await?);
    status.insert("extension_version".into(), json!(extension.version));
    let ages = TIMES.map(|time| format!("extract(epoch FROM now() - {time})::bigint AS {time}_seconds_ago"));
    let store = format!("SELECT s.*, {} FROM rbytea.rbytea_stat s", ages.join(", "));
    status.insert("store".into(), Value::Object(first(rows(db, &store).await?)));
    let keepers = format!("SELECT {}()", extension.function("rbytea_has_keepers"));
    status.insert("keepers".into(), json!(db.query_one(&keepers, &[]).await?.get::<_, Option<bool>>(0)));
    let settings = "SELECT coalesce(json_object_agg(name, current_setting(name) ORDER BY name), '{}')::text
                      FROM pg_settings WHERE name = ANY ($1)";
    let settings = db.query_typed(settings, &[(&SETTINGS, Type::TEXT_ARRAY)]).await?;
    let settings = settings.first().map_or(Ok(json!({})), |row| parsed(&row.get::<_, String>(0)))?;
    status.insert("settings".into(), settings);
    let mut progress = Map::new();
    for kind in ["vacuum", "reencrypt", "store"] {
        let view = format!("rbytea.rbytea_stat_progress_{kind}");
        let known: bool = db.query_one("SELECT to_regclass($1) IS NOT NULL", &[&view]).await?.get(0);
        let running =
            if known { rows(db, &format!("SELECT * FROM {view} ORDER BY pid")).await? } else { json!([]) };
        progress.insert(kind.into(), running);
    }
    status.insert("progress".into(), Value::Object(progress));
    let runs = format!(
        "SELECT origin, started, finished, extract(epoch FROM finished - started)::float8 AS seconds,
                extract(epoch FROM now() - finished)::bigint AS finished_seconds_ago, files, trashed, bytes, restored,
                lost, purged, purged_bytes, error
           FROM rbytea.rbytea_vacuum_history ORDER BY id DESC LIMIT {}",
        options.runs
    );
    status.insert("runs".into(), rows(db, &runs).await?);
    if options.large {
        let large = format!(
            "SELECT relation::text AS relation, ctid::text AS ctid, len FROM {}() ORDER BY 1, 2",
            extension.function("rbytea_larger_than")
        );
        status.insert("large".into(), rows(db, &large).await?);
    }
    db.batch_execute("COMMIT").await?;
    Ok(Value::Object(status))
}

/// The first of several objects.
fn first(rows: Value) -> Map<String, Value> {
    match rows {
        Value::Array(rows) => match rows.into_iter().next() {
            Some(Value::Object(row)) => row,
            _ => Map::new(),
        },
        _ => Map::new(),
    }
}

/// For a person.
fn text(status: &Value) -> String {
    let store = &status["store"];
    let mut lines = Lines::default();
    lines.add("database", plain(&status["database"]));
    lines.add(
        "versions",
        format!(
            "rbytea {}, PostgreSQL {}",
            plain(&status["extension_version"]),
            plain(&status["server_version"])
        ),
    );
    if status["in_recovery"] == json!(true) {
        lines.add("recovery", "this server is a standby or recovers from an archive");
    }
    lines.add("LIVE", files(store, "live"));
    lines.add("TRASH", files(store, "trash"));
    lines.add("oldest in TRASH", ago(store, "oldest_trash"));
    lines.add("last whole sweep", ago(store, "last_whole_sweep"));
    lines.add("last run", ago(store, "last_run"));
    if !store["last_failure"].is_null() {
        lines.add("last failure", format!("{}: {}", ago(store, "last_failure"), plain(&store["last_error"])));
    }
    if store["lost"].as_u64().is_some_and(|lost| lost > 0) {
        lines.add(
            "lost",
            format!("{}; rbytea check says which", human::count(unsigned(&store["lost"]), "payload")),
        );
    }
    for (label, key) in [("garbage held by", "held_by"), ("TRASH held by", "purge_held_by")] {
        for holder in list(&store[key]) {
            lines.add(label, plain(holder));
        }
    }
    let keepers = match status["keepers"].as_bool() {
        Some(true) => "at work: commits wait for the WAL alone where it has the payload",
        _ => "none: each commit waits for its payload files",
    };
    lines.add("keepers", keepers);
    for (kind, running) in status["progress"].as_object().into_iter().flatten() {
        for run in list(running) {
            lines.add(&format!("{kind} in progress"), fields(run));
        }
    }
    for run in list(&status["runs"]) {
        lines.add("run", self::run_line(run));
    }
    for (name, value) in status["settings"].as_object().into_iter().flatten() {
        lines.add(name, plain(value));
    }
    if let Some(large) = status["large"].as_array() {
        lines.add("too large for text", human::count(large.len() as u64, "payload"));
        for payload in large {
            let (relation, ctid) = (plain(&payload["relation"]), plain(&payload["ctid"]));
            lines.add("", format!("{relation} {ctid}, {}", human::bytes(unsigned(&payload["len"]))));
        }
    }
    lines.aligned()
}

/// Labels and what stands beside them; equal labels are printed once.
#[derive(Default)]
struct Lines(Vec<(String, String)>);

impl Lines {
    fn add(&mut self, label: &str, value: impl Into<String>) {
        self.0.push((label.to_owned(), value.into()));
    }

    fn aligned(&self) -> String {
        let width = self.0.iter().map(|(label, _)| label.chars().count()).max().unwrap_or_default();
        let mut before = "";
        let mut text = Vec::new();
        for (label, value) in &self.0 {
            let shown = if label == before { "" } else { label };
            text.push(format!("{shown:width$}  {value}").trim_end().to_owned());
            before = label;
        }
        text.join("\n")
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn unsigned(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// A value without quotes; nothing for null.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn files(store: &Value, which: &str) -> String {
    match store[format!("{which}_files")].as_u64() {
        Some(files) => {
            let size = human::bytes(unsigned(&store[format!("{which}_bytes")]));
            format!("{}, {size}", human::count(files, "file"))
        }
        None => "not known before the first sweep of the whole store".into(),
    }
}

fn ago(store: &Value, time: &str) -> String {
    match store[format!("{time}_seconds_ago")].as_i64() {
        Some(seconds) => format!("{} ago", human::span(u64::try_from(seconds).unwrap_or_default())),
        None => "none".into(),
    }
}

fn fields(row: &Value) -> String {
    let fields = row.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    fields.map(|(name, value)| format!("{name} {}", plain(value))).collect::<Vec<_>>().join(", ")
}

fn run_line(run: &Value) -> String {
    let end = format!("{}, {}", plain(&run["origin"]), ago(run, "finished"));
    if !run["error"].is_null() {
        return format!("{end}: failed: {}", plain(&run["error"]));
    }
    let seconds = run["seconds"].as_f64().unwrap_or_default();
    format!(
        "{end}, {seconds:.1} s: {} to TRASH ({}), {} purged ({})",
        human::count(unsigned(&run["trashed"]), "file"),
        human::bytes(unsigned(&run["bytes"])),
        unsigned(&run["purged"]),
        human::bytes(unsigned(&run["purged_bytes"]))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_aligned_and_in_human_units() {
        let status = json!({
            "database": "archive", "extension_version": "0.1.0", "server_version": "15.14", "in_recovery": false,
            "store": {
                "live_files": 2, "live_bytes": 3 << 20, "trash_files": null, "oldest_trash_seconds_ago": 90_000,
                "held_by": ["process 1", "slot b"], "lost": 0
            },
            "keepers": true, "settings": { "rbytea.verify": "checksum" },
            "progress": { "vacuum": [{ "pid": 7, "phase": "mark", "relid": null }] },
            "runs": [{ "origin": "rvacuum", "finished_seconds_ago": 5, "seconds": 0.25, "trashed": 1, "bytes": 10 }],
        });
        let text = text(&status);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.contains(&"LIVE                2 files, 3.0 MiB"), "{text}");
        assert!(lines.contains(&"oldest in TRASH     1 d 1 h ago"), "{text}");
        assert!(
            lines.contains(&"garbage held by     process 1") && lines.contains(&"                    slot b"),
            "{text}"
        );
        assert!(text.contains("vacuum in progress  phase mark, pid 7"), "{text}");
        assert!(
            text.contains("rvacuum, 5 s ago, 0.2 s: 1 file to TRASH (10 bytes), 0 purged (0 bytes)"),
            "{text}"
        );
    }
}
