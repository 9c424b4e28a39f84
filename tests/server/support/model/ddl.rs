//! Definitions that change under the rows.

use super::actor::{Actor, Operation, Place};
use super::pairs::{Pair, Side};
use super::trouble::Done;

const fn ddl(
    name: &'static str,
    weight: u32,
    tolerates: &'static [&'static str],
    run: fn(&mut Actor<'_>) -> Done,
) -> Operation {
    Operation { name, weight, place: Place::Inside, tolerates, run }
}

/// object_in_use: a cursor of this session is open.
const IN_USE: &str = "55006";

/// What this module can do.
pub const OPERATIONS: &[Operation] = &[
    ddl("truncate", 1, &[IN_USE], truncate),
    ddl("create table as", 3, &[], create_table_as),
    ddl("drop table", 2, &[IN_USE], drop_table),
    // undefined_column, duplicate_column: another session has made or dropped the column before.
    ddl("alter column", 3, &[IN_USE, "42703", "42701"], alter_column),
    ddl("rewrite", 2, &[IN_USE], rewrite),
    // undefined_table, wrong_object_type: attached, or not attached, already.
    ddl("attach or detach", 3, &[IN_USE, "42P01", "42809"], attach_or_detach),
    // unique_violation: CONCURRENTLY compares with a view that others have refreshed since the snapshot.
    Operation {
        name: "refresh",
        weight: 3,
        place: Place::Anywhere,
        tolerates: &[IN_USE, "23505"],
        run: refresh,
    },
];

fn both_tables(actor: &mut Actor<'_>, sql: impl Fn(Side) -> String) -> Done {
    actor.run(&sql(Side::Real))?;
    actor.run(&sql(Side::Twin))
}

fn truncate(actor: &mut Actor<'_>) -> Done {
    let pair = actor.pair(|_| true)?;
    actor.run(&format!("truncate {}, {}", pair.on(Side::Real), pair.on(Side::Twin)))
}

/// Of payloads that are there, of new ones, and of both.
fn create_table_as(actor: &mut Actor<'_>) -> Done {
    let from = actor.source()?;
    let ids = actor.lock_rows(&from, 6)?;
    let to = Pair::created(actor.world.name());
    let (first, seed, len) = (actor.world.ids(3 * ids.len() as i32 + 10), actor.seed(), actor.size());
    let select_into = actor.chance(0.3);
    let new = actor.one_of(&["", "union all", "union all"]);
    let fresh = if new.is_empty() { 0 } else { 5 };
    both_tables(actor, |side| {
        let (table, source, value, bytes) = (to.on(side), from.on(side), from.unpack("s"), side.bytes());
        let ids = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let rows = format!(
            "select s.id, s.n, {value}::{bytes} as payload from {source} s where s.id = any('{{{ids}}}')
             union all select 0, i, gen({seed} + i, {len} / i)::{bytes} from generate_series(1, {fresh}) i"
        );
        let numbered =
            format!("({first} + row_number() over (order by id, n))::int as id, n % 3 as n, payload");
        let create = if select_into {
            format!("select {numbered} into {table} from ({rows}) r")
        } else {
            format!("create table {table} as select {numbered} from ({rows}) r")
        };
        format!("{create}; alter table {table} add primary key (id)")
    })
}

fn drop_table(actor: &mut Actor<'_>) -> Done {
    let Some(pair) = actor.created()? else { return Ok(()) };
    actor.run(&format!("drop table {}, {}", pair.on(Side::Real), pair.on(Side::Twin)))
}

/// Adds, converts and drops columns of `alt`.
fn alter_column(actor: &mut Actor<'_>) -> Done {
    let (seed, len, choice) = (actor.seed(), actor.size().min(5_000), actor.below(9));
    actor.run("lock table alt, alt_twin")?;
    both_tables(actor, |side| {
        let (table, bytes, is_real) = (format!("alt{}", side.suffix()), side.bytes(), side == Side::Real);
        // The twin is rewritten too: what a rewrite hides from older snapshots has to be the same.
        let convert = |column: &str, ty: &str, using: &str| {
            let (ty, using) =
                if is_real { (ty, using.to_owned()) } else { ("bytea", format!("{column} || ''")) };
            format!("alter table {table} alter {column} type {ty} using {using}")
        };
        match choice {
            0 => convert("payload", "bytea", "payload || ''"),
            1 => convert("payload", "rbytea", "(payload || '')::rbytea"),
            2 => convert("payload", "rbytea", "rbytea_store(payload)"),
            3 => format!("alter table {table} add extra {bytes}"),
            4 => format!("alter table {table} add extra {bytes} default '\\x0102'"),
            5 => format!(
                "alter table {table} add extra {bytes} default gen(({seed} + random() * 0)::int, {len})"
            ),
            6 => format!("alter table {table} add extra {bytes}; update {table} set extra = payload"),
            7 => convert("extra", "rbytea", "(extra || '')::rbytea"),
            _ => format!("alter table {table} drop extra"),
        }
    })
}

/// Rewrites all rows, without touching what they hold. No constraint stands on `n`: under an older snapshot PostgreSQL 18 does not find a
/// NOT NULL constraint that another session has made anew ("could not find tuple for constraint").
fn rewrite(actor: &mut Actor<'_>) -> Done {
    // The view stands on `a`.
    let pair = actor.pair(|pair| !pair.name.starts_with('p') && pair.name != "a")?;
    let how = actor.one_of(&["alter n type int using n + 0", "set logged", "set unlogged"]);
    both_tables(actor, |side| format!("alter table {} {how}", pair.on(side)))
}

fn attach_or_detach(actor: &mut Actor<'_>) -> Done {
    actor.run("lock table p, p_twin, p_2, p_2_twin")?;
    let what =
        actor.one_of(&["attach partition p_2{S} for values from (2) to (3)", "detach partition p_2{S}"]);
    both_tables(actor, |side| {
        format!("alter table p{} {}", side.suffix(), what.replace("{S}", side.suffix()))
    })
}

fn refresh(actor: &mut Actor<'_>) -> Done {
    let how = actor.one_of(&["", "concurrently"]);
    actor.run(&format!("refresh materialized view {how} mv"))
}
