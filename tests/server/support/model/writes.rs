//! Writing payloads that come from outside.

use super::actor::{Actor, Operation, Place};
use super::pairs::{Pair, Shape, Side};
use super::trouble::Done;
use crate::support::payload::Payload;

/// check_violation: no partition for the row. unique_violation: a row of the same id comes back from a partition that
/// was detached.
const USUAL: &[&str] = &["23514", "23505"];

const fn write(name: &'static str, weight: u32, run: fn(&mut Actor<'_>) -> Done) -> Operation {
    Operation { name, weight, place: Place::Inside, tolerates: USUAL, run }
}

/// What this module can do.
pub const OPERATIONS: &[Operation] = &[
    write("insert", 16, insert),
    write("bulk insert", 6, bulk_insert),
    write("constant", 4, constant),
    write("update payload", 10, update_payload),
    write("update n", 6, update_other_column),
    write("delete", 10, delete),
    write("copy in", 6, copy_in),
    write("upsert", 6, upsert),
    write("merge", 6, merge),
    write("payload without a row", 2, orphan),
    write("refused insert", 3, refused_insert),
];

fn insert(actor: &mut Actor<'_>) -> Done {
    let pair = actor.pair(|_| true)?;
    let (id, n, payload) = (actor.world.ids(1), n_of(actor, &pair), Payload(actor.bytes()));
    let ty = actor.one_of(&[true, false]);
    let value = |side: Side| if ty { format!("$3::{}", side.bytes()) } else { "$3::bytea".to_owned() };
    let sql = |side| {
        let (table, value) = (pair.on(side), pair.pack(side, &value(side)));
        format!("insert into {table} (id, n, payload) values ($1, $2, {value})")
    };
    actor.both(sql, &[&id, &n, &payload]).map(drop)
}

fn bulk_insert(actor: &mut Actor<'_>) -> Done {
    let pair = actor.pair(|_| true)?;
    let (count, seed) = (1 + actor.below(40) as i32, actor.seed());
    let (first, longest) = (actor.world.ids(count), if actor.chance(0.8) { 200 } else { 9_000 });
    let value = format!("gen({seed} + i, (i * 7919 + {seed}) % {longest})");
    let sql = |side| {
        format!(
            "insert into {} (id, n, payload) select {first} + i, {}, {} from generate_series(0, {count} - 1) i",
            pair.on(side),
            pair.fit("i"),
            pair.pack(side, &value)
        )
    };
    actor.both(sql, &[]).map(drop)
}

/// From a prepared statement whose payload is a constant.
fn constant(actor: &mut Actor<'_>) -> Done {
    let (id, n) = (actor.world.ids(1), actor.below(3));
    for side in [Side::Real, Side::Twin] {
        actor.run(&format!("execute constant{}({id}, {n})", side.suffix()))?;
    }
    Ok(())
}

fn update_payload(actor: &mut Actor<'_>) -> Done {
    let pair = actor.pair(|_| true)?;
    let ids = actor.lock_rows(&pair, 3)?;
    let payload = (!actor.chance(0.1)).then(|| Payload(actor.bytes()));
    let sql = |side: Side| {
        let value = pair.pack(side, &format!("$2::{}", side.bytes()));
        format!("update {} set payload = {value} where id = any($1)", pair.on(side))
    };
    actor.both(sql, &[&ids, &payload]).map(drop)
}

/// Moves rows between partitions.
fn update_other_column(actor: &mut Actor<'_>) -> Done {
    let pair = actor.pair(|_| true)?;
    let (ids, n) = (actor.lock_rows(&pair, 5)?, n_of(actor, &pair));
    let sql = |side| format!("update {} set n = {n} where id = any($1)", pair.on(side));
    actor.both(sql, &[&ids]).map(drop)
}

fn delete(actor: &mut Actor<'_>) -> Done {
    let pair = actor.pair(|_| true)?;
    let ids = actor.lock_rows(&pair, 12)?;
    actor.both(|side| format!("delete from {} where id = any($1)", pair.on(side)), &[&ids]).map(drop)
}

fn copy_in(actor: &mut Actor<'_>) -> Done {
    let pair = actor.pair(|pair| matches!(pair.shape, Shape::Plain | Shape::Changing))?;
    let count = 1 + actor.below(6) as i32;
    let first = actor.world.ids(count);
    let rows: Vec<(i32, i32, Vec<u8>)> =
        (first..first + count).map(|id| (id, n_of(actor, &pair), actor.bytes())).collect();
    let (format, data) = match actor.below(3) {
        0 => (
            "text",
            rows.iter().flat_map(|(id, n, bytes)| text_line(*id, *n, bytes, "\t", "\\\\x")).collect(),
        ),
        1 => ("csv", rows.iter().flat_map(|(id, n, bytes)| text_line(*id, *n, bytes, ",", "\\x")).collect()),
        _ => ("binary", binary(&rows)),
    };
    for side in [Side::Real, Side::Twin] {
        actor.run(&format!("lock table {} in row exclusive mode", pair.on(side)))?;
        let sql = format!("copy {} (id, n, payload) from stdin (format {format})", pair.on(side));
        let copied = actor.copy_in(&sql, &data)?;
        actor.expect(copied == rows.len() as u64, || format!("{copied} of {count} rows copied: {sql}"))?;
    }
    Ok(())
}

