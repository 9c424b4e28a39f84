//! What rbytea_check() takes: memory that does not grow with what it looks at, and no longer than it is allowed to.

use std::fs;
use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;

use crate::check::healthy::{check, finds_nothing};
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::{Cluster, PATIENCE, SOON, wait_until};
use crate::support::procfs::peak_memory;
use crate::support::twin_tables::cluster_with;

/// The most that a new session's memory grows by these statements, in kilobytes.
fn growth(cluster: &Cluster, statements: &[&str]) -> u64 {
    let db = cluster.session();
    db.run("set maintenance_work_mem = '1MB'; set work_mem = '64kB'");
    // What is loaded and cached in any case.
    db.run("select count(*) from rbytea_check('warm', true); select count(*) from rbytea_check()");
    let before = peak_memory(db.pid());
    statements.iter().for_each(|sql| db.run(sql));
    // The kernel's own mark is a few pages off and may be lower afterwards (proc_pid_status(5): "inaccurate").
    peak_memory(db.pid()).saturating_sub(before) >> 10
}

#[test]
fn memory_does_not_grow_with_rows_files_or_findings() {
    let cluster = cluster_with(&["fsync = off", "shared_buffers = 16MB", "max_wal_size = 4GB"]);
    let db = cluster.session();
    db.run("create table warm (n int, r rbytea); insert into warm select n, payload(n) from generate_series(1, 300) n");
    let tables = [("small", 1_000), ("big", 10_000)];
    let checks = |table: &str| {
        // References in arrays are detoasted, and each row of `copies` has one that was seen long ago.
        [table, &format!("{table}_arrays"), &format!("{table}_copies")]
            .map(|table| format!("select count(*) from rbytea_check('{table}')"))
    };
    let mut grown = Vec::new();
    for (table, rows) in tables {
        db.run(&format!(
            "create table {table} (n int, r rbytea); insert into {table} select n, int4send(n) from generate_series(1, {rows}) n;
             create table {table}_arrays (rs rbytea[]); alter table {table}_arrays alter rs set storage external;
             insert into {table}_arrays select array_agg(r) from {table} group by n / 60;
             create table {table}_copies as select r from {table}, generate_series(1, 6)"
        ));
        finds_nothing(&db);
        let [plain, arrays, copies] = checks(table);
        let healthy = growth(&cluster, &[&plain, &arrays, &copies, "select count(*) from rbytea_check()"]);
        // Everything is a finding, and then all of the store is.
        let oid: u32 = db.one("select oid from pg_database where datname = current_database()", &[]);
        let store = cluster.store().join(oid.to_string());
        let away = cluster.dir().join("away");
        fs::rename(&store, &away).unwrap();
        let lost = growth(&cluster, &[&plain, &arrays, &copies]);
        fs::rename(&away, &store).unwrap();
        grown.push((healthy, lost));
    }
    db.run("create table doomed as select * from big; truncate doomed, big, big_arrays, big_copies");
    assert_eq!(check(&db, "").len(), 10_000);
    let garbage =
        growth(&cluster, &["select count(*) from rbytea_check()", "select count(*) from rbytea_check()"]);
    let [(small, small_lost), (big, big_lost)] = grown[..] else { unreachable!() };
    eprintln!("kB: healthy {small} {big}, lost {small_lost} {big_lost}, garbage {garbage}");
    // A hundred bytes for each of 72,000 more references would be 7,200 kB; what is remembered of 10,000 payloads is 1,500.
    assert!(big < small + 4_000, "ten times the rows: {small} kB, then {big} kB");
    assert!(big_lost < small_lost + 2_000, "ten times the findings: {small_lost} kB, then {big_lost} kB");
    assert!(garbage < 1_500, "10,000 files that no row needs: {garbage} kB");
}

/// Wherever it is: in rows, in files, reading, marking.
#[test]
fn a_check_can_be_cancelled_at_any_moment() {
    let cluster = cluster_with(&["fsync = off"]);
    let db = cluster.session();
    db.run(
        "create table t (n int, r rbytea); insert into t select n, int4send(n) from generate_series(1, 3000) n;
         create table big (r rbytea); insert into big values (convert_to(repeat('x', 30000000), 'UTF8'));
         create table arrays (rs rbytea[]); insert into arrays select array_agg(r) from t",
    );
    let begin = Instant::now();
    assert_eq!(check(&db, "digest => true"), [] as [String; 0]);
    // What one takes without being cancelled, of all so far: the first may have waited for others.
    let mut whole = begin.elapsed();
    let mut cancelled = 0;
    for step in (0..40_u32).cycle().take(160) {
        let limit = (whole * step / 40).max(Duration::from_millis(1));
        let begin = Instant::now();
        // The end of the transaction takes the limit back, before anything else could run into it.
        match db.try_run(&format!(
            "set local statement_timeout = {}; select count(*) from rbytea_check(digest => true)",
            limit.as_millis()
        )) {
            Ok(()) => {
                whole = whole.min(begin.elapsed());
                // A limit that is over in the last moment of a statement hits the session's next one.
                let _ = db.try_run("select");
            }
            Err(error) => {
                assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "{error:?}");
                cancelled += 1;
            }
        }
        assert!(begin.elapsed() < limit + SOON, "{:?} after {limit:?}", begin.elapsed());
        assert_eq!(descriptors(db.pid(), &cluster), 0, "a cancelled check has left files open");
        if cancelled == 40 {
            break;
        }
    }
    assert_eq!(cancelled, 40, "most checks ran to their end in spite of the limit");
    finds_nothing(&db);
    // And from outside.
    let running = db.start("do 'begin loop perform from rbytea_check(digest => true); end loop; end'");
    let watch = cluster.session();
    let active = "select exists (select from pg_stat_activity where query like 'do %rbytea_check%' and state = 'active')";
    wait_until(PATIENCE, || watch.one(active, &[]));
    db.cancel();
    assert_eq!(running.finish().unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
    finds_nothing(&db);
    proves_by_assertions(Promise::ErrorsLoseNothing, cancelled);
}

/// Descriptors of files in the store.
fn descriptors(pid: i32, cluster: &Cluster) -> usize {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    open.filter(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.starts_with(cluster.store()))).count()
}
