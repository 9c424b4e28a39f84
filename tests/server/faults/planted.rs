//! What the judge of the faults looks for, it finds: references in every kind of column, and each kind of loss, planted.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use crate::support::cluster::Cluster;
use crate::support::judge::acknowledged;
use crate::support::judge::disk::Disk;
use crate::support::judge::references::uuids;
use crate::support::twin_tables::{cluster_with, name, names};

/// Rows of the table `twins`, all of them acknowledged but the sixth.
fn cluster_with_twins() -> Cluster {
    let cluster = cluster_with(&["rbytea.trash_retention = 0"]);
    let db = cluster.session();
    acknowledged::prepare_table(&db);
    db.run("insert into twins select n, payload(n), payload(n) from generate_series(1, 6) n");
    cluster
}

#[test]
fn references_are_found_in_every_kind_of_column() {
    let cluster = cluster_with_twins();
    let db = cluster.session();
    db.run(
        "create function fresh(seed int) returns rbytea language sql as $$ select public.rbytea_store(public.payload(seed)) $$;
         create table arrays (rs rbytea[]); insert into arrays values (array[array[fresh(11), null], array[fresh(12), fresh(13)]]);
         create type pair as (x int, \"The r\" rbytea, others rbytea[]);
         create table pairs (p pair); insert into pairs values (null), (row(1, fresh(21), array[fresh(22), fresh(23)]));
         create type two as (one pair, two pair);
         create table nested (ts two[]); insert into nested values (array[row(row(1, fresh(31), null), row(2, fresh(32), array[fresh(33)]))::two]);
         create domain d as rbytea; create domain ds as rbytea[]; create domain dp as pair;
         create table domains (d d, ds ds, all_ds d[], dp dp);
         insert into domains values (fresh(41), array[fresh(42)], array[fresh(43)::d], row(1, fresh(44), null));
         create table p (n int, r rbytea) partition by list (n); create table p1 partition of p default; insert into p values (1, payload(51));
         create unlogged table u (r rbytea); insert into u values (payload(61));
         create materialized view m as select fresh(71) as r;
         create schema \"Other\"; create table \"Other\".\"T\" (\"A b\" rbytea); insert into \"Other\".\"T\" values (payload(81))",
    );
    assert_eq!(db.one::<i64>("select rvacuum()", &[]), 0, "every payload has its row");
    let found = uuids(&db);
    assert_eq!(found.len(), 6 + 3 + 3 + 3 + 4 + 1 + 1 + 1 + 1);
    assert_eq!(found, names(&cluster.live()));
}

#[test]
fn the_judge_counts_what_is_lost_dangles_and_has_leaked() {
    let cluster = cluster_with_twins();
    let (db, root) = (cluster.session(), cluster.store());
    let acknowledged: BTreeSet<i32> = [1, 2, 3, 4, 5, 6].into();
    let found = acknowledged::judge(&db, &root, &acknowledged);
    assert_eq!((found.lost, found.dangling, found.leaked), (0, 0, 0));

    let file_of = |n: i32| {
        let uuid: String = db.one("select uuid(r)::text from twins where n = $1", &[&n]);
        cluster.live().into_iter().find(|file| name(file) == uuid).unwrap()
    };
    let (gone, damaged, displaced) = (file_of(1), file_of(2), file_of(3));
    fs::remove_file(&gone).unwrap();
    fs::write(&damaged, vec![b'x'; 1000]).unwrap();
    fs::write(damaged.with_file_name("stray"), "").unwrap();
    fs::write(root.join("stray"), "").unwrap();
    // The sixth row was not acknowledged, the seventh was.
    let acknowledged: BTreeSet<i32> = [1, 2, 3, 4, 5, 7].into();
    assert_eq!(acknowledged::lost(&db, &acknowledged), 4);
    let found = acknowledged::judge_after(Duration::ZERO, &db, &root, &acknowledged);
    assert_eq!((found.lost, found.dangling, found.leaked), (2 * 4, 2, 2), "before the vacuum and after it");

    let trash = root.join(db.database().to_string()).join("TRASH");
    fs::create_dir_all(&trash).unwrap();
    fs::rename(&displaced, trash.join(displaced.file_name().unwrap())).unwrap();
    db.run("delete from twins where n = 4");
    let disk = Disk::of(&root, &[&db]);
    assert_eq!((disk.needed, disk.nowhere.len(), disk.displaced.len()), (5, 1, 1));
    assert_eq!((disk.garbage.len(), disk.trash.len(), disk.strays.len(), disk.others.len()), (1, 0, 1, 1));
    assert_eq!(disk.missing().len(), 2);
}
