//! Transactions that end inside of a procedure, and prepared ones: no upload outlives its transaction, a finished value does.

use tokio_postgres::error::SqlState;

use super::client::{MIB, Uploads, live, open_files};
use crate::support::twin_tables::{Twins, assert_live_is, cluster_with_table};
use crate::support::twins::noise;

#[test]
fn an_upload_ends_with_each_commit_and_rollback_of_a_procedure() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    for end in ["commit", "rollback"] {
        db.run(&format!(
            "create or replace procedure p(size int) language plpgsql as $$ declare upload bigint; begin
                 upload := rbytea_begin();
                 perform rbytea_append(upload, payload(1, size));
                 {end};
                 perform rbytea_append(upload, 'x');
             end $$"
        ));
        for size in [10, 400_000] {
            assert_eq!(db.sqlstate(&format!("call p({size})")), SqlState::UNDEFINED_OBJECT, "{end}");
            assert_eq!(live(&cluster).1, 0, "{end}: its space is back");
            assert!(open_files(&cluster.store(), db.pid()).is_empty(), "{end}");
        }
    }
    assert_eq!(db.rvacuum(), 2);
}

/// A variable may hold what an earlier transaction has finished, even one that was rolled back.
#[test]
fn a_finished_value_in_a_variable_outlives_the_transactions_of_its_procedure() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    for (n, end) in [(1, "commit"), (2, "rollback"), (3, "rollback; rollback; commit")] {
        db.run(&format!(
            "create or replace procedure p(n int) language plpgsql as $$ declare upload bigint; small rbytea; large rbytea; begin
                 upload := rbytea_begin();
                 perform rbytea_append(upload, payload(n, 500000)), rbytea_append(upload, 'end');
                 large := rbytea_finish(upload);
                 upload := rbytea_begin();
                 perform rbytea_append(upload, payload(n, 10));
                 small := rbytea_finish(upload);
                 {end};
                 insert into t (n, r) values (n, large), (n + 10, small);
             end $$"
        ));
        db.run(&format!("call p({n})"));
        db.assert_row(n, &db.one::<Vec<u8>>("select payload($1, 500000) || 'end'", &[&n]));
        db.assert_row(n + 10, &db.one::<Vec<u8>>("select payload($1, 10)", &[&n]));
    }
    db.assert_healthy(6);
    assert_eq!(db.rvacuum(), 0);
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

/// A loop over a query in a procedure, with an upload for each row and a commit after it.
#[test]
fn a_procedure_that_commits_after_each_upload_stores_them_all() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        "create procedure p() language plpgsql as $$ declare upload bigint; f record; begin
             for f in select n, payload(n, 200000) as p from generate_series(1, 20) n loop
                 upload := rbytea_begin();
                 perform rbytea_append(upload, f.p), rbytea_append(upload, f.p);
                 insert into t (n, r) values (f.n, rbytea_finish(upload));
                 if f.n % 4 = 0 then rollback; else commit; end if;
             end loop;
         end $$",
    );
    db.run("call p()");
    db.assert_healthy(15);
    let other = db.text("select count(*) from t where sha256sum(r) <> encode(sha256(payload(n, 200000) || payload(n, 200000)), 'hex')");
    assert_eq!(other, "0");
    assert_eq!(db.rvacuum(), 5);
    assert!(open_files(&cluster.store(), db.pid()).is_empty());
}

#[test]
fn a_prepared_transaction_keeps_its_rows_and_gives_up_open_uploads() {
    let cluster = cluster_with_table();
    let (db, later) = (cluster.session(), cluster.session());
    let payload = noise(2 * MIB, 1);
    for (n, end) in [(1, "commit"), (2, "rollback")] {
        db.run("begin");
        let (finished, open, small) = (db.begin(), db.begin(), db.begin());
        for upload in [finished, open] {
            db.append(upload, &payload);
        }
        db.append(small, b"small");
        db.insert(n, finished);
        db.run("prepare transaction 'p'");
        assert!(open_files(&cluster.store(), db.pid()).is_empty(), "it holds descriptors");
        assert_eq!(live(&cluster).1, 2 * MIB as u64, "the open one has given its space back");
        for upload in [finished, open, small] {
            let sql = format!("select rbytea_append({upload}, 'x')");
            assert_eq!(db.sqlstate(&sql), SqlState::UNDEFINED_OBJECT);
        }
        assert_eq!(later.rvacuum(), 0, "nobody knows yet whether it is garbage");
        later.run(&format!("{end} prepared 'p'"));
        if end == "commit" {
            db.assert_row(n, &payload);
            assert_eq!(db.rvacuum(), 1);
            db.run("delete from t");
            assert_eq!(db.rvacuum(), 1);
        } else {
            assert_eq!(db.rvacuum(), 2);
        }
    }
}
