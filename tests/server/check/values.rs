//! rbytea_check() finds values that no version of the extension has written, wherever in a row they are, and goes on. The rows are
//! damaged on the disk, behind the server's back.

use std::fs;

use crate::check::healthy::{check, finds_with};
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::{Cluster, Shutdown};
use crate::support::session::Session;
use crate::support::twin_tables::cluster;

/// Changes bytes of a relation's file while the server is down: where `find` is, at this distance from it.
fn damage(cluster: &mut Cluster, relation: &str, find: &[u8], at: isize, bytes: &[u8]) {
    let db = cluster.session();
    let path: String = db.one(&format!("select pg_relation_filepath({relation})"), &[]);
    drop(db);
    cluster.stop(Shutdown::Fast);
    let path = cluster.data().join(path);
    let mut pages = fs::read(&path).unwrap();
    let places: Vec<_> =
        pages.windows(find.len()).enumerate().filter(|(_, window)| *window == find).collect();
    assert_eq!(places.len(), 1, "{relation}: {find:x?}");
    let place = places[0].0.checked_add_signed(at).unwrap();
    pages[place..place + bytes.len()].copy_from_slice(bytes);
    fs::write(&path, pages).unwrap();
    cluster.start();
}

fn uuid(db: &Session, expression: &str, table: &str) -> [u8; 16] {
    let text: String = db.one(&format!("select ({expression})::text from {table} where n = 1"), &[]);
    u128::from_str_radix(&text.replace('-', ""), 16).unwrap().to_be_bytes()
}

/// Before the uuid of a reference: version, flags, key, length, birth.
const VERSION: isize = -22;
const FLAGS: isize = -21;
const KEY: isize = -20;
const STORE: isize = -18;

#[test]
fn invalid_values_are_found_wherever_they_are_and_nothing_else() {
    let mut cluster = cluster();
    let db = cluster.session();
    db.run(
        "create type f as (x int, r rbytea); create domain d as rbytea;
         create function fresh(seed int) returns rbytea language sql as $$ select rbytea_store(payload(seed)) $$;
         create table version (n int, r rbytea); create table flags (n int, r d); create table key (n int, r rbytea); create table store (n int, r rbytea);
         create table short (n int, r rbytea); create table arrays (n int, rs rbytea[]);
         create table composites (n int, f f); create table nested (n int, fs f[]); create table healthy (n int, r rbytea)",
    );
    for table in ["version", "flags", "key", "store", "short", "healthy"] {
        db.run(&format!("insert into {table} select n, payload(n) from generate_series(1, 3) n"));
    }
    db.run("insert into arrays select n, array[fresh(n), fresh(n + 100)] from generate_series(1, 3) n");
    db.run("insert into composites select n, row(n, fresh(n))::f from generate_series(1, 3) n");
    db.run("insert into nested select n, array[row(n, fresh(n))::f, row(n, fresh(n + 100))::f] from generate_series(1, 3) n");
    db.run("select rvacuum()");
    assert_eq!(check(&db, "digest => true"), [] as [String; 0]);

    let columns = [
        ("version", "uuid(r)", VERSION, &[9][..]),
        ("flags", "uuid(r)", FLAGS, &[0x81]),
        ("key", "uuid(r)", KEY, &[1]),
        ("store", "uuid(r)", STORE, &[1]),
        // The length in the short header before it: as long as 10 bytes and the header.
        ("short", "uuid(r)", VERSION - 1, &[11 << 1 | 1]),
        ("arrays", "uuid(rs[2])", VERSION, &[0]),
        ("composites", "uuid((f).r)", VERSION, &[0xff]),
        ("nested", "uuid(fs[1].r)", FLAGS, &[2]),
    ];
    let damages: Vec<_> = columns.iter().map(|(table, column, ..)| uuid(&db, column, table)).collect();
    drop(db);
    for ((table, _, at, bytes), uuid) in columns.iter().zip(&damages) {
        damage(&mut cluster, &format!("'{table}'"), uuid, *at, bytes);
    }

    let db = cluster.session();
    let lines: Vec<_> = columns.iter().map(|(table, ..)| format!("invalid value|{table}||")).collect();
    for arguments in ["", "digest => true"] {
        finds_with(&db, arguments, &lines);
        let warnings = db.notices();
        assert!(
            warnings.len() == 1 && warnings[0].message() == "unreferenced files were not looked for",
            "what the damaged values refer to must not be called garbage in silence: {warnings:?}"
        );
    }
    for ((table, ..), line) in columns.iter().zip(&lines) {
        finds_with(&db, &format!("'{table}'"), std::slice::from_ref(line));
        let place = "select count(*) from rbytea_check('$') c join $ t on t.ctid = c.ctid where t.n = 1";
        assert_eq!(
            db.one::<i64>(&place.replace('$', table), &[]),
            1,
            "{table}: the finding leads to another row"
        );
    }
    // One kind of damage hides no other.
    let lost: String = db.one("select uuid(r)::text from version where n = 2", &[]);
    let file = cluster.live().into_iter().find(|file| file.to_str().unwrap().ends_with(&lost)).unwrap();
    let path = file.strip_prefix(cluster.store()).unwrap().display().to_string();
    fs::remove_file(&file).unwrap();
    fs::write(cluster.store().join("foreign"), "").unwrap();
    let others = [format!("missing|version|{lost}|{path}"), "foreign name|||foreign".to_owned()];
    finds_with(&db, "", &[&lines[..], &others].concat());
    for table in columns.map(|(table, ..)| table) {
        db.run(&format!("delete from {table} where n = 1"));
    }
    db.run("delete from version where n = 2");
    fs::remove_file(cluster.store().join("foreign")).unwrap();
    // No snapshot sees the deleted rows any more, but the mark reads them until they are removed.
    for table in columns.map(|(table, ..)| table) {
        db.run(&format!("vacuum {table}"));
    }
    let found = check(&db, "");
    assert!(found.len() >= 7 && found.iter().all(|line| line.starts_with("unreferenced|")), "{found:#?}");
    proves_by_assertions(Promise::DamageIsNoticed, lines.len() as u64 + 2);
}