fn text_line(id: i32, n: i32, bytes: &[u8], separator: &str, hex: &str) -> Vec<u8> {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{id}{separator}{n}{separator}{hex}{digits}\n").into_bytes()
}

/// The binary format of COPY.
fn binary(rows: &[(i32, i32, Vec<u8>)]) -> Vec<u8> {
    let mut data = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for (id, n, bytes) in rows {
        data.extend(3_i16.to_be_bytes());
        for field in [&id.to_be_bytes()[..], &n.to_be_bytes(), bytes] {
            data.extend((field.len() as i32).to_be_bytes());
            data.extend(field);
        }
    }
    data.extend((-1_i16).to_be_bytes());
    data
}

/// A row that is there, or a new one. FOR UPDATE, because an old snapshot would see both the row that another session has
/// deleted and the one that takes its place.
fn old_or_new(actor: &mut Actor<'_>, pair: &Pair) -> Done<(i32, i32)> {
    if actor.chance(0.3) {
        return Ok((actor.world.ids(1), n_of(actor, pair)));
    }
    let ids = actor.lock_rows(pair, 1)?;
    let found = actor.rows(
        &format!(
            "select id, n from {} where id = any($1) order by n limit 1 for update",
            pair.on(Side::Twin)
        ),
        &[&ids],
    )?;
    // A row that has just been deleted comes back, or a new one comes.
    let id = ids.first().copied().unwrap_or_else(|| actor.world.ids(1));
    Ok(found.first().map_or_else(|| (id, n_of(actor, pair)), |row| (row.get(0), row.get(1))))
}

fn upsert(actor: &mut Actor<'_>) -> Done {
    let pair = actor.pair(|pair| pair.key < 100)?;
    let ((id, n), payload) = (old_or_new(actor, &pair)?, Payload(actor.bytes()));
    let what =
        actor.one_of(&["update set payload = excluded.payload", "update set payload = t.payload", "nothing"]);
    let sql = |side: Side| {
        let value = pair.pack(side, &format!("$3::{}", side.bytes()));
        let (table, key) = (pair.on(side), pair.primary_key);
        format!(
            "insert into {table} as t (id, n, payload) values ($1, $2, {value}) on conflict ({key}) do {what}"
        )
    };
    actor.both(sql, &[&id, &n, &payload]).map(drop)
}

fn merge(actor: &mut Actor<'_>) -> Done {
    let pair = actor.pair(|_| true)?;
    let ((id, n), payload) = (old_or_new(actor, &pair)?, Payload(actor.bytes()));
    let matched = actor.one_of(&["update set payload = s.payload", "delete", "do nothing"]);
    let sql = |side: Side| {
        let value = pair.pack(side, &format!("$3::{}", side.bytes()));
        format!(
            "merge into {} t using (select $1::int as id, $2::int as n, {value} as payload) s on t.id = s.id and t.n = s.n
             when matched then {matched}
             when not matched then insert (id, n, payload) values (s.id, s.n, s.payload)",
            pair.on(side)
        )
    };
    actor.both(sql, &[&id, &n, &payload]).map(drop)
}

/// A file that no row will ever refer to.
fn orphan(actor: &mut Actor<'_>) -> Done {
    let (seed, len) = (actor.seed(), actor.size());
    actor.rows(&format!("select uuid(rbytea_store(gen({seed}, {len})))"), &[]).map(drop)
}

/// Rows whose payloads were stored before the statement fails, in a subtransaction.
fn refused_insert(actor: &mut Actor<'_>) -> Done {
    let pair = actor.pair(|pair| pair.key < 100 && pair.name != "p")?;
    let (first, seed, len) = (actor.world.ids(3), actor.seed(), actor.size());
    let value = pair.pack(Side::Real, &format!("gen({seed}, {len})"));
    actor.run(&format!(
        "do $$ begin
             insert into {} (id, n, payload) select {first} + i % 3, {}, {value} from generate_series(0, 3) i;
             raise 'a row came twice';
         exception when unique_violation then null; end $$",
        pair.on(Side::Real),
        pair.fit("0"),
    ))
}

fn n_of(actor: &mut Actor<'_>, pair: &Pair) -> i32 {
    pair.ns.0 + actor.below(pair.ns.1 as u32) as i32
}
