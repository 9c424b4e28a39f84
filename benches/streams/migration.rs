//! A table of large objects becomes one of rbytea: in one statement, beside a client that reads and writes them one by one.

use crate::common::session::runtime;
use crate::{Arguments, client, cluster, mark_memory, private_peak, seconds, settle};

/// One run of each, as it changes what it finds.
pub fn run(arguments: &Arguments) {
    let Arguments { count, object, .. } = *arguments;
    let cluster = cluster();
    let db = cluster.session();
    db.run(&format!(
        "create table noise as select decode(string_agg(md5(n::text), ''), 'hex') b from generate_series(1, {}) n",
        object.div_ceil(16)
    ));
    for from in (1..=count).step_by(10_000) {
        let to = (from + 9_999).min(count);
        db.run(&format!(
            "insert into objects select n, lo_from_bytea(0, substring(overlay(b placing int8send(n) from 1) for {object}))
             from noise, generate_series({from}, {to}) n"
        ));
    }
    db.run(
        "create table by_statement as select id, o, null::rbytea as c from objects;
            create table by_client as select id, o, null::rbytea as c from objects;
            alter table by_statement add primary key (id); alter table by_client add primary key (id)",
    );
    db.run("vacuum analyze");
    settle(&cluster);
    let (one, pid) = client(&cluster);
    mark_memory(pid);
    let by_statement = seconds(|| {
        runtime().block_on(one.batch_execute("update by_statement set c = rbytea_from_lo(o)")).unwrap();
    });
    let memory = private_peak(pid);
    settle(&cluster);
    let by_client = seconds(|| {
        runtime().block_on(async {
            let ids = one.query("select id, o from by_client", &[]).await.unwrap();
            let read = one.prepare("select lo_get($1)").await.unwrap();
            let write = one.prepare("update by_client set c = $2::bytea where id = $1").await.unwrap();
            for batch in ids.chunks(100) {
                one.batch_execute("begin").await.unwrap();
                for row in batch {
                    let (id, object): (i64, u32) = (row.get(0), row.get(1));
                    let payload = one.query_one(&read, &[&object]).await.unwrap();
                    one.execute(&write, &[&id, &payload.get::<_, &[u8]>(0)]).await.unwrap();
                }
                one.batch_execute("commit").await.unwrap();
            }
        });
    });
    let same = "select count(*) from by_statement a join by_client b using (id) where a.c = b.c and sha256sum(a.c) is not null";
    assert_eq!(db.one::<i64>(same, &[]), count as i64);
    println!("| {count} large objects of {object} bytes | s | objects/s |");
    println!("|---|--:|--:|");
    for (way, taken) in [
        ("UPDATE … SET c = rbytea_from_lo(o)", by_statement),
        ("lo_get in a client, 100 a commit", by_client),
    ] {
        println!("| {way} | {taken:.1} | {:.0} |", count as f64 / taken);
    }
    println!(
        "\nThe statement's backend takes {:.1} MiB of private memory.\n",
        memory as f64 / f64::from(1 << 20)
    );
}
