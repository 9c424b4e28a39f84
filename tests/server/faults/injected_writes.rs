//! Every system call that storing and reading a payload makes fails, one at a time, in a backend of a real server.

use std::fs;
use std::path::PathBuf;

use crate::evidence::{Found, Promise, proves};
use crate::faults::bed::{Bed, CALLS, SHARED_CALLS, Scenario, insert};
use crate::support::encryption::{reload, set_keys};
use crate::support::judge::And;
use crate::support::store_files::StoreFiles;
use crate::support::volumes::{KINDS, Kind};

fn run(kinds: &[Kind], scenario: &Scenario<'_>) {
    let mut sum = Found::default();
    for kind in kinds {
        let mut bed = Bed::on(*kind);
        bed.run(scenario, CALLS, false);
        bed.run(scenario, SHARED_CALLS, true);
        sum.add(bed.found());
    }
    proves(Promise::ErrorsLoseNothing, sum);
}

/// Keeps the rows that `begin` has taken.
fn keep(rows: i32) -> impl Fn(&mut Bed, bool) {
    move |bed, acknowledged| {
        if acknowledged {
            bed.kept.extend(bed.next - rows..bed.next);
        }
    }
}

#[test]
fn every_failing_call_of_an_insert() {
    run(
        &KINDS,
        &Scenario { name: "insert", begin: &|bed| insert(&bed.take(1)), end: &keep(1), tolerates: &[] },
    );
}

/// More than is written, and written back, at once.
#[test]
fn every_failing_call_of_an_insert_of_several_pieces() {
    let begin = |bed: &mut Bed| {
        let n = bed.take(1).start;
        format!("insert into twins select {n}, b, b from payload({n}, 600000) b")
    };
    run(&[Kind::Ext4], &Scenario { name: "insert of pieces", begin: &begin, end: &keep(1), tolerates: &[] });
}

/// On ext4 one syncfs for all; on a tmpfs one fdatasync for each, and more files than a transaction keeps open.
#[test]
fn every_failing_call_of_a_bulk_insert() {
    run(
        &[Kind::Ext4],
        &Scenario { name: "bulk insert", begin: &|bed| insert(&bed.take(9)), end: &keep(9), tolerates: &[] },
    );
    run(
        &[Kind::Tmpfs],
        &Scenario {
            name: "bulk insert",
            begin: &|bed| insert(&bed.take(18)),
            end: &keep(18),
            tolerates: &[],
        },
    );
}

#[test]
fn every_failing_call_of_a_prepare() {
    let scenario = Scenario {
        name: "prepare",
        begin: &|bed| format!("begin; {}; prepare transaction 'p'", insert(&bed.take(2))),
        end: &|bed, acknowledged| {
            if acknowledged {
                bed.db().run("commit prepared 'p'");
            }
            assert_eq!(bed.db().text("select count(*) from pg_prepared_xacts"), "0");
            keep(2)(bed, acknowledged);
        },
        tolerates: &[],
    };
    run(&KINDS, &scenario);
}

/// A part of the transaction fails, is rolled back, and the rest is committed.
#[test]
fn every_failing_call_of_a_transaction_that_goes_on() {
    let scenario = Scenario {
        name: "subtransaction",
        begin: &|bed| {
            let (first, second) = (bed.take(2), bed.take(1));
            format!(
                "do $$ begin
                     begin {}; exception when others then raise notice '%', sqlerrm; end;
                     {};
                 end $$",
                insert(&first),
                insert(&second)
            )
        },
        end: &|bed, acknowledged| {
            if acknowledged {
                // Only the function knows which of them failed, because it has caught the error.
                let rows = bed.db().column::<i32>("select n from twins where n >= $1", &[&(bed.next - 3)]);
                bed.kept.extend(rows);
            }
        },
        tolerates: &[""],
    };
    run(&[Kind::Ext4], &scenario);
}

/// The files of a row that is there.
fn file_of(bed: &Bed, n: i32) -> PathBuf {
    let uuid: String = bed.db().one("select uuid(r)::text from twins where n = $1", &[&n]);
    StoreFiles::walk(&bed.store.root).values().find_map(|files| files.find(&uuid)).unwrap().clone()
}

/// Puts the file of a row into TRASH, as a vacuum would for a reference that it could not see.
fn misplace(bed: &Bed, n: i32) {
    let file = file_of(bed, n);
    let trash = file.ancestors().nth(3).unwrap().join("TRASH");
    fs::rename(&file, trash.join(file.file_name().unwrap())).unwrap();
}

/// I7: a copied reference whose file is in TRASH.
#[test]
fn every_failing_call_of_a_restore() {
    let scenario = Scenario {
        name: "restore",
        begin: &|bed| {
            let copy = bed.take(1).start;
            if !file_of(bed, 1).ancestors().any(|dir| dir.ends_with("TRASH")) {
                misplace(bed, 1);
            }
            format!("insert into twins select {copy}, b, r from twins where n = 1")
        },
        end: &keep(1),
        tolerates: &[],
    };
    run(&KINDS, &scenario);
}

/// No error leads to wrong bytes.
#[test]
fn every_failing_call_of_a_read() {
    let scenario = Scenario {
        name: "read",
        begin: &|_| {
            "do $$ declare r record; begin
                 for r in select * from twins loop
                     if r.r::bytea <> r.b or substring(r.r from 5 for 7) <> substring(r.b from 5 for 7) then
                         raise 'wrong bytes';
                     end if;
                 end loop;
             end $$"
                .into()
        },
        end: &|_, _| (),
        tolerates: &[],
    };
    run(&[Kind::Ext4], &scenario);
}

/// From no key to one, in batches of two rows that are committed one after the other.
#[test]
fn every_failing_call_of_a_rotation() {
    let mut bed = Bed::on(Kind::Ext4);
    bed.keep_rows(2);
    let cluster = &bed.store.cluster;
    cluster.set_conf("rbytea.key_file = 'keys'");
    set_keys(cluster, &[1]);
    // Sessions that are there already go on without.
    bed.db().run("alter database postgres set rbytea.qss_mode = on");
    reload(cluster, &[bed.db()]);
    let scenario = Scenario {
        name: "rotation",
        begin: &|bed| {
            // What the case before has got done.
            bed.db().run("call rbytea_reencrypt('twins')");
            "call rbytea_reencrypt('twins', 2)".into()
        },
        end: &|_, _| (),
        tolerates: &[],
    };
    bed.run(&scenario, CALLS, false);
    bed.run(&scenario, SHARED_CALLS, true);
    proves(Promise::ErrorsLoseNothing, bed.found());
}
