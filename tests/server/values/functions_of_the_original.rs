//! uuid, len, len_full, qss_mode, md5sum, sha256sum, md5store, sha256store and rbytea_store: what they say of a value is
//! what md5sum(1), sha256sum(1) and the file system say of its file.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio_postgres::error::SqlState;

use crate::support::cluster::Cluster;
use crate::support::payload::Payload;
use crate::support::procfs::peak_memory;
use crate::support::session::Session;
use crate::support::twins::{noise, twins};

/// The first word that `md5sum FILE` or `sha256sum FILE` prints.
fn checksum(program: &str, file: &Path) -> String {
    let output = Command::new(program).arg(file).output().unwrap();
    assert!(output.status.success(), "{program} {}", file.display());
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

/// The file of each stored payload, by its uuid.
fn file_of(cluster: &Cluster, uuid: &str) -> PathBuf {
    let databases = cluster.store_files();
    let found: Vec<_> = databases.values().filter_map(|files| files.find(uuid)).collect();
    assert_eq!(found.len(), 1, "payload {uuid} has not exactly one file");
    found[0].clone()
}

#[test]
fn sums_and_sizes_agree_with_the_file_on_disk() {
    let cluster = Cluster::with_extension();
    let db = twins(&cluster);
    let rows = db.rows(
        "select b, uuid(v)::text, len(v), len_full(v), qss_mode(v), md5sum(v), sha256sum(v), md5store(v), sha256store(v)
         from stored",
        &[],
    );
    let mut uuids = HashSet::new();
    for row in &rows {
        let payload = row.get::<_, Payload>(0).0;
        let uuid: String = row.get(1);
        let file = file_of(&cluster, &uuid);
        assert!(fs::read(&file).unwrap() == payload, "{uuid}: the file is not the payload");

        let len = fs::metadata(&file).unwrap().len() as i64;
        assert_eq!(row.get::<_, i64>("len"), payload.len() as i64);
        assert_eq!(row.get::<_, i64>("len_full"), len, "len_full is not the size of the file");
        assert_eq!(row.get::<_, i64>("qss_mode"), 0, "a payload that is not encrypted");
        let (md5, sha256) = (checksum("md5sum", &file), checksum("sha256sum", &file));
        assert_eq!(row.get::<_, String>("md5sum"), md5, "{len} bytes");
        assert_eq!(row.get::<_, String>("md5store"), md5, "{len} bytes");
        assert_eq!(row.get::<_, String>("sha256sum"), sha256, "{len} bytes");
        assert_eq!(row.get::<_, String>("sha256store"), sha256, "{len} bytes");

        assert_eq!(&uuid[14..15], "4", "{uuid} is not of version 4");
        assert!(uuids.insert(uuid), "two payloads have the same name");
    }
    assert_eq!(cluster.live().len(), rows.len(), "each payload has one file and no file is left over");
}

#[test]
fn a_payload_in_the_row_has_sums_but_no_file() {
    let cluster = Cluster::with_extension();
    let db = twins(&cluster);
    assert_eq!(
        db.text(
            "select id, form from twins where form <> 'file' and
             (uuid(v), len(v), len_full(v), qss_mode(v), md5sum(v), sha256sum(v), md5store(v), sha256store(v)) is distinct from
             (null::uuid, length(b)::bigint, null::bigint, 0::bigint, md5(b), encode(sha256(b), 'hex'), null::text, null::text)"
        ),
        "",
        "a value without a file says something else"
    );
    let types = "pg_typeof(uuid(v)), pg_typeof(len(v)), pg_typeof(len_full(v)), pg_typeof(qss_mode(v)),
                 pg_typeof(md5sum(v)), pg_typeof(sha256sum(v)), pg_typeof(md5store(v)), pg_typeof(sha256store(v))";
    assert_eq!(
        db.text(&format!("select distinct {types} from twins")),
        "uuid|bigint|bigint|bigint|text|text|text|text"
    );
    assert_eq!(
        db.text(
            "select uuid(v), len(v), len_full(v), qss_mode(v), md5sum(v), sha256sum(v), md5store(v), sha256store(v),
                    rbytea_store(v) from (select null::rbytea as v) x"
        ),
        "||||||||"
    );
}

/// Peak memory of a new session that has run this, above that of one which has run the same on a small payload.
fn peak_of(cluster: &Cluster, expression: &str) -> u64 {
    let peak = |id: i32| {
        let db = cluster.session();
        db.text(&format!("select {expression} is null from big where id = {id}"));
        peak_memory(db.pid())
    };
    peak(2).saturating_sub(peak(1))
}

#[test]
fn sums_of_a_large_payload_take_little_memory() {
    const LEN: u64 = 64 << 20;
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run("create table big (id int, v rbytea)");
    let big = noise(LEN as usize, 1);
    db.execute("insert into big values (1, 'small'), (2, $1)", &[&Payload(big)]);

    let whole = peak_of(&cluster, "md5(v::bytea)");
    assert!(whole > LEN / 10 * 9, "the measurement does not see a payload in memory: {whole} bytes");
    for function in ["md5sum", "sha256sum", "md5store", "sha256store", "md5"] {
        let peak = peak_of(&cluster, &format!("{function}(v)"));
        assert!(peak < LEN / 8, "{function} of {LEN} bytes took {peak} bytes of memory");
    }
    for range in ["substring(v from 60000000 for 10)", "length(v)", "len(v)", "v = 'x'"] {
        let peak = peak_of(&cluster, range);
        assert!(peak < LEN / 8, "{range} took {peak} bytes of memory");
    }
    let [file] = &cluster
        .live()
        .into_iter()
        .filter(|file| fs::metadata(file).unwrap().len() == LEN)
        .collect::<Vec<_>>()[..]
    else {
        panic!("the large payload has one file")
    };
    assert_eq!(db.text("select md5sum(v) from big where id = 2"), checksum("md5sum", file));
    assert_eq!(db.text("select sha256sum(v) from big where id = 2"), checksum("sha256sum", file));
}

#[test]
fn rbytea_store_stores_at_once() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    assert_eq!(db.text("select uuid(v) is not null, v::bytea from rbytea_store('\\x0203') v"), "t|\\x0203");
    let [file] = &cluster.live()[..] else { panic!("one call, one file") };
    assert_eq!(fs::read(file).unwrap(), [2, 3]);

    db.run("create table t (v rbytea); insert into t select rbytea_store('abc')");
    assert_eq!(cluster.live().len(), 2, "the row keeps the file that it was given");
    let uuid = db.text("select uuid(v) from t");
    assert_eq!(fs::read(file_of(&cluster, &uuid)).unwrap(), b"abc");

    db.run("begin read only");
    assert_eq!(db.sqlstate("select rbytea_store('abc')"), SqlState::READ_ONLY_SQL_TRANSACTION);
    db.run("rollback");
    assert_eq!(cluster.live().len(), 2, "a read-only transaction has written");
}

