//! Rows of the history that another cluster, or another database, has written change neither what is swept nor what is purged, and
//! go with the next run. Two databases of the same OID in two clusters are the rule.

use crate::support::access_method::OtherAccessMethod;
use crate::support::background::cluster_with;
use crate::support::cluster::{Cluster, PATIENCE, wait_until};
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, assert_live_is, with_garbage};

/// What makes a row another cluster's, or another database's.
const FOREIGN: [&str; 2] =
    ["system_identifier = h.system_identifier + 1", "database = h.database::bigint + 1"];

/// Copies the newest row, the id included, and gives the copy these values and those that make it foreign.
fn forge(db: &Session, values: &str) {
    let columns: String = db.one(
        "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
          where attrelid = 'rbytea.rbytea_vacuum_history'::regclass and attnum > 0 and not attisdropped",
        &[],
    );
    for foreign in FOREIGN {
        db.run(&format!(
            "create temp table forged as select * from rbytea.rbytea_vacuum_history order by id desc limit 1;
             update forged h set {foreign}, {values};
             insert into rbytea.rbytea_vacuum_history ({columns}) overriding system value select * from forged;
             drop table forged"
        ));
    }
}

/// Rows that are not this database's.
fn foreign(db: &Session) -> i64 {
    db.one(
        "select count(*) from rbytea.rbytea_vacuum_history
          where database <> (select oid from pg_database where datname = current_database())
             or system_identifier <> (select system_identifier from pg_control_system())",
        &[],
    )
}

#[test]
fn a_row_says_which_cluster_and_database_it_is_about() {
    let (cluster, db) = with_garbage();
    db.rvacuum();
    let other = OtherAccessMethod::compile(cluster.installation());
    other.create_table(&db, "odd");
    db.error("select rvacuum()");
    wait_until(PATIENCE, || db.text("select count(*) from rbytea.rbytea_vacuum_history") == "2");
    assert_eq!(foreign(&db), 0);
    for strange in [
        "insert into rbytea.rbytea_vacuum_history (origin, database, started, finished, relations, tuples, directories, files, recently_dead,
             not_judged, trashed, bytes, restored, lost, purged, purged_bytes) select 'x', 5, now(), now(), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0",
        "update rbytea.rbytea_vacuum_history set system_identifier = null",
    ] {
        assert_eq!(db.sqlstate(strange).code(), "23502", "a row must say whose it is: {strange}");
    }
}

