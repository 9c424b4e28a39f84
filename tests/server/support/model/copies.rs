//! Copying what is in a row to another row: no payload is read, only the reference goes on.

use super::actor::{Actor, Operation, Place};
use super::pairs::{Pair, Side};
use super::trouble::Done;

/// check_violation: no partition for the row. unique_violation: see writes.rs.
const USUAL: &[&str] = &["23514", "23505"];

const fn copy(name: &'static str, weight: u32, run: fn(&mut Actor<'_>) -> Done) -> Operation {
    Operation { name, weight, place: Place::Inside, tolerates: USUAL, run }
}

/// What this module can do.
pub const OPERATIONS: &[Operation] = &[
    copy("update from a row", 8, update_from_row),
    copy("insert from rows", 8, insert_from_rows),
    copy("move rows", 6, move_rows),
    copy("swap", 3, swap),
    copy("gather into an array", 4, gather),
    copy("scatter an array", 4, scatter),
    copy("from the view", 3, from_view),
];

/// What holds a reference where no vacuum sees it.
pub const HIDDEN: &[Operation] = &[copy("by a temporary table", 6, by_temporary)];

/// The payload of one row becomes that of some others.
fn update_from_row(actor: &mut Actor<'_>) -> Done {
    let (from, to) = (actor.source()?, actor.pair(|_| true)?);
    let (source, ids) = (actor.lock_rows(&from, 1)?, actor.lock_rows(&to, 3)?);
    let sql = |side| {
        let value = format!(
            "(select {} from {} s where s.id = any($1) order by n limit 1)",
            from.unpack("s"),
            from.on(side)
        );
        format!("update {} set payload = {} where id = any($2)", to.on(side), to.pack(side, &value))
    };
    actor.both(sql, &[&source, &ids]).map(drop)
}

fn insert_from_rows(actor: &mut Actor<'_>) -> Done {
    let (from, to) = (actor.source()?, actor.pair(|_| true)?);
    let ids = actor.lock_rows(&from, 8)?;
    insert_copies(actor, &from, &to, &ids)
}

/// Copies of the rows with these ids, which are locked, under new ids.
fn insert_copies(actor: &mut Actor<'_>, from: &Pair, to: &Pair, ids: &[i32]) -> Done {
    // Of a partitioned table there may be several rows of an id.
    let first = actor.world.ids(3 * ids.len() as i32 + 1);
    let sql = |side| {
        format!(
            "insert into {} (id, n, payload)
             select {first} + row_number() over (order by s.id, s.n), {}, {} from {} s where s.id = any($1)",
            to.on(side),
            to.fit("s.n"),
            to.pack(side, &from.unpack("s")),
            from.on(side)
        )
    };
    actor.both(sql, &[&ids]).map(drop)
}

/// Rows leave one table and come into another in the same statement.
fn move_rows(actor: &mut Actor<'_>) -> Done {
    let (from, to) = (actor.pair(|_| true)?, actor.pair(|_| true)?);
    let ids = actor.lock_rows(&from, 5)?;
    let first = actor.world.ids(3 * ids.len() as i32 + 1);
    let sql = |side| {
        format!(
            "with s as (delete from {} where id = any($1) returning id, n, payload)
             insert into {} (id, n, payload) select {first} + row_number() over (order by s.id, s.n), {}, {} from s",
            from.on(side),
            to.on(side),
            to.fit("s.n"),
            to.pack(side, &from.unpack("s")),
        )
    };
    actor.both(sql, &[&ids]).map(drop)
}

/// Some rows of a table exchange what they hold.
fn swap(actor: &mut Actor<'_>) -> Done {
    let pair = actor.pair(|_| true)?;
    let ids = actor.lock_rows(&pair, 4)?;
    let mut turned = ids.clone();
    turned.rotate_left(1.min(ids.len()));
    let sql = |side| {
        let table = pair.on(side);
        format!(
            "update {table} t set payload = (select s.payload from {table} s
                 where s.id = ($2::int[])[array_position($1::int[], t.id)] order by n limit 1) where id = any($1)"
        )
    };
    actor.both(sql, &[&ids, &turned]).map(drop)
}

/// Payloads of many rows in an array, or in a composite value with an array.
fn gather(actor: &mut Actor<'_>) -> Done {
    let (from, to) = (actor.source()?, actor.one_of(&["l", "c"]));
    let ids = actor.lock_rows(&from, 10)?;
    let id = actor.world.ids(1);
    let sql = |side: Side| {
        let array = format!("array_agg({}::{} order by s.id, s.n)", from.unpack("s"), side.bytes());
        let value = match to {
            "l" => array,
            _ => format!("row('gathered', null, {array})::item{}", side.suffix()),
        };
        let (into, table) = (side.suffix(), from.on(side));
        format!(
            "insert into {to}{into} (id, n, payload) select $1, 0, {value} from {table} s where s.id = any($2)"
        )
    };
    actor.both(sql, &[&id, &ids]).map(drop)
}

/// The elements of arrays in rows of their own.
fn scatter(actor: &mut Actor<'_>) -> Done {
    let (from, to) = (actor.pair(|pair| pair.name == "l")?, actor.pair(|_| true)?);
    let ids = actor.lock_rows(&from, 2)?;
    let first = actor.world.ids(100);
    let sql = |side| {
        format!(
            "insert into {} (id, n, payload)
             select {first} + row_number() over (order by s.id, o), {}, {} from {} s, unnest(s.payload) with ordinality e (v, o)
             where s.id = any($1) order by s.id, o limit 100",
            to.on(side),
            to.fit("s.n"),
            to.pack(side, "v"),
            from.on(side)
        )
    };
    actor.both(sql, &[&ids]).map(drop)
}

/// The view holds both types; it may be refreshed between two statements, so there is only one.
fn from_view(actor: &mut Actor<'_>) -> Done {
    let to = actor.pair(|_| true)?;
    let (first, salt) = (actor.world.ids(5), actor.seed());
    let into = |side, column| {
        let (table, n) = (to.on(side), to.fit("s.n"));
        format!("insert into {table} (id, n, payload) select s.id, {n}, {} from s", to.pack(side, column))
    };
    let sql = format!(
        "with s as materialized (select ({first} + row_number() over ())::int as id, n, payload, twin
                                 from (select * from mv order by hashint4(id + {salt}) limit 4) v),
              real as ({})
         {}",
        into(Side::Real, "payload"),
        into(Side::Twin, "twin")
    );
    actor.execute(&sql, &[]).map(drop)
}

/// To the session's own temporary table, and from there.
fn by_temporary(actor: &mut Actor<'_>) -> Done {
    let temporary = Pair::temporary();
    if actor.chance(0.5) {
        let from = actor.source()?;
        let ids = actor.lock_rows(&from, 4)?;
        insert_copies(actor, &from, &temporary, &ids)
    } else {
        let to = actor.pair(|_| true)?;
        let ids = actor.lock_rows(&temporary, 4)?;
        insert_copies(actor, &temporary, &to, &ids)?;
        if actor.chance(0.5) {
            actor.both(|side| format!("delete from {} where id = any($1)", temporary.on(side)), &[&ids])?;
        }
        Ok(())
    }
}