/// Nothing else looks at them before they are read: they refer to no file.
#[test]
fn a_long_inline_value_with_a_damaged_version_is_found() {
    let mut cluster = cluster();
    let db = cluster.session();
    db.run(
        "set rbytea.external_threshold = '1MB'; create table t (n int, r rbytea); alter table t alter r set storage external;
         insert into t values (1, payload(1, 1900)), (2, payload(2, 1900)), (3, payload(3, 9000)), (4, payload(4, 9000))",
    );
    let start = |n: i32| db.one::<Vec<u8>>("select substring(payload($1) for 16)", &[&n]);
    let (first, third) = (start(1), start(3));
    assert_eq!(check(&db, ""), [] as [String; 0]);
    drop(db);
    damage(&mut cluster, "'t'", &first, -1, &[3]);
    damage(&mut cluster, "(select reltoastrelid from pg_class where oid = 't'::regclass)", &third, -1, &[4]);
    let db = cluster.session();
    finds_with(&db, "'t'", &vec!["invalid value|t||".to_owned(); 2]);
    finds_with(&db, "", &vec!["invalid value|t||".to_owned(); 2]);
    proves_by_assertions(Promise::DamageIsNoticed, 2);
}

/// As an error of the disk leaves them.
#[test]
fn a_value_whose_toast_rows_are_gone_or_damaged_is_found() {
    let mut cluster = cluster();
    let db = cluster.session();
    db.run(
        "create table t (n int, rs rbytea[]); alter table t alter rs set storage external;
         insert into t select n, (select array_agg(rbytea_store(payload(n * 100 + i))) from generate_series(1, 60) i)
           from generate_series(1, 3) n;
         create table packed (n int, rs rbytea[]);
         insert into packed select 1, array_agg((p || p || p || p)::rbytea)
           from generate_series(1, 400) i, lateral (select payload(i, 32) as p) s",
    );
    assert_eq!(check(&db, ""), [] as [String; 0]);
    let toast_of = |table: &str| -> String {
        db.one("select reltoastrelid::regclass::text from pg_class where oid = $1::text::regclass", &[&table])
    };
    let [toast, packed] = ["t", "packed"].map(toast_of);
    let chunks = |toast: &str| {
        db.column::<Vec<u8>>(
            &format!(
                "select substring(chunk_data for 90) from {toast} where chunk_seq = 0 order by chunk_id"
            ),
            &[],
        )
    };
    let (values, compressed) = (chunks(&toast), chunks(&packed).remove(0));
    drop(db);
    // Before the bytes of a chunk: flags of the row, to which a transaction that was rolled back belongs (HEAP_XMIN_INVALID,
    // HEAP_XMAX_INVALID, HEAP_HASVARWIDTH), number of the value, of the chunk, length.
    damage(&mut cluster, &format!("'{toast}'"), &values[0], -16, &0x0a02_u16.to_le_bytes());
    damage(&mut cluster, &format!("'{toast}'"), &values[1], -8, &77_u32.to_le_bytes());
    damage(&mut cluster, &format!("'{packed}'"), &compressed, 8, &[0xff; 30]);
    let db = cluster.session();
    for (table, row) in [("t", 1), ("t", 2), ("packed", 1)] {
        let read = db.sqlstate(&format!("select sum(len(r)) from {table}, unnest(rs) r where n = {row}"));
        assert_eq!(read.code(), "XX001", "{table}: the test is about damaged values");
    }
    let lines = ["packed", "t", "t"].map(|table| format!("invalid value|{table}||"));
    finds_with(&db, "", &lines);
    finds_with(&db, "digest => true", &lines);
    finds_with(&db, "'t'", &lines[1..]);
    let place = "select count(*) from rbytea_check('t') c join t on t.ctid = c.ctid where n in (1, 2)";
    assert_eq!(db.one::<i64>(place, &[]), 2);
    proves_by_assertions(Promise::DamageIsNoticed, 3);
}