/// With a frontier that is far ahead no file is new, and a whole sweep of now is not due for long.
#[test]
fn a_frontier_from_elsewhere_keeps_nothing_from_being_swept() {
    let cluster = cluster_with(&["rbytea.databases_for_vacuuming = ''", "rbytea.trash_retention = -1"]);
    let db = cluster.session();
    db.fill("t", 1..=3);
    assert_eq!(db.rvacuum(), 0);
    let activity: i64 = db.one("select activity from rbytea.rbytea_vacuum_history", &[]);
    forge(&db, "upper = '1000000000', started = now() + '1 day', finished = now() + '1 day', lower = '0'");
    db.run("begin");
    db.fill("t", 4..=5);
    db.run("rollback");
    cluster.set_conf("rbytea.databases_for_vacuuming = 'postgres'");
    cluster.reload();
    wait_until(PATIENCE, || cluster.trash().len() == 2);
    wait_until(PATIENCE, || foreign(&db) == 0);
    let run = "select lower > '0', lower < '1000000000', error is null, activity is null or activity = $1
                 from rbytea.rbytea_vacuum_history where trashed = 2";
    let row = &db.rows(run, &[&activity])[0];
    assert!(
        row.get::<_, bool>(0) && row.get::<_, bool>(1),
        "the run was not a round that goes on from this database's last one"
    );
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

/// A run whose row has an old transaction id and a late date vouches for everything that was trashed before that date.
#[test]
fn a_run_elsewhere_vouches_for_nothing_that_is_purged() {
    let (cluster, db) = with_garbage();
    for (hold, release) in [
        ("begin; select pg_current_xact_id(); prepare transaction 'p'", "rollback prepared 'p'"),
        ("select pg_create_physical_replication_slot('s', true)", "select pg_drop_replication_slot('s')"),
    ] {
        db.run("begin");
        db.fill("t", 100..=100);
        db.run("rollback");
        db.run(hold);
        db.rvacuum();
        let trash = cluster.trash().len();
        for _ in 0..2 {
            forge(&db, "xid = '3', lsn = '0/0', moved_at = clock_timestamp()");
            assert_eq!(db.one::<i64>("select rvacuum_purge()", &[]), 0, "deleted under: {hold}");
            assert_eq!(foreign(&db), 0);
        }
        assert_eq!(cluster.trash().len(), trash);
        db.run(release);
        assert_eq!(db.one::<i64>("select rvacuum_purge()", &[]), trash as i64, "after: {release}");
    }
    db.assert_stored("t", 4);
}

/// No run gives a date to TRASH that is before the last one, so a date to come would keep everything there.
#[test]
fn a_date_from_elsewhere_keeps_nothing_in_trash() {
    let (cluster, db) = with_garbage();
    assert_eq!(db.rvacuum(), 4);
    forge(
        &db,
        "moved_at = '2100-01-01', trashed = 1, oldest_trash = '2100-01-01', trash_files = 77, error = 'elsewhere', lower = '0'",
    );
    let stat = "select trash_files, last_error is null, oldest_trash < now() from rbytea.rbytea_stat";
    assert_eq!(db.text(stat), "4|t|t", "rbytea_stat shows what another store has");
    db.run("delete from t where n = (select min(n) from t)");
    assert_eq!(db.rvacuum(), 1);
    assert_eq!(db.text("select max(moved_at) <= clock_timestamp() from rbytea.rbytea_vacuum_history"), "t");
    assert_eq!(db.one::<i64>("select rvacuum_purge()", &[]), 5);
    assert!(cluster.trash().is_empty());
}

/// Ids that are ahead are no reason to remove rows of one's own.
#[test]
fn trimming_goes_by_the_ids_of_this_database() {
    let (_cluster, db) = with_garbage();
    db.rvacuum();
    forge(&db, "id = 1000000, lower = '0'");
    db.rvacuum();
    assert_eq!(db.text("select id, trashed from rbytea.rbytea_vacuum_history order by id"), "1|4\n2|0");
}

/// The row of the run, and what it trims.
#[test]
fn a_session_that_replicates_can_run_the_vacuum() {
    for preload in ["'rbytea'", "''"] {
        let conf = [format!("shared_preload_libraries = {preload}"), "autovacuum = off".to_owned()];
        let cluster = Cluster::with_extension_and(&conf.each_ref().map(String::as_str));
        let db = cluster.session();
        db.run("create table t (n int, r rbytea); insert into t values (1, 'one'), (2, 'two'); delete from t where n = 1");
        // A failed run is recorded by another process, some time.
        let rows = || {
            db.text("select id, trashed, system_identifier > 0 from rbytea.rbytea_vacuum_history where error is null order by id")
        };
        let other = cluster.session();
        other.run("set session_replication_role = replica");
        assert_eq!(other.one::<i64>("select rvacuum()", &[]), 1);
        assert_eq!(rows(), "1|1|t");
        forge(&db, "trashed = 7");
        assert_eq!(foreign(&db), 2);
        assert_eq!(other.one::<i64>("select rvacuum()", &[]), 0);
        assert_eq!(rows(), "1|1|t\n2|0|t", "the run has trimmed nothing");

        // What comes from elsewhere is discarded before it meets a row, in a session that has run the vacuum too, and after a
        // run that could not write its row.
        db.run("create function fail() returns trigger language plpgsql as $$ begin raise 'no row'; end $$;
                create trigger z_fail before insert on rbytea.rbytea_vacuum_history for each row execute function fail();
                alter table rbytea.rbytea_vacuum_history enable always trigger z_fail");
        assert_eq!(other.error("select rvacuum()").message(), "no row");
        db.run("drop trigger z_fail on rbytea.rbytea_vacuum_history");
        let third = cluster.session();
        third.run("set session_replication_role = replica");
        let before = rows();
        for session in [&other, &third] {
            for change in [
                "insert into rbytea.rbytea_vacuum_history overriding system value select * from rbytea.rbytea_vacuum_history",
                "update rbytea.rbytea_vacuum_history set trashed = 100",
                "delete from rbytea.rbytea_vacuum_history",
            ] {
                assert_eq!(session.execute(change, &[]), 0, "{change}");
            }
        }
        assert_eq!(rows(), before);
    }
}
