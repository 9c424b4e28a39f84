//! PL/pgSQL: values that live in variables, past rolled-back subtransactions and past the ends of transactions.

use super::actor::{Actor, Operation, Place};
use super::pairs::{Pair, Side};
use super::trouble::Done;
use super::world::Hiding;

/// What this module can do.
pub const OPERATIONS: &[Operation] = &[Operation {
    name: "exception block",
    weight: 8,
    place: Place::Inside,
    tolerates: &["23514", "23505"],
    run: exception_block,
}];

/// What holds a reference where no vacuum sees it.
pub const HIDDEN: &[Operation] = &[Operation {
    name: "procedure",
    weight: 14,
    place: Place::Outside,
    tolerates: &["23514", "23505"],
    run: procedure,
}];

/// Stores a value, rolls that back, and stores the value that the variable still holds.
fn exception_block(actor: &mut Actor<'_>) -> Done {
    let pair = actor.pair(|_| true)?;
    let (lost, kept) = (actor.world.ids(1), actor.world.ids(1));
    let value = format!("gen({}, {})", actor.seed(), actor.size());
    let end = actor.one_of(&["raise exception 'no'", "perform 1 / 0", "null"]);
    let sql = |side: Side| {
        let (table, n) = (pair.on(side), pair.fit("1"));
        format!(
            "do $$ declare v {}; begin
                 begin
                     insert into {table} as t (id, n, payload) values ({lost}, {n}, {}) returning {} into v;
                     {end};
                 exception when raise_exception or division_by_zero then null; end;
                 insert into {table} (id, n, payload) values ({kept}, {n}, {});
             end $$",
            side.bytes(),
            pair.pack(side, &value),
            pair.unpack("t"),
            pair.pack(side, "v")
        )
    };
    actor.run(&sql(Side::Real))?;
    actor.run(&sql(Side::Twin))
}

const VACUUM: &str =
    "begin perform rvacuum(); exception when lock_not_available or deadlock_detected or object_not_in_prerequisite_state
                or active_sql_transaction then null; end;";

/// Until the background vacuum has come by.
const WAIT: &str = "perform pg_sleep(0.3);";

/// Holds a value in a variable across COMMIT and ROLLBACK, while its row goes and the vacuum comes, and stores it.
fn procedure(actor: &mut Actor<'_>) -> Done {
    let (from, to) = (actor.pair(|pair| pair.key < 100)?, actor.pair(|pair| pair.key < 100)?);
    let mut body = if actor.chance(0.5) { of_a_row(actor, &from)? } else { of_a_new_row(actor, &from) };
    body += actor.one_of(&["commit;", "rollback;"]);
    let vacuum = if actor.world.hiding == Hiding::InProcedures { WAIT } else { VACUUM };
    for _ in 0..actor.below(4) {
        body += actor.one_of(&["perform pg_sleep(0.02);", vacuum, "commit;", "rollback;"]);
    }
    for id in [actor.world.ids(1), actor.world.ids(1)].into_iter().take(1 + actor.below(2) as usize) {
        let n = to.fit(&actor.below(3).to_string());
        for (side, variable) in [(Side::Real, "v"), (Side::Twin, "w")] {
            let (table, value) = (to.on(side), to.pack(side, variable));
            body += &format!("insert into {table} (id, n, payload) values ({id}, {n}, {value});");
        }
        body += actor.one_of(&["commit;", "rollback;", ""]);
    }
    actor.run(&format!("do $$ declare v rbytea; w bytea; begin {body} end $$"))
}

/// Takes the value of a row, and deletes the row at times.
fn of_a_row(actor: &mut Actor<'_>, from: &Pair) -> Done<String> {
    let salt = actor.seed();
    let one = format!("select id from {} order by hashint4(id + {salt}) limit 1", from.on(Side::Twin));
    let rows = actor.rows(&one, &[])?;
    let id: i32 = rows.first().map_or(0, |row| row.get(0));
    let (key, real, twin) = (from.key, from.on(Side::Real), from.on(Side::Twin));
    let (v, w) = (from.unpack("x"), from.unpack("t"));
    let mut body = format!(
        "perform pg_advisory_xact_lock({key}, {id});
         select {v}, {w} into v, w from {real} x join {twin} t using (id, n) where id = {id} order by n limit 1;"
    );
    if actor.chance(0.5) {
        body += &format!("delete from {real} where id = {id}; delete from {twin} where id = {id};");
    }
    Ok(body)
}

/// Stores a value and takes it back from the row.
fn of_a_new_row(actor: &mut Actor<'_>, from: &Pair) -> String {
    let (id, value) = (actor.world.ids(1), format!("gen({}, {})", actor.seed(), actor.size()));
    [(Side::Real, "v"), (Side::Twin, "w")]
        .map(|(side, variable)| {
            format!(
                "insert into {} as t (id, n, payload) values ({id}, {}, {}) returning {} into {variable};",
                from.on(side),
                from.fit("0"),
                from.pack(side, &value),
                from.unpack("t")
            )
        })
        .concat()
}