/// Valid, but not what was stored: what the reference says and what is there do not fit.
#[test]
fn references_with_damaged_fields_are_found_by_what_they_say() {
    let mut cluster = cluster();
    let db = cluster.session();
    let fields: [(&str, isize, &[u8]); 7] = [
        ("version", VERSION, &[1]),
        ("flags", FLAGS, &[1]),
        ("length", -16, &[0xff; 8]),
        ("birth", -1, &[0x7f]),
        ("name", 0, &[0xee]),
        ("digest", 24, &[0; 32]),
        ("checksum", 16, &[0; 8]),
    ];
    for (table, ..) in fields {
        db.run(&format!("create table {table} (n int, r rbytea); insert into {table} select n, payload(n) from generate_series(1, 2) n"));
    }
    let store = cluster.store();
    let file = |uuid: &str| {
        let found = cluster.live().into_iter().find(|file| file.to_str().unwrap().ends_with(uuid)).unwrap();
        found.strip_prefix(&store).unwrap().display().to_string()
    };
    let text = |uuid: [u8; 16]| {
        let hex = format!("{:032x}", u128::from_be_bytes(uuid));
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    };
    let uuids = fields.map(|(table, ..)| uuid(&db, "uuid(r)", table));
    let [version, flags, length, birth, name, digest, checksum] =
        uuids.map(|uuid| (text(uuid), file(&text(uuid))));
    let mut other = uuids[4];
    other[0] = 0xee;
    let other = text(other);
    let (database, _) = name.1.split_once('/').unwrap();
    let born = format!("7f{}", &birth.1.rsplit_once('/').unwrap().1[2..]);
    let expected = [
        format!("unreferenced||{}|{}", version.0, version.1),
        format!("wrong size|flags|{}|{}", flags.0, flags.1),
        format!("wrong size|length|{}|{}", length.0, length.1),
        format!("missing|birth|{}|{database}/{}/{}/{born}", birth.0, &born[..12], &birth.0[..2]),
        format!("unreferenced||{}|{}", birth.0, birth.1),
        format!(
            "missing|name|{other}|{}",
            name.1.replace(&name.0, &other).replace(&format!("/{}/", &name.0[..2]), "/ee/")
        ),
        format!("unreferenced||{}|{}", name.0, name.1),
    ];
    drop(db);
    for ((table, at, bytes), uuid) in fields.into_iter().zip(&uuids) {
        damage(&mut cluster, &format!("'{table}'"), uuid, at, bytes);
    }
    let db = cluster.session();
    finds_with(&db, "", &expected);
    let read = [
        format!("wrong digest|digest|{}|{}", digest.0, digest.1),
        format!("wrong checksum|checksum|{}|{}", checksum.0, checksum.1),
    ];
    finds_with(&db, "digest => true", &[&expected[..], &read].concat());
    // An equal payload, but not an equal reference: the row gets a right one.
    assert_eq!(db.sqlstate("select r::bytea from checksum where n = 1").code(), "XX001");
    db.run("set rbytea.verify = digest; update checksum set r = r::bytea; reset rbytea.verify");
    assert_eq!(db.one::<i64>("select count(*) from checksum where r::bytea = payload(n)", &[]), 2);
    proves_by_assertions(Promise::DamageIsNoticed, fields.len() as u64);
}
