//! An upload belongs to the subtransaction that has begun it, and has no bytes that were taken back.

use tokio_postgres::error::SqlState;

use super::client::{MIB, Uploads, live, open_files};
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, assert_live_is, cluster_with_table};
use crate::support::twins::noise;

#[track_caller]
fn assert_state(db: &Session, upload: i64, state: &SqlState) {
    for sql in
        [format!("select rbytea_append({upload}, 'x')"), format!("select len(rbytea_finish({upload}))")]
    {
        db.run("savepoint looking");
        assert_eq!(db.sqlstate(&sql), *state, "{sql}");
        db.run("rollback to looking; release looking");
    }
}

#[test]
fn a_released_savepoint_hands_its_uploads_on() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    for (n, size) in [(1, 1000), (2, MIB)] {
        let payload = noise(3 * size, 1);
        let mut thirds = payload.chunks(size);
        db.run("begin; savepoint a; savepoint b");
        let upload = db.begin();
        db.append(upload, thirds.next().unwrap());
        db.run("release b");
        db.append(upload, thirds.next().unwrap());
        db.run("release a; savepoint c");
        db.append(upload, thirds.next().unwrap());
        // What comes after the appends takes none of them back.
        db.run("release c; savepoint d; create table gone (); rollback to d; release d");
        db.insert(n, upload);
        db.run("commit");
        db.assert_row(n, &payload);
    }
    assert_eq!(db.rvacuum(), 0);
}

#[test]
fn a_rolled_back_savepoint_takes_the_uploads_along_that_it_has_begun() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    let payload = noise(MIB, 2);
    db.run("begin");
    let kept = db.begin();
    db.append(kept, &payload);
    db.run("savepoint a");
    let (small, large) = (db.begin(), db.begin());
    db.append(small, b"few");
    db.append(large, &payload);
    db.run("savepoint b");
    let nested = db.begin();
    db.append(nested, &payload);
    db.run("release b");
    assert_eq!((live(&cluster), open_files(&cluster.store(), db.pid()).len()), ((3, 3 * MIB as u64), 3));
    db.run("rollback to a");
    assert_eq!(live(&cluster), (3, MIB as u64), "their space is back at once");
    assert_eq!(open_files(&cluster.store(), db.pid()).len(), 1);
    for upload in [small, large, nested] {
        assert_state(&db, upload, &SqlState::UNDEFINED_OBJECT);
    }
    assert_eq!(db.append(kept, &payload), 2 * MIB as i64, "the one from before the savepoint goes on");
    db.insert(1, kept);
    db.run("commit");
    db.assert_row(1, &[&payload[..], &payload].concat());
    assert_eq!(db.rvacuum(), 2);
    assert_live_is(&cluster, &db, &[("r", "t")]);
}

/// However deep the savepoint was, and however it came to its end.
#[test]
fn an_upload_that_has_lost_bytes_to_a_savepoint_cannot_go_on() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    let large = noise(MIB, 3);
    let cuts: [&[&str]; 5] = [
        &["savepoint a", "APPEND", "rollback to a"],
        &["savepoint a", "savepoint b", "APPEND", "release b", "rollback to a"],
        &["savepoint a", "savepoint b", "APPEND", "rollback to a"],
        &["savepoint a", "APPEND", "savepoint b", "release b", "ERROR", "rollback to a"],
        &[
            "savepoint a",
            "APPEND",
            "savepoint b",
            "rollback to b",
            "release a",
            "savepoint a",
            "APPEND",
            "rollback to a",
        ],
    ];
    for before in [&b"small"[..], &large] {
        for appended in [&b"few"[..], &large] {
            for steps in cuts {
                db.run("begin");
                let (cut, whole) = (db.begin(), db.begin());
                db.append(cut, before);
                db.append(whole, before);
                for step in steps {
                    match *step {
                        "APPEND" => drop(db.append(cut, appended)),
                        "ERROR" => drop(db.error("select 1 / 0")),
                        sql => db.run(sql),
                    }
                }
                assert_state(&db, cut, &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
                assert_state(&db, cut, &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
                let left = if before.len() > 1000 { before.len() as u64 } else { 0 };
                assert_eq!(live(&cluster).1, left, "its space is back at once: {steps:?}");
                assert_eq!(db.append(whole, b"."), before.len() as i64 + 1, "{steps:?}");
                db.insert(1, whole);
                db.run("commit");
                db.assert_row(1, &[before, b"."].concat());
                db.run("delete from t");
                db.run("select rvacuum()");
            }
        }
    }
}

#[test]
fn a_value_whose_row_is_rolled_back_is_garbage_and_its_handle_is_gone() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("begin");
    let upload = db.begin();
    db.append(upload, &noise(MIB, 4));
    db.run("savepoint a");
    db.insert(1, upload);
    db.run("rollback to a");
    assert_state(&db, upload, &SqlState::UNDEFINED_OBJECT);
    db.run("commit");
    db.assert_healthy(0);
    assert_eq!(db.rvacuum(), 1);
}

/// Exception blocks of PL/pgSQL are savepoints, too.
#[test]
fn exception_blocks_take_back_what_was_appended_in_them() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        "create table said (what text);
         do $$ declare outer_one bigint := rbytea_begin(); whole bigint := rbytea_begin(); inner_one bigint; begin
             perform rbytea_append(outer_one, payload(1, 300000)), rbytea_append(whole, payload(2, 300000));
             begin
                 inner_one := rbytea_begin();
                 perform rbytea_append(inner_one, payload(3, 300000)), rbytea_append(outer_one, payload(4, 1000));
                 raise 'no';
             exception when raise_exception then
                 begin perform rbytea_append(inner_one, 'x');
                 exception when undefined_object then insert into said values ('inner: ' || sqlstate); end;
                 begin perform rbytea_append(outer_one, 'x');
                 exception when object_not_in_prerequisite_state then insert into said values ('outer: ' || sqlstate); end;
             end;
             begin perform rbytea_append(whole, payload(5, 300000));
             exception when others then raise; end;
             insert into t (n, r) values (1, rbytea_finish(whole));
         end $$",
    );
    assert_eq!(db.text("select string_agg(what, ' ' order by what) from said"), "inner: 42704 outer: 55000");
    db.assert_row(1, &db.one::<Vec<u8>>("select payload(2, 300000) || payload(5, 300000)", &[]));
    assert_eq!(db.rvacuum(), 2);
    db.assert_healthy(1);
}

/// A loop that tries again and again leaves no descriptor and no upload behind.
#[test]
fn hundreds_of_uploads_that_are_rolled_back_take_nothing() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run(
        "do $$ declare upload bigint; begin
             for i in 1..300 loop
                 begin
                     upload := rbytea_begin();
                     perform rbytea_append(upload, payload(1, 300000));
                     if i % 10 > 0 then raise 'no'; end if;
                     insert into t (n, r) values (i, rbytea_finish(upload));
                 exception when raise_exception then null;
                 end;
             end loop;
         end $$",
    );
    assert_eq!(open_files(&cluster.store(), db.pid()).len(), 0);
    assert_eq!(live(&cluster), (300, 30 * 300_000));
    db.assert_healthy(30);
    assert_eq!(db.rvacuum(), 270);
}
