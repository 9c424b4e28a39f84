//! Every system call that gives a database the payloads of its template fails, one at a time; what such a call has left is no
//! obstacle for the next one.

use std::fs;

use crate::evidence::{Found, Promise, proves};
use crate::faults::bed::{Bed, CALLS, SHARED_CALLS, Scenario};
use crate::support::judge::And;
use crate::support::judge::acknowledged;
use crate::support::volumes::{KINDS, Kind};

fn clone_on(kind: Kind) -> Found {
    let mut bed = Bed::on(kind);
    bed.db().run("create database original");
    let original = bed.store.cluster.session_in("original");
    original.run("create extension rbytea");
    acknowledged::prepare(&original);
    // What is LIVE, and what is in TRASH.
    original.run("insert into twins select n, payload(n), payload(n) from generate_series(1, 6) n");
    original.run("delete from twins where n > 4");
    original.run("select rvacuum()");
    drop(original);
    bed.db().run("create database copied template original");
    let oid: u32 = bed.db().one("select oid from pg_database where datname = 'copied'", &[]);
    let directory = bed.store.root.join(oid.to_string());
    bed.database = "copied";
    let scenario = Scenario {
        name: "clone",
        begin: &|_| {
            // As in a database that was made without the library.
            fs::remove_dir_all(&directory).unwrap();
            "select rbytea_clone_from('original')".into()
        },
        end: &|bed, _| {
            let mut found = Found::default();
            for database in ["copied", "original"] {
                let db = bed.store.cluster.session_in(database);
                if database == "copied" {
                    db.run("select rbytea_clone_from('original')");
                }
                found.lost += acknowledged::lost(&db, &(1..=4).collect());
            }
            bed.add(found);
        },
        tolerates: &[],
    };
    bed.run(&scenario, CALLS, false);
    bed.run(&scenario, SHARED_CALLS, true);
    bed.found()
}

#[test]
fn every_failing_call_of_a_clone() {
    let mut sum = Found::default();
    for kind in KINDS {
        sum.add(clone_on(kind));
    }
    proves(Promise::ErrorsLoseNothing, sum);
}
