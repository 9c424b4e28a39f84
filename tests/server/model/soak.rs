//! The vacuum as a service under load: the sessions of the model write, copy, delete, abort, prepare, truncate, rewrite
//! and drop, procedures hold values across their commits, autovacuum prunes, and the background vacuum visits every
//! second and purges at the first allowed moment, while all payloads are encrypted, decrypted and encrypted again. Every
//! table has a twin with plain bytea.
//!
//! RBYTEA_SOAK_SECONDS bounds the time (20 by default; `make soak`), RBYTEA_MODEL_SEED repeats a run as far as
//! concurrency allows.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::model::actor::Actor;
use crate::support::model::world::{Hiding, World};
use crate::support::model::{pairs, verdict};
use crate::support::runs::{number, text};
use crate::support::session::Session;

/// Sessions at work at the same time.
const ACTORS: usize = 6;

/// How long a run waits at an injection point at most.
const STAND: Duration = Duration::from_millis(250);

const SETTINGS: &[&str] = &[
    "rbytea.databases_for_vacuuming = 'postgres'",
    "rbytea.vacuum_naptime = 1s",
    "rbytea.trash_retention = 0",
    "rbytea.log_min_duration = 0",
    "rbytea.injection_points = on",
    "autovacuum = on",
    "autovacuum_naptime = 1s",
    "autovacuum_vacuum_threshold = 5",
    "autovacuum_analyze_threshold = 5",
];

/// Why a run may give up: it gave way, or transactions ended all the time. The next one will do.
const MAY_FAIL: &str =
    "the vacuum (could not lock table|gave way to another session|was given up)|canceling statement due to";

#[test]
fn the_background_vacuum_loses_nothing_and_leaves_nothing_under_load() {
    let seconds = number("RBYTEA_SOAK_SECONDS").unwrap_or(20);
    let seed = number("RBYTEA_MODEL_SEED").unwrap_or_else(rand::random);
    let mut cluster = Cluster::with_extension_and(SETTINGS);
    let key_file = cluster.data().join("rbytea.keys");
    write_key_file(&key_file);
    cluster.set_conf("rbytea.key_file = 'rbytea.keys'");
    cluster.reload();
    cluster.session().run(&pairs::setup());
    let world = World::new(&cluster, seed, Duration::from_secs(seconds), ACTORS, Hiding::InProcedures);
    let mut failures: Vec<String> = thread::scope(|scope| {
        let actors: Vec<_> = (0..ACTORS)
            .map(|number| {
                let world = &world;
                scope.spawn(move || Actor::new(world, number).live())
            })
            .collect();
        let rotation = scope.spawn(|| catch_unwind(AssertUnwindSafe(|| rotate(&cluster.session(), &world))));
        let stops = catch_unwind(AssertUnwindSafe(|| stop_runs(&cluster.session(), &world)));
        let rotation =
            rotation.join().unwrap_or_else(Err).map_err(|panic| text(&*panic)).and_then(|done| done);
        let ends = actors.into_iter().map(|actor| actor.join().unwrap_or_else(|panic| Err(text(&*panic))));
        let stops = stops.map_err(|panic| text(&*panic));
        ends.chain([stops, rotation]).filter_map(Result::err).collect()
    });
    let figures = figures(&cluster.session());
    // Not through the test harness, which shows the output of failed tests only.
    let _ =
        writeln!(std::io::stderr(), "soak: RBYTEA_MODEL_SEED={seed} {}\nsoak: {figures}", world.summary());
    if failures.is_empty() {
        let judged = catch_unwind(AssertUnwindSafe(|| judge(&mut cluster, &world)));
        failures.extend(judged.unwrap_or_else(|panic| Err(text(&*panic))).err());
    }
    assert!(
        failures.is_empty(),
        "{}\n\nRBYTEA_MODEL_SEED={seed} RBYTEA_SOAK_SECONDS={seconds}: {}",
        world.journals(),
        failures.join("\nand: ")
    );
}

/// Makes runs wait at their injection points for a while, so that a lot happens there; a mark of such small tables is over in an
/// instant otherwise.
fn stop_runs(db: &Session, world: &World) {
    let mut point = 0;
    while !world.is_over() {
        point = point % 5 + 1;
        db.run(&format!("select pg_advisory_lock(29282, {point})"));
        thread::sleep(STAND);
        db.run("select pg_advisory_unlock_all()");
        thread::sleep(STAND / 4);
    }
}

/// Two keys, readable by the server's user alone.
fn write_key_file(path: &Path) {
    let keys = format!("1 {}\n2 {}\n", "1f".repeat(32), "2e".repeat(32));
    fs::write(path, keys).unwrap();
    let data = fs::metadata(path.parent().unwrap()).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    chown(path, Some(data.uid()), Some(data.gid())).unwrap();
}

/// What may keep re-encryption from its rows: deadlocks, statements that lock without waiting, dropped tables and columns.
const MAY_STOP_ROTATION: &[&str] = &["40P01", "55P03", "42P01", "42809"];

/// Encrypts and decrypts the payloads of every table, again and again.
fn rotate(db: &Session, world: &World) -> Result<(), String> {
    let tables = "select distinct c.oid::text from pg_class c join pg_attribute a on a.attrelid = c.oid
                   where relkind = 'r' and relpersistence <> 't' and atttypid = 'rbytea'::regtype and not attisdropped";
    // A prepared transaction may have a row locked to the end.
    db.run("set lock_timeout = '1s'");
    let mut calls = 0;
    while !world.is_over() || calls < 2 {
        db.run(&format!("set rbytea.qss_mode = {}", calls % 2 == 0));
        for table in db.column::<String>(tables, &[]) {
            if let Err(error) = db.try_run(&format!("call rbytea_reencrypt({table}::oid::regclass, 3)")) {
                let code = error.code().map_or("no code", |code| code.code());
                if !MAY_STOP_ROTATION.contains(&code) {
                    return Err(format!("re-encryption of table {table} failed ({code}): {error:?}"));
                }
            }
        }
        calls += 1;
    }
    Ok(())
}

/// What the runs have done, by the history.
fn figures(db: &Session) -> String {
    db.text(
        "select string_agg(format('%s runs of %s (%s of the whole store, %s failed): %s trashed, %s brought back, %s purged',
                                  runs, origin, whole, failed, trashed, restored, purged), '; ' order by origin)
           from (select origin, count(*) as runs, count(*) filter (where lower = '0') as whole, count(error) as failed,
                        sum(trashed) as trashed, sum(restored) as restored, sum(purged) as purged
                   from rbytea.rbytea_vacuum_history group by origin) h",
    )
}

fn judge(cluster: &mut Cluster, world: &World) -> Result<(), String> {
    let db = cluster.session();
    let background = "from rbytea.rbytea_vacuum_history where origin = 'background' and error is null";
    for what in ["trashed", "purged"] {
        let sum: Option<i64> = db.one(&format!("select sum({what})::bigint {background}"), &[]);
        if sum.unwrap_or(0) == 0 {
            return Err(format!("the background vacuum has {what} nothing: what was tested?"));
        }
    }
    let unexpected: Vec<String> =
        db.column("select distinct error from rbytea.rbytea_vacuum_history where error !~ $1", &[&MAY_FAIL]);
    if !unexpected.is_empty() {
        return Err(format!("runs of the vacuum have failed: {unexpected:?}"));
    }
    drop(db);
    verdict::reach(cluster, world)?;
    // No row needs it, and no session is at work: TRASH has to become empty, and the background vacuum does it.
    wait_until(PATIENCE, || cluster.trash().is_empty());
    verdict::reach(cluster, world)
}
