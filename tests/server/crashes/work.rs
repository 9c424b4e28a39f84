//! What a client does next. What a statement changes is noted before it is sent, so that a client whose connection breaks
//! knows what may have happened.

use std::sync::atomic::Ordering::SeqCst;

use rand::RngExt;

use super::client::{Client, Done, Trouble};
use super::transactions::Seed;

/// So many rows a client has about.
const ROWS: usize = 30;

type Work = fn(&mut Client<'_>) -> Done;

/// What can be a transaction of its own.
const SIMPLE: &[(u32, &str, Work)] = &[
    (10, "insert", insert),
    (5, "bulk insert", bulk_insert),
    (5, "copy in", copy_in),
    (8, "update", update),
    (5, "keep", |client| store(client, "select keep($1, $2, $3)")),
    (2, "orphan", orphan),
];

/// What needs a transaction block: what it changes is known only afterwards, or it is about the block.
const INSIDE: &[(u32, &str, Work)] = &[
    (8, "copy of a reference", copy_reference),
    (6, "replacement by a reference", replace_by_reference),
    (5, "references into an array", gather),
    (4, "reference out of an array", scatter),
    (1, "truncate", truncate),
    (6, "savepoint", savepoint),
    (4, "rollback to", rollback_to),
    (2, "release", release),
];

/// What is done outside of transaction blocks.
const OUTSIDE: &[(u32, &str, Work)] = &[
    (80, "begin", |client| client.begin()),
    (30, "single statement", |client| client.alone(simple)),
    (6, "procedure that holds a payload", |client| {
        client.alone(|client| store(client, "call hold($1, $2, $3)"))
    }),
    (4, "rvacuum", |client| client.run("select rvacuum()")),
    (4, "rvacuum_purge", |client| client.run("select rvacuum_purge()")),
    (2, "rbytea_reencrypt", reencrypt),
    (2, "vacuum", |client| client.run("vacuum")),
    (1, "checkpoint", checkpoint),
];

impl Client<'_> {
    /// The next step.
    pub fn step(&mut self) -> Done {
        if self.open.is_none() {
            if !self.transactions.prepared.is_empty() && self.chance(0.4) {
                self.world.count("second phase");
                return self.second_phase();
            }
            return choose(self, OUTSIDE);
        }
        match self.rng.random_range(0..10) {
            0..3 => finish(self),
            3..7 => simple(self),
            _ => choose(self, INSIDE),
        }
    }
}

fn choose(client: &mut Client<'_>, list: &[(u32, &str, Work)]) -> Done {
    let mut at = client.rng.random_range(0..list.iter().map(|(weight, _, _)| weight).sum());
    for (weight, name, work) in list {
        if at < *weight {
            client.world.count(name);
            return work(client);
        }
        at -= weight;
    }
    Ok(())
}

fn simple(client: &mut Client<'_>) -> Done {
    let rows = client.rows_here().len();
    if rows > ROWS && client.chance((rows as f64 / (4 * ROWS) as f64).min(0.8)) {
        client.world.count("delete");
        return delete(client);
    }
    choose(client, SIMPLE)
}

fn finish(client: &mut Client<'_>) -> Done {
    let truncated = client.open.as_ref().is_some_and(|open| open.truncated);
    match client.rng.random_range(0..10) {
        0..6 => {
            client.world.count("commit");
            client.commit()
        }
        6..8 => {
            client.world.count("rollback");
            client.rollback()
        }
        _ if truncated || !client.world.flushes.load(SeqCst) || client.transactions.prepared.len() > 1 => {
            client.commit()
        }
        _ => {
            client.world.count("prepare");
            client.prepare()
        }
    }
}

/// The table that all clients share, or this client's own.
fn table(client: &mut Client<'_>) -> String {
    if client.chance(0.7) { "shared".to_owned() } else { format!("own_{}", client.number) }
}

fn expect(truth: bool, otherwise: &str) -> Done {
    if truth { Ok(()) } else { Err(Trouble::Bug(otherwise.to_owned())) }
}

// --- payloads ----------------------------------------------------------------------------------------------

fn insert(client: &mut Client<'_>) -> Done {
    let (table, id) = (table(client), client.id());
    let (seed, payload) = client.world.payload(&mut client.rng);
    client.changed(&table, id, Some(vec![seed]));
    client
        .execute(&format!("insert into {table} values ($1, $2, $3::bytea)"), &[&id, &seed, &payload])
        .map(drop)
}

/// Through a function or a procedure that puts the payload into `shared`.
fn store(client: &mut Client<'_>, sql: &str) -> Done {
    let id = client.id();
    let (seed, payload) = client.world.payload(&mut client.rng);
    client.changed("shared", id, Some(vec![seed]));
    client.execute(sql, &[&id, &seed, &payload]).map(drop)
}

/// Ids, numbers and payloads of some new rows.
fn several(client: &mut Client<'_>, table: &str, most: usize) -> (Vec<i64>, Vec<Seed>, Vec<Vec<u8>>) {
    let (mut ids, mut seeds, mut payloads) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..client.rng.random_range(2..most) {
        let id = client.id();
        let (seed, payload) = client.world.payload(&mut client.rng);
        client.changed(table, id, Some(vec![seed]));
        ids.push(id);
        seeds.push(seed);
        payloads.push(payload);
    }
    (ids, seeds, payloads)
}

fn bulk_insert(client: &mut Client<'_>) -> Done {
    let table = table(client);
    let (ids, seeds, payloads) = several(client, &table, 25);
    let sql =
        format!("insert into {table} select unnest($1::bigint[]), unnest($2::bigint[]), unnest($3::bytea[])");
    client.execute(&sql, &[&ids, &seeds, &payloads]).map(drop)
}

