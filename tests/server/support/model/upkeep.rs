//! Transactions, settings, and the two vacuums.

use super::actor::{Actor, Operation, Place, Transaction};
use super::pairs::Side;
use super::trouble::Done;

const fn border(name: &'static str, weight: u32, run: fn(&mut Actor<'_>) -> Done) -> Operation {
    Operation { name, weight, place: Place::Border, tolerates: &[], run }
}

const fn outside(name: &'static str, weight: u32, run: fn(&mut Actor<'_>) -> Done) -> Operation {
    Operation { name, weight, place: Place::Outside, tolerates: &[GIVEN_UP], run }
}

/// object_not_in_prerequisite_state: the horizon moved all the time.
const GIVEN_UP: &str = "55000";

/// What this module can do.
pub const OPERATIONS: &[Operation] = &[
    outside("begin", 90, begin),
    border("commit", 22, |actor| end(actor, "commit")),
    border("rollback", 7, |actor| end(actor, "rollback")),
    border("rollback to", 4, rollback_to),
    border("release", 3, release),
    // feature_not_supported: temporary tables or cursors were used.
    Operation { name: "prepare", weight: 5, place: Place::Border, tolerates: &["0A000"], run: prepare },
    // undefined_object, object_not_in_prerequisite_state: another session has done it, or does.
    Operation {
        name: "resolve",
        weight: 20,
        place: Place::Outside,
        tolerates: &["42704", "55000"],
        run: resolve,
    },
    // undefined_table: a table that was created on the way may be dropped meanwhile.
    Operation { name: "vacuum", weight: 8, place: Place::Outside, tolerates: &["42P01"], run: vacuum },
    Operation { name: "setting", weight: 3, place: Place::Anywhere, tolerates: &[], run: setting },
    outside("reconnect", 1, reconnect),
];

/// The vacuum by hand.
pub const BY_HAND: &[Operation] = &[
    outside("rvacuum", 10, rvacuum),
    // active_sql_transaction: this transaction has written.
    Operation {
        name: "rvacuum inside",
        weight: 3,
        place: Place::Inside,
        tolerates: &[GIVEN_UP, "25001"],
        run: rvacuum,
    },
];

/// The same now and then, where the background vacuum is at work.
pub const BESIDE_THE_BACKGROUND: &[Operation] = &[outside("rvacuum or rvacuum_purge", 1, rarely)];

fn begin(actor: &mut Actor<'_>) -> Done {
    let isolation = match actor.below(10) {
        0..6 => "read committed",
        6..9 => "repeatable read",
        _ => "serializable",
    };
    actor.run(&format!("begin isolation level {isolation}"))?;
    actor.transaction = Some(Transaction::default());
    Ok(())
}

/// If it is refused, a ROLLBACK follows, which does no harm where there is no transaction any more.
fn end(actor: &mut Actor<'_>, how: &str) -> Done {
    actor.run(how)?;
    actor.transaction = None;
    Ok(())
}

/// The name of a savepoint, and nothing in the transaction that is younger.
fn savepoint(actor: &mut Actor<'_>) -> Option<String> {
    let count = actor.transaction.as_ref()?.savepoints.len();
    let at = actor.below(count as u32) as usize;
    let transaction = actor.transaction.as_mut()?;
    transaction.savepoints.truncate(at + 1);
    transaction.savepoints.get(at).cloned()
}

fn rollback_to(actor: &mut Actor<'_>) -> Done {
    let Some(name) = savepoint(actor) else { return Ok(()) };
    actor.run(&format!("rollback to {name}"))
}

fn release(actor: &mut Actor<'_>) -> Done {
    let Some(name) = savepoint(actor) else { return Ok(()) };
    if let Some(transaction) = &mut actor.transaction {
        transaction.savepoints.pop();
    }
    actor.run(&format!("release {name}"))
}

fn prepare(actor: &mut Actor<'_>) -> Done {
    let prepared = actor.rows("select 1 from pg_prepared_xacts", &[])?.len();
    if prepared >= 4 || !actor.prepares() {
        return end(actor, "commit");
    }
    let name = actor.world.name();
    end(actor, &format!("prepare transaction 't{name}'"))
}

fn resolve(actor: &mut Actor<'_>) -> Done {
    let rows = actor.rows("select gid from pg_prepared_xacts order by prepared", &[])?;
    let Some(row) = rows.first() else { return Ok(()) };
    let (how, gid) = (actor.one_of(&["commit", "commit", "rollback"]), row.get::<_, String>(0));
    actor.run(&format!("{how} prepared '{gid}'"))
}

fn rvacuum(actor: &mut Actor<'_>) -> Done {
    let sql = if actor.chance(0.2) {
        "select action, uuid::text, bytes, reason from rvacuum_plan()"
    } else {
        "select rvacuum()"
    };
    actor.rows(sql, &[]).map(drop)
}

fn rarely(actor: &mut Actor<'_>) -> Done {
    if actor.chance(0.7) {
        return Ok(());
    }
    if actor.chance(0.5) { rvacuum(actor) } else { actor.rows("select rvacuum_purge()", &[]).map(drop) }
}

fn vacuum(actor: &mut Actor<'_>) -> Done {
    let created = if actor.chance(0.2) { actor.created()? } else { None };
    let pair = created.map_or_else(|| actor.pair(|_| true), Ok)?;
    let how = actor.one_of(&[
        "vacuum",
        "vacuum",
        "vacuum freeze",
        "vacuum full",
        "analyze",
        "vacuum analyze",
        "cluster",
    ]);
    for side in [Side::Real, Side::Twin] {
        let table = pair.on(side);
        match how {
            "cluster" if pair.name.starts_with('p') => {}
            "cluster" => actor.run(&format!("cluster {table} using {table}_pkey"))?,
            _ => actor.run(&format!("{how} {table}"))?,
        }
    }
    Ok(())
}

fn setting(actor: &mut Actor<'_>) -> Done {
    let setting = actor.one_of(&[
        "set rbytea.external_threshold = 0",
        "set rbytea.external_threshold = 0",
        "set rbytea.external_threshold = 1",
        "set rbytea.external_threshold = 100",
        "set rbytea.external_threshold = 10000",
        "set session_replication_role = replica",
        "set session_replication_role = origin",
        "set session_replication_role = origin",
        "set synchronous_commit = off",
        "set synchronous_commit = on",
        "set bytea_output = escape",
        "set bytea_output = hex",
        "set rbytea.verify = off",
        "set rbytea.verify = digest",
        "set rbytea.verify = checksum",
        "discard plans",
    ]);
    actor.run(setting)
}

/// The temporary tables go with the session.
fn reconnect(actor: &mut Actor<'_>) -> Done {
    actor.disconnect();
    Ok(())
}
