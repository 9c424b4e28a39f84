//! rbytea_read() and rbytea_chunks() beside substring(): the same bytes, wherever the payload is and wherever a range ends.

use super::client::{IN_MEMORY, MIB, open_files};
use crate::support::encryption::encrypting;
use crate::support::session::Session;
use crate::support::twins::noise;

/// Payloads in memory, in the row (what a temporary table has), in a file, and in an encrypted one, each beside its bytea, in one view.
fn forms(db: &Session) {
    db.run(
        "create table stored (id int, b bytea, v rbytea); create temp table in_row (id int, b bytea, v rbytea);
         create temp view forms as
             select id, 'memory' as form, b, b::rbytea as v from in_row union all select id, 'row', b, v from in_row
             union all select id, 'file', b, v from stored where qss_mode(v) = 0
             union all select id, 'encrypted', b, v from stored where qss_mode(v) = 1",
    );
    for (id, size) in (0..).zip([0, 1, 16, 1000, IN_MEMORY - 1, IN_MEMORY + 3, MIB + 17]) {
        let payload = noise(size, id as u64);
        db.execute("insert into in_row values ($1, $2, $2::bytea::rbytea)", &[&id, &payload]);
        for mode in ["on", "off"] {
            db.run(&format!("set rbytea.qss_mode = {mode}"));
            db.execute("insert into stored values ($1, $2, $2::bytea::rbytea)", &[&id, &payload]);
        }
    }
    let found = db.text("select form, count(*) from forms group by 1 order by 1");
    assert_eq!(found, "encrypted|7\nfile|7\nmemory|7\nrow|7");
}

#[test]
fn every_range_is_what_substring_says() {
    let cluster = encrypting();
    let db = cluster.session();
    forms(&db);
    let wrong = "
        select form, id, o, l from forms, lateral (
            select greatest(o, 0) as o, greatest(l, 0) as l from (
                select o from unnest(array[0, 1, 7, 15, 16, 17, 999, 1000, 262143, 262144, 1048576]) o
                union select length(b) + d from generate_series(-2, 2) d) os,
                unnest(array[0, 1, 2, 15, 16, 17, 1000, 300000, 2147483647]) l) ranges
         where rbytea_read(v, o, l) is distinct from
               substring(b from o + 1 for least(l, 1073741823))";
    assert_eq!(db.text(wrong), "", "form, payload, offset, length");
    // Sums that do not fit 64 bits.
    for offset in [i64::from(i32::MAX), 1 << 32, (1 << 32) + 1, 1 << 62, i64::MAX - 1, i64::MAX] {
        let far = db.text(&format!(
            "select count(*) from forms, unnest(array[0, 1, 2147483647]) l where length(rbytea_read(v, {offset}, l)) > 0"
        ));
        assert_eq!(far, "0", "offset {offset}");
    }
    assert_eq!(db.text("select count(*) from forms where rbytea_read(v, 0, 2147483647) <> b"), "0");
    for nulls in ["null, 0, 1", "'x', null, 1", "'x', 0, null"] {
        assert_eq!(db.text(&format!("select rbytea_read({nulls}) is null")), "t", "{nulls}");
    }
    assert!(open_files(&cluster.store(), db.pid()).is_empty());
}

#[test]
fn ranges_and_sizes_that_cannot_be_are_refused() {
    let cluster = encrypting();
    let db = cluster.session();
    forms(&db);
    for form in ["memory", "row", "file", "encrypted"] {
        for call in [
            "rbytea_read(v, -1, 1)",
            "rbytea_read(v, 0, -1)",
            "rbytea_read(v, -9223372036854775808, 1)",
            "rbytea_read(v, 0, -2147483648)",
            "rbytea_chunks(v, 0)",
            "rbytea_chunks(v, -1)",
            "rbytea_chunks(v, -2147483648)",
            "rbytea_chunks(v, 2147483647)",
        ] {
            assert_eq!(
                db.sqlstate(&format!("select {call} from forms where form = '{form}' and id = 3")).code(),
                "22023",
                "{call}"
            );
            if call.starts_with("rbytea_chunks") {
                assert_eq!(
                    db.sqlstate(&format!("select 1 from forms, {call} where form = '{form}'")).code(),
                    "22023",
                    "{call}"
                );
            }
        }
    }
}

#[test]
fn chunks_of_every_size_make_the_payload_again() {
    let cluster = encrypting();
    let db = cluster.session();
    forms(&db);
    for size in [1, 7, 16, 999, 1000, 1001, 65_536, 262_144, 262_145, 1_000_003, 1 << 20, 1_073_000_000] {
        let few = if size < 500 { "id < 4" } else { "true" };
        let from = format!(
            "from (select form, id, len(v), v from forms offset 0) f, rbytea_chunks(v, {size}) c where {few}"
        );
        let listed = format!(
            "from (select form, id, len, (c).* from
                       (select form, id, len(v), rbytea_chunks(v, {size}) as c from forms where {few} offset 0) s) c"
        );
        for rows in [from, listed] {
            let wrong = db.text(&format!(
                "select form, id from (
                     select form, id, string_agg(chunk, ''::bytea order by no) as bytes, count(*), min(no), max(no),
                            bool_and(\"offset\" = no * {size} and length(chunk) = least({size}, len - \"offset\")) as ranges
                       {rows} group by form, id) s right join (select form, id, b from forms where {few} and id > 0) f using (form, id)
                  where (bytes = b and min = 0 and max = count - 1 and ranges
                         and count = (length(b) + {size}::bigint - 1) / {size}) is not true"
            ));
            assert_eq!(wrong, "", "size {size}: {rows}");
        }
    }
    assert_eq!(
        db.text("select count(*) from forms, rbytea_chunks(v) where id = 0"),
        "0",
        "of nothing there are none"
    );
    assert_eq!(db.text("select count(*) from rbytea_chunks(null)"), "0");
    assert_eq!(db.text("select count(*) from rbytea_chunks('x', null)"), "0");
    assert_eq!(db.text("select count(*) from forms left join lateral rbytea_chunks(v) on true where id = 0 and no is null"), "4");
    assert!(open_files(&cluster.store(), db.pid()).is_empty());
}

/// Where it is not inlined, and where a worker reads.
#[test]
fn chunks_are_the_same_however_they_are_called() {
    let cluster = encrypting();
    let db = cluster.session();
    forms(&db);
    let whole = |rows: &str| {
        db.text(&format!(
            "select count(*) from (select id, form, b, string_agg(chunk, ''::bytea order by no) as c from {rows} group by 1, 2, 3) s where b = c"
        ))
    };
    let expected = db.text("select count(*) from forms where id > 0");
    for rows in [
        "forms, rbytea_chunks(v, 100003)",
        "forms, rbytea_chunks(v, 100003) with ordinality",
        "forms, rows from (rbytea_chunks(v, 100003), generate_series(1, 1)) s",
        "forms, rbytea_chunks(v, 100003 + (random() * 0)::int)",
        "forms, lateral (select * from rbytea_chunks(size => 100003, value => v) order by no desc) s",
    ] {
        assert_eq!(whole(rows), expected, "{rows}");
    }
    db.run("set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0; set max_parallel_workers_per_gather = 2");
    let digests = "select count(*) from stored, lateral (select count(*) as n, sum(length(chunk)) as l from rbytea_chunks(v, 100003)) s
                    where length(rbytea_read(v, 5, 10)) <> greatest(least(length(b) - 5, 10), 0) or l <> length(b)";
    let plan = db.text(&format!("explain (costs off) {digests}"));
    assert!(plan.contains("Gather"), "{plan}");
    assert_eq!(db.text(digests), "0");
}
