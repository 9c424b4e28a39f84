//! Reading: at any moment, a session sees the same bytes in a row and in its twin.

use super::actor::{Actor, Operation, Place};
use super::pairs::{Pair, Shape, Side};
use super::trouble::Done;
use crate::support::payload::Payload;

/// What this module can do.
pub const OPERATIONS: &[Operation] = &[
    Operation { name: "check rows", weight: 20, place: Place::Anywhere, tolerates: &[], run: rows },
    Operation { name: "check table", weight: 4, place: Place::Anywhere, tolerates: &[], run: table },
    // feature_not_supported: ALTER TABLE came between preparing the statement and executing it.
    Operation { name: "check client", weight: 6, place: Place::Anywhere, tolerates: &["0A000"], run: client },
    Operation { name: "check view", weight: 3, place: Place::Anywhere, tolerates: &[], run: view },
];

/// References in cursors WITH HOLD.
pub const HELD: &[Operation] = &[
    Operation { name: "declare", weight: 2, place: Place::Inside, tolerates: &[], run: declare },
    // invalid_cursor_name: its transaction was rolled back.
    Operation { name: "fetch", weight: 6, place: Place::Outside, tolerates: &["34000"], run: fetch },
];

/// Rows of x (a table) and t (its twin) that differ, of all rows or of those with the ids $1.
pub fn differing(pair: &Pair, of_ids: bool, differ: &str) -> String {
    let filter = if of_ids { "where id = any($1)" } else { "" };
    let rows = |side| format!("(select *, true as here from {} {filter})", pair.on(side));
    format!(
        "select id, n, x.here is not null, t.here is not null from {} x full join {} t using (id, n)
         where x.here is distinct from t.here or {differ}",
        rows(Side::Real),
        rows(Side::Twin)
    )
}

/// The ways to compare the payloads of x and t.
pub fn comparisons(pair: &Pair) -> &'static [&'static str] {
    match pair.shape {
        Shape::Array | Shape::Composite => &["x.payload::text is distinct from t.payload::text"],
        Shape::Changing => &["x.payload::bytea is distinct from t.payload"],
        Shape::Plain => &[
            "x.payload::bytea is distinct from t.payload",
            "md5sum(x.payload) is distinct from md5(t.payload)",
            "sha256(x.payload) is distinct from sha256(t.payload)",
            "x.payload is distinct from t.payload::rbytea",
            "len(x.payload) is distinct from octet_length(t.payload)",
            "substring(x.payload from 60 for 70) is distinct from substring(t.payload from 60 for 70)",
            "x.payload::text is distinct from t.payload::text",
        ],
    }
}

/// Any pair that this session can see.
fn any(actor: &mut Actor<'_>) -> Done<Pair> {
    if actor.has_temporary() && actor.chance(0.1) { Ok(Pair::temporary()) } else { actor.source() }
}

fn rows(actor: &mut Actor<'_>) -> Done {
    let pair = any(actor)?;
    let salt = actor.seed();
    let some = format!("select id from {} order by hashint4(id + {salt}) limit 5", pair.on(Side::Twin));
    let ids = actor.rows(&some, &[])?;
    let ids: Vec<i32> = ids.iter().map(|row| row.get(0)).collect();
    let sql = differing(&pair, true, actor.one_of(comparisons(&pair)));
    let found = actor.rows(&sql, &[&ids])?;
    refuse(actor, &sql, &found)
}

fn table(actor: &mut Actor<'_>) -> Done {
    let pair = any(actor)?;
    let sql = differing(&pair, false, actor.one_of(comparisons(&pair)));
    let found = actor.rows(&sql, &[])?;
    refuse(actor, &sql, &found)
}

fn refuse(actor: &Actor<'_>, sql: &str, found: &[tokio_postgres::Row]) -> Done {
    let rows: Vec<(i32, i32, bool, bool)> =
        found.iter().map(|r| (r.get(0), r.get(1), r.get(2), r.get(3))).collect();
    actor.expect(rows.is_empty(), || {
        format!("rows differ from their twins (id, n, in the table, in the twin): {rows:?}\nby: {sql}")
    })
}

/// What a client receives in binary.
fn client(actor: &mut Actor<'_>) -> Done {
    let pair = any(actor)?;
    let sql = format!(
        "select id, {} as v, {} as w from {} x join {} t using (id, n) order by hashint4(id + {}) limit 3",
        pair.unpack("x"),
        pair.unpack("t"),
        pair.on(Side::Real),
        pair.on(Side::Twin),
        actor.seed()
    );
    let rows = actor.rows(&sql, &[])?;
    same(actor, &rows)
}

/// Rows with an id, the payload and what it should be.
fn same(actor: &Actor<'_>, rows: &[tokio_postgres::Row]) -> Done {
    for row in rows {
        let (payload, twin): (Option<Payload>, Option<Payload>) = (row.get(1), row.get(2));
        actor.expect(payload == twin, || {
            format!("the client got other bytes for row {}", row.get::<_, i32>(0))
        })?;
    }
    Ok(())
}

fn view(actor: &mut Actor<'_>) -> Done {
    let found = actor.rows("select id from mv where payload::bytea is distinct from twin", &[])?;
    let ids: Vec<i32> = found.iter().map(|row| row.get(0)).collect();
    actor.expect(ids.is_empty(), || format!("the view shows other bytes in the rows {ids:?}"))
}

/// What a cursor WITH HOLD has read can be read when its row has long gone, and its file to TRASH.
fn declare(actor: &mut Actor<'_>) -> Done {
    let pair = any(actor)?;
    let name = format!("c{}", actor.world.name());
    actor.run(&format!(
        "declare {name} cursor with hold for select id, {} as v, {} as w from {} x join {} t using (id, n) limit 20",
        pair.unpack("x"),
        pair.unpack("t"),
        pair.on(Side::Real),
        pair.on(Side::Twin)
    ))?;
    actor.cursors.push(name);
    Ok(())
}

fn fetch(actor: &mut Actor<'_>) -> Done {
    if actor.cursors.is_empty() {
        return Ok(());
    }
    let at = actor.below(actor.cursors.len() as u32) as usize;
    // It stays in the list only if there is more to come.
    let name = actor.cursors.swap_remove(at);
    let rows = actor.rows(&format!("fetch 3 from {name}"), &[])?;
    same(actor, &rows)?;
    if rows.is_empty() {
        return actor.run(&format!("close {name}"));
    }
    actor.cursors.push(name);
    Ok(())
}
