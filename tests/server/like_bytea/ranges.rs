//! substring and substr: the same bytes as of bytea, and no more than these are read.

use std::fs::File;
use std::os::unix::fs::FileExt;

use tokio_postgres::error::SqlState;

use crate::support::cluster::Cluster;
use crate::support::payload::Payload;
use crate::support::procfs::bytes_read;
use crate::support::twins::{noise, twins};

/// Of a payload of `n` bytes.
const STARTS: &str = "-2147483648, -2147483647, -1048576, -10, -1, 0, 1, 2, 3, n - 1, n, n + 1, n + 2, 1000, 2147483646, 2147483647";
const LENGTHS: &str = "-2147483648, -1, 0, 1, 2, 3, 11, n - 1, n, n + 1, 2147483646, 2147483647";

#[test]
fn every_start_and_length_cuts_what_it_cuts_from_bytea() {
    let cluster = Cluster::with_extension();
    let db = twins(&cluster);
    for ty in ["bytea", "rbytea"] {
        db.run(&format!(
            "create function cut(value {ty}, how text, s int, l int) returns text language plpgsql as $$
             begin
                 return md5(case how when 'sql' then substring(value from s for l)
                                     when 'sql without for' then substring(value from s)
                                     when 'sql without from' then substring(value for l)
                                     when 'substring' then substring(value, s, l)
                                     when 'substring to the end' then substring(value, s)
                                     when 'substr' then substr(value, s, l)
                                     when 'substr to the end' then substr(value, s) end);
             exception when others then
                 return sqlstate;
             end $$"
        ));
    }
    let cuts = format!(
        "from (select *, length(b) as n from twins) t, unnest(array[{STARTS}]) s, unnest(array[{LENGTHS}]) l,
              unnest(array['sql', 'sql without for', 'sql without from', 'substring', 'substring to the end',
                           'substr', 'substr to the end']) how
         where n in (0, 1, 2, 78, 127, 2000, 8192, 1048576) and id % 3 = 0
           and (l = 0 or how not in ('sql without for', 'substring to the end', 'substr to the end'))
           and (s = 0 or how <> 'sql without from')"
    );
    assert_eq!(
        db.text(&format!(
            "select form, n, how, s, l, cut(v, how, s, l), cut(b, how, s, l) {cuts}
             and cut(v, how, s, l) is distinct from cut(b, how, s, l) limit 20"
        )),
        "",
        "form|bytes|how|start|length|cut from rbytea|from bytea"
    );
    let kinds = "select count(distinct cut(b, how, s, l)) > 100, bool_or(cut(b, how, s, l) = '22011')";
    assert_eq!(
        db.text(&format!("{kinds} {cuts} and form = 'memory' and how = 'sql'")),
        "t|t",
        "the grid has no variety"
    );
}

#[test]
fn a_range_is_read_from_the_file_and_nothing_else() {
    const LEN: usize = 16 << 20;
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run("create table t (v rbytea)");
    let payload = noise(LEN, 1);
    db.execute("insert into t values ($1)", &[&Payload(payload.clone())]);
    let pid = db.pid();
    let queries = [
        "select substring(v from $1 for $2) from t",
        "select substring(v, $1, $2) from t",
        "select substr(v, $1, $2) from t",
    ];
    for sql in queries {
        // Once for what the session reads of the catalogs when it sees the statement first.
        db.one::<Payload>(sql, &[&1, &1]);
        for (start, len) in
            [(1, 10), (LEN as i32 / 2, 5000), (LEN as i32 - 99, 100), (LEN as i32 + 1, 5), (-9, 20)]
        {
            let before = bytes_read(pid);
            let cut: Payload = db.one(sql, &[&start, &len]);
            let read = bytes_read(pid) - before;
            let from = start.clamp(1, LEN as i32 + 1) as usize - 1;
            let to = (start + len).clamp(1, LEN as i32 + 1) as usize - 1;
            assert!(cut.0 == payload[from..to], "{sql}: other bytes at {start}");
            assert!(read <= cut.0.len() as u64 + 16_384, "{sql}: {read} bytes read for {}", cut.0.len());
        }
    }
    let before = bytes_read(pid);
    assert_eq!(db.text("select length(v), octet_length(v), len(v) from t"), format!("{LEN}|{LEN}|{LEN}"));
    assert!(bytes_read(pid) - before < 65_536, "the length was found by reading the payload");
    let before = bytes_read(pid);
    db.text("select sha256sum(v) from t");
    assert!(bytes_read(pid) - before >= LEN as u64, "the measurement sees nothing");
}

#[test]
fn damage_elsewhere_does_not_touch_a_range() {
    const LEN: usize = 1 << 20;
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run("create table t (v rbytea, b bytea)");
    let payload = Payload(noise(LEN, 2));
    db.execute("insert into t values ($1, $2)", &[&payload, &payload]);
    let [file] = &cluster.live()[..] else { panic!("one payload, one file") };
    let file = File::options().write(true).open(file).unwrap();
    let intact = 500_000..500_300;
    file.write_all_at(&vec![0; intact.start], 0).unwrap();
    file.write_all_at(&vec![0; LEN - intact.end], intact.end as u64).unwrap();

    for cut in ["substring(@ from 500001 for 300)", "substr(@, 500001, 300)", "substring(@, 500100, 1)"] {
        let same = format!("select {} = {} from t", cut.replace('@', "v"), cut.replace('@', "b"));
        assert!(db.one::<bool>(&same, &[]), "{cut}");
    }
    for whole in ["md5sum(v)", "sha256sum(v)", "md5(v)", "sha256(v)", "v::bytea", "v", "get_byte(v, 500100)"]
    {
        assert_eq!(
            db.sqlstate(&format!("select {whole} from t")),
            SqlState::DATA_CORRUPTED,
            "{whole} of a damaged file"
        );
    }
}

/// SQL's own syntax looks for its functions in pg_catalog alone.
#[test]
fn ranges_are_read_as_such_from_a_schema_outside_of_the_path() {
    let cluster = Cluster::running();
    let db = cluster.session();
    db.run("create schema elsewhere; create extension rbytea schema elsewhere; create table t (v elsewhere.rbytea)");
    db.execute("insert into t values ($1)", &[&Payload(noise(8 << 20, 3))]);
    let pid = db.pid();
    let sql = "select substring(v from $1 for 10) from t";
    db.one::<Payload>(sql, &[&1]);
    let before = bytes_read(pid);
    assert_eq!(db.one::<Payload>(sql, &[&4_000_000]).0, noise(8 << 20, 3)[3_999_999..4_000_009]);
    assert!(
        bytes_read(pid) - before < 65_536,
        "bytea's substring was found first and read the whole payload"
    );
    assert_eq!(db.text("select length(v), octet_length(v) from t"), "8388608|8388608");
}