fn copy_in(client: &mut Client<'_>) -> Done {
    let table = table(client);
    let (ids, seeds, payloads) = several(client, &table, 12);
    let mut data = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for ((id, seed), payload) in ids.iter().zip(&seeds).zip(&payloads) {
        data.extend(3_i16.to_be_bytes());
        for field in [&id.to_be_bytes()[..], &seed.to_be_bytes(), payload] {
            data.extend((field.len() as i32).to_be_bytes());
            data.extend(field);
        }
    }
    data.extend((-1_i16).to_be_bytes());
    client.copy_in(&format!("copy {table} from stdin (format binary)"), &data).map(drop)
}

fn update(client: &mut Client<'_>) -> Done {
    let Some((table, id)) = client.some_row(|name| name != "lists") else { return insert(client) };
    let (seed, payload) = client.world.payload(&mut client.rng);
    client.changed(&table, id, Some(vec![seed]));
    let sql = format!("update {table} set seed = $2, r = $3::bytea where id = $1");
    let rows = client.execute(&sql, &[&id, &seed, &payload])?;
    expect(rows == 1, "a row that has to be there cannot be updated")
}

/// A file that no row will ever refer to.
fn orphan(client: &mut Client<'_>) -> Done {
    let (_, payload) = client.world.payload(&mut client.rng);
    client.rows("select uuid(rbytea_store($1))::text", &[&payload]).map(drop)
}

fn delete(client: &mut Client<'_>) -> Done {
    for _ in 0..client.rng.random_range(1..4) {
        let Some((table, id)) = client.some_row(|_| true) else { return Ok(()) };
        client.changed(&table, id, None);
        let rows = client.execute(&format!("delete from {table} where id = $1"), &[&id])?;
        expect(rows == 1, "a row that has to be there cannot be deleted")?;
        if client.open.as_ref().is_none_or(|open| !open.block) {
            return Ok(());
        }
    }
    Ok(())
}

// --- references --------------------------------------------------------------------------------------------

/// An id that a row of any client may have. The rows of `shared` that are used from here on may be another client's.
fn any_id(client: &mut Client<'_>) -> i64 {
    let last = client.transactions.rows().keys().map(|(_, id)| *id).max().unwrap_or(0);
    client.rng.random_range(0..=last)
}

/// The numbers of the payloads that the server says it has put into the row.
fn noted(client: &mut Client<'_>, table: &str, id: i64, sql: &str) -> Done {
    let from = any_id(client);
    let rows = client.rows(sql, &[&id, &from])?;
    if let Some(row) = rows.first() {
        client.changed(table, id, Some(row.get(0)));
    }
    Ok(())
}

fn copy_reference(client: &mut Client<'_>) -> Done {
    let (table, id) = (table(client), client.id());
    let sql = format!(
        "insert into {table} select $1, seed, r from shared where id >= $2 order by id limit 1 returning array[seed]"
    );
    noted(client, &table, id, &sql)
}

fn replace_by_reference(client: &mut Client<'_>) -> Done {
    let Some((table, id)) = client.some_row(|name| name != "lists") else { return Ok(()) };
    let sql = format!(
        "update {table} t set seed = s.seed, r = s.r from (select * from shared where id >= $2 order by id limit 1) s
          where t.id = $1 returning array[t.seed]"
    );
    noted(client, &table, id, &sql)
}

fn gather(client: &mut Client<'_>) -> Done {
    let id = client.id();
    let sql = "insert into lists select $1, array_agg(seed order by id), array_agg(r order by id)
                 from (select * from shared where id >= $2 order by id limit 4) s having count(*) > 0 returning seeds";
    noted(client, "lists", id, sql)
}

fn scatter(client: &mut Client<'_>) -> Done {
    let (table, id) = (table(client), client.id());
    let sql = format!(
        "insert into {table} select $1, seeds[1], rs[1] from lists where id >= $2 order by id limit 1 returning array[seed]"
    );
    noted(client, &table, id, &sql)
}

// --- blocks ------------------------------------------------------------------------------------------------

fn truncate(client: &mut Client<'_>) -> Done {
    let own = format!("own_{}", client.number);
    if !client.world.flushes.load(SeqCst)
        || client.transactions.frozen().iter().any(|(table, _)| *table == own)
    {
        return Ok(());
    }
    client.run(&format!("truncate {own}"))?;
    for (table, id) in client.rows_here().into_keys().filter(|(table, _)| *table == own) {
        client.changed(&table, id, None);
    }
    if let Some(open) = &mut client.open {
        open.truncated = true;
    }
    Ok(())
}

fn savepoint(client: &mut Client<'_>) -> Done {
    let name = format!("s{}", client.id());
    client.run(&format!("savepoint {name}"))?;
    if let Some(open) = &mut client.open {
        open.savepoints.push((name, open.changes.len()));
    }
    Ok(())
}

fn rollback_to(client: &mut Client<'_>) -> Done {
    let Some(open) = &mut client.open else { return Ok(()) };
    let Some((name, changes)) = open.savepoints.last().cloned() else { return Ok(()) };
    open.changes.truncate(changes);
    client.run(&format!("rollback to {name}"))
}

fn release(client: &mut Client<'_>) -> Done {
    let Some((name, _)) = client.open.as_mut().and_then(|open| open.savepoints.pop()) else { return Ok(()) };
    client.run(&format!("release {name}"))
}

// --- the extension's own -----------------------------------------------------------------------------------

fn checkpoint(client: &mut Client<'_>) -> Done {
    if client.world.flushes.load(SeqCst) { client.run("checkpoint") } else { Ok(()) }
}

fn reencrypt(client: &mut Client<'_>) -> Done {
    let table = table(client);
    client.run(&format!("call rbytea_reencrypt('{table}', 5)"))
}
