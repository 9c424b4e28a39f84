//! The binary format: any bytes as parameters, results and COPY streams, and streams that are damaged.

use std::error::Error;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, pin_mut};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::Generator;
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::Cluster;
use crate::support::payload::Payload;
use crate::support::session::{Session, block_on};

const BATCH: u64 = 1_000;

#[test]
fn any_bytes_come_back_as_they_were_sent() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    let echo = block_on(db.client().prepare("select $1::rbytea[], array(select unnest($1)::bytea)")).unwrap();
    let mut generator = Generator::new();
    let mut judged = 0;
    while judged < generator.inputs {
        let sent: Vec<_> = (0..BATCH).map(|_| Payload(generator.payload())).collect();
        let row = block_on(db.client().query_one(&echo, &[&sent])).unwrap();
        assert!(row.get::<_, Vec<Payload>>(0) == sent, "other bytes came back ({})", generator.repeat());
        assert!(row.get::<_, Vec<Payload>>(1) == sent, "other bytes became bytea ({})", generator.repeat());
        judged += BATCH;
    }
    assert!(cluster.live().is_empty(), "parameters have made files");
    proves_by_assertions(Promise::BadInput, judged);
}

/// A COPY stream of rows with an id and a payload.
fn stream(payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut stream = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for (id, payload) in (0..).zip(payloads) {
        stream.extend(2_i16.to_be_bytes());
        stream.extend(4_i32.to_be_bytes());
        stream.extend(i32::to_be_bytes(id));
        stream.extend((payload.len() as i32).to_be_bytes());
        stream.extend(payload);
    }
    stream.extend((-1_i16).to_be_bytes());
    stream
}

/// One input of twenty is stored: a file takes the time of many comparisons in memory.
#[test]
fn stored_bytes_go_out_in_every_format_as_those_of_bytea() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run("create table ours (id int, v rbytea); create table theirs (id int, v bytea)");
    let mut generator = Generator::new();
    let mut judged = 0;
    while judged < generator.inputs / 20 {
        let payloads: Vec<_> = (0..BATCH).map(|_| generator.payload()).collect();
        let stream = stream(&payloads);
        for table in ["ours", "theirs"] {
            db.run(&format!("truncate {table}"));
            let rows = db.copy_in(&format!("copy {table} from stdin (format binary)"), &stream);
            assert_eq!(rows, BATCH);
        }
        let repeat = generator.repeat();
        let copied = |options: &str| {
            ["ours", "theirs"].map(|table| {
                db.copy_out(&format!("copy (select * from {table} order by id) to stdout ({options})"))
            })
        };
        let [ours, theirs] = copied("format binary");
        assert!(ours == theirs && ours == stream, "the binary format has other bytes ({repeat})");
        for output in ["hex", "escape"] {
            db.run(&format!("set bytea_output = {output}"));
            for options in ["format text", "format csv"] {
                let [ours, theirs] = copied(options);
                assert!(ours == theirs, "{options} with bytea_output = {output} ({repeat})");
                db.run("create temp table again (id int, v rbytea)");
                db.copy_in(&format!("copy again from stdin ({options})"), &ours);
                let other = "select count(*) from again a join theirs t using (id) where a.v = t.v::rbytea";
                assert_eq!(
                    db.one::<i64>(other, &[]) as u64,
                    BATCH,
                    "{options} does not read back ({repeat})"
                );
                db.run("drop table again");
            }
        }
        judged += BATCH;
    }
    proves_by_assertions(Promise::LikeBytea, judged);
}

/// What a damaged stream leaves: rows, or the SQLSTATE.
fn outcome_of_copy(db: &Session, table: &str, stream: &[u8]) -> Result<String, String> {
    db.run("begin");
    let copied = block_on(async {
        let sink = db.client().copy_in(&format!("copy {table} from stdin (format binary)")).await?;
        pin_mut!(sink);
        sink.send(Bytes::copy_from_slice(stream)).await?;
        sink.finish().await
    });
    let outcome = match copied {
        Ok(_) => Ok(db.text(&format!("select id, v::bytea from {table} order by 1, 2"))),
        Err(error) => Err(error.code().expect("the server refuses it").code().to_owned()),
    };
    db.run("rollback");
    outcome
}

/// An array of the type with this OID, as its wire format goes.
#[derive(Debug)]
struct Array(Vec<u8>);

impl ToSql for Array {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn array(element: u32, payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut array = [1_i32, 0, element as i32, payloads.len() as i32, 1].map(i32::to_be_bytes).concat();
    for payload in payloads {
        array.extend((payload.len() as i32).to_be_bytes());
        array.extend(payload);
    }
    array
}

/// Where an array's wire format has the OID of its elements, which is the only difference between the two types'.
const ELEMENT: std::ops::Range<usize> = 8..12;

/// One input of a hundred: each is a statement.
#[test]
fn damaged_streams_mean_the_same_or_are_refused_alike() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run("create temp table ours (id int, v rbytea); create temp table theirs (id int, v bytea)");
    let oid: u32 = db.one("select 'rbytea'::regtype::oid", &[]);
    let [ours, theirs] = ["rbytea", "bytea"].map(|ty| {
        let echo = format!("select array(select unnest($1::{ty}[])::bytea)::text");
        block_on(db.client().prepare(&echo)).unwrap()
    });
    let mut generator = Generator::new();
    let (mut judged, mut refused) = (0, 0);
    while judged < generator.inputs / 100 {
        let payloads: Vec<_> = (0..generator.below(4)).map(|_| generator.payload()).collect();
        let mut damaged = stream(&payloads);
        for _ in 0..generator.below(3) {
            generator.mutate(&mut damaged);
        }
        let expected = outcome_of_copy(&db, "theirs", &damaged);
        refused += u64::from(expected.is_err());
        assert_eq!(
            outcome_of_copy(&db, "ours", &damaged),
            expected,
            "COPY of {} ({})",
            damaged.escape_ascii(),
            generator.repeat()
        );

        let mut damaged = array(Type::BYTEA.oid(), &payloads);
        for _ in 0..generator.below(3) {
            generator.mutate(&mut damaged);
        }
        // PostgreSQL lets arrays of an extension's type arrive with any other element type.
        if damaged.get(ELEMENT).is_some_and(|element| *element != Type::BYTEA.oid().to_be_bytes()) {
            continue;
        }
        let mut renamed = damaged.clone();
        if let Some(element) = renamed.get_mut(ELEMENT) {
            element.copy_from_slice(&oid.to_be_bytes());
        }
        let [found, expected] = [(&ours, renamed), (&theirs, damaged)].map(|(echo, array)| {
            match block_on(db.client().query_one(echo, &[&Array(array)])) {
                Ok(row) => Ok(row.get::<_, String>(0)),
                Err(error) => Err(error.code().expect("the server refuses it").code().to_owned()),
            }
        });
        assert_eq!(found, expected, "an array of {payloads:?} ({})", generator.repeat());
        refused += u64::from(expected.is_err());
        judged += 2;
    }
    assert!(
        refused > judged / 8 && refused < judged * 7 / 8,
        "{refused} of {judged} refused test one side only"
    );
    proves_by_assertions(Promise::BadInput, judged);
}