fn with_documents(cluster: &Cluster) -> Session {
    let db = cluster.session();
    db.run(
        "create table docs (id int primary key, c bytea, twin bytea);
         insert into docs select n, c, c from generate_series(1, 300) n,
             lateral (select case when n % 10 > 0 then decode(repeat(md5(n::text), n), 'hex') end as c) x",
    );
    db
}

fn assert_migrated(cluster: &Cluster, db: &Session) {
    assert_eq!(
        db.text("select count(*), count(c), count(uuid(c)), count(*) filter (where c is distinct from twin) from docs"),
        "300|270|270|0",
        "rows|values|in files|changed"
    );
    assert_eq!(
        db.text("select count(*) from docs where md5store(c) is distinct from md5(twin)"),
        "0",
        "a file is not its payload"
    );
    assert_eq!(cluster.live().len(), 270, "each payload was written once");
}

#[test]
fn a_table_is_migrated_in_one_pass() {
    let cluster = Cluster::with_extension();
    let db = with_documents(&cluster);
    db.run("alter table docs alter c type rbytea using rbytea_store(c)");
    assert_migrated(&cluster, &db);

    // Not the size of the file: a rewrite may leave empty pages at its end.
    let size = "select max(ctid)::text from docs";
    let migrated: String = db.one(size, &[]);
    db.run("vacuum full docs");
    assert_eq!(migrated, db.one::<String>(size, &[]), "the rows were written more than once");
    db.run("update docs set c = 'new' where id = 1");
    assert_eq!(
        db.text("select uuid(c) is not null from docs where id = 1"),
        "t",
        "the column stores what comes later"
    );
}

#[test]
fn a_table_is_migrated_without_a_function_too() {
    let cluster = Cluster::with_extension();
    let db = with_documents(&cluster);
    db.run("alter table docs alter c type rbytea");
    assert_migrated(&cluster, &db);

    db.run("alter table docs alter c type bytea");
    assert_eq!(
        db.text("select count(*) from docs where c is distinct from twin"),
        "0",
        "there is no way back"
    );
}
