//! Re-encryption and constraints over what changes with a file.

use tokio_postgres::error::SqlState;

use crate::encryption::rotating::tables_to_rotate;
use crate::support::twin_tables::Twins;

#[test]
fn keys_of_columns_that_are_about_the_file_are_refused() {
    let (cluster, db) = tables_to_rotate(
        "create table p (n int, b bytea, r rbytea, file uuid generated always as (uuid(r)) stored unique);
         insert into p select n, payload(n), payload(n) from generate_series(1, 3) n;
         create table h (f uuid, constraint \"to the file\" foreign key (f) references p (file)); insert into h select file from p;
         create table d (n int, b bytea, r rbytea, mode bigint generated always as (qss_mode(r)) stored,
                         constraint once unique (n, mode) deferrable)",
    );
    for (table, constraint) in [("p", "\"to the file\""), ("d", "once")] {
        let error = db.error(&format!("call rbytea_reencrypt('{table}')"));
        assert_eq!(*error.code(), SqlState::FEATURE_NOT_SUPPORTED);
        assert!(error.detail().unwrap().contains(constraint), "{error:?}");
    }
    assert_eq!(db.text("select count(*) from h join p on f = file"), "3");
    db.run("alter table h drop constraint \"to the file\"");
    db.run("call rbytea_reencrypt('p')");
    db.assert_stored("p", 3);
    drop(cluster);
}

#[test]
fn a_row_does_not_leave_the_bounds_of_its_partition() {
    let (_cluster, db) = tables_to_rotate(
        "create table p0 (n int, b bytea, r rbytea); insert into p0 select n, payload(n), payload(n) from generate_series(1, 3) n;
         create table p (n int, b bytea, r rbytea) partition by list (qss_mode(r)); alter table p attach partition p0 for values in (1)",
    );
    db.run("set rbytea.qss_mode = off");
    assert_eq!(db.sqlstate("call rbytea_reencrypt('p')"), SqlState::CHECK_VIOLATION);
    db.assert_stored("p0", 3);
}

#[test]
fn rbytea_keys_leaves_no_row_of_progress() {
    let (_cluster, db) = tables_to_rotate("create table p (n int, b bytea, r rbytea)");
    for call in ["rbytea_keys()", "rvacuum_plan()"] {
        db.run(&format!("select * from {call}"));
        assert_eq!(db.text("select count(*) from rbytea.rbytea_stat_progress_vacuum"), "0", "{call}");
    }
}
