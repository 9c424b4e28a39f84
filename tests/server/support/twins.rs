//! The same bytes as bytea and as rbytea in each of its forms, side by side in one view: what bytea says of them is
//! what rbytea has to say.

use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use crate::support::cluster::Cluster;
use crate::support::payload::Payload;
use crate::support::session::{Session, block_on};

/// Around what matters: nothing, the 78 bytes of a reference, the longest value with a short header, TOAST, pages.
pub const SIZES: [usize; 20] = [
    0,
    1,
    2,
    77,
    78,
    79,
    124,
    125,
    126,
    127,
    128,
    1999,
    2000,
    2001,
    4096,
    8191,
    8192,
    8193,
    100_000,
    1 << 20,
];

/// Bytes that no compression makes smaller, the same in each run.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    // Quicker than a generator, whose code is compiled as part of the tests, unoptimised.
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// For each size noise, the same but for the last byte, and bytes that compress well and begin as a reference does.
pub fn payloads() -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    for len in SIZES {
        let first = noise(len, len as u64);
        let mut second = first.clone();
        if let Some(last) = second.last_mut() {
            *last ^= 1;
            payloads.extend([second, [2, 0, 0, 0, 1, 0].into_iter().cycle().take(len).collect()]);
        }
        payloads.push(first);
    }
    payloads
}

/// A session with the view `twins (id, form, b, v)`: `b` is a bytea, `v` the same as rbytea, whose form is `memory`
/// (computed), `row` (kept in a temporary table, which stores nothing) or `file`.
///
/// `stored (id, b, v)` and `in_row (id, b, v)` are the tables beneath.
pub fn twins(cluster: &Cluster) -> Session {
    let db = cluster.session();
    db.run(
        "create table stored (id int primary key, b bytea, v rbytea);
         create temp table in_row (id int primary key, b bytea, v rbytea);
         create temp view twins as
             select id, 'memory' as form, b, b::rbytea as v from stored
             union all select id, 'row', b, v from in_row
             union all select id, 'file', b, v from stored;",
    );
    for (id, bytes) in payloads().into_iter().enumerate() {
        let (id, payload) = (id as i32, Payload(bytes));
        for table in ["stored", "in_row"] {
            db.execute(&format!("insert into {table} values ($1, $2, $3)"), &[&id, &payload, &payload]);
        }
    }
    assert_eq!(
        db.text("select form, bool_or(uuid(v) is not null), bool_and(uuid(v) is not null) from twins group by 1 order by 1"),
        "file|t|t\nmemory|f|f\nrow|f|f",
        "the forms are not what this test is about"
    );
    db
}

/// What a statement answers: the text of its rows, or the SQLSTATE that it raises.
#[track_caller]
pub fn outcome(db: &Session, sql: &str) -> Result<String, String> {
    let messages = block_on(db.client().simple_query(sql))
        .map_err(|error| error.code().unwrap_or_else(|| panic!("{error} from: {sql}")).code().to_owned())?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let fields = |row: &SimpleQueryRow| {
        (0..row.len()).map(|at| row.get(at).unwrap_or("NULL").to_owned()).collect::<Vec<_>>().join("|")
    };
    Ok(rows.map(fields).collect::<Vec<_>>().join("\n"))
}

/// An SQL literal of any text.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
