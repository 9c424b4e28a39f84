//! A reference in a row names a file. A client that sends the bytes of one, in whatever way, has sent a payload of 78
//! bytes.

use std::error::Error;
use std::fs;

use bytes::BytesMut;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{IsNull, ToSql, Type};

use crate::support::cluster::Cluster;
use crate::support::payload::Payload;
use crate::support::session::Session;

/// The bytes of a parameter in binary format, whatever its type.
#[derive(Debug)]
struct Raw(Vec<u8>);

impl ToSql for Raw {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

const SECRET: &[u8] = b"a payload that is none of mallory's business";

/// A cluster with a secret row, and the reference to its payload as it stands in the table.
fn with_secret() -> (Cluster, Session, Vec<u8>) {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run("create table secret (v rbytea)");
    db.execute("insert into secret values ($1)", &[&Payload(SECRET.to_vec())]);

    let [file] = &cluster.live()[..] else { panic!("one payload, one file") };
    let (birth, uuid) = file.file_name().unwrap().to_str().unwrap().split_once('-').unwrap();
    let reference = [
        &[2, 0, 0, 0, 0, 0][..],
        &(SECRET.len() as u64).to_le_bytes(),
        &u64::from_str_radix(birth, 16).unwrap().to_le_bytes(),
        uuid::Uuid::parse_str(uuid).unwrap().as_bytes(),
        &rbytea_store::value::checksum(SECRET).to_le_bytes(),
        blake3::hash(SECRET).as_bytes(),
    ]
    .concat();
    db.run("checkpoint");
    let heap = fs::read(cluster.data().join(db.text("select pg_relation_filepath('secret')"))).unwrap();
    assert!(heap.windows(reference.len()).any(|bytes| bytes == reference), "this is not what the row holds");

    db.run("create role mallory login; create schema mallory authorization mallory");
    let user = cluster.session_as("mallory");
    user.run(
        "create domain document as rbytea; create type pair as (n int, v rbytea);
         create table t (how text, v rbytea); create table docs (d document); create table many (a rbytea[]);
         create table pairs (p pair); create table bytes (b bytea)",
    );
    (cluster, user, reference)
}

#[test]
fn bytes_of_a_reference_are_payload_whichever_way_they_come_in() {
    let (cluster, user, reference) = with_secret();
    let hex: String = reference.iter().map(|byte| format!("{byte:02x}")).collect();
    let octal: String = reference.iter().map(|byte| format!("\\{byte:03o}")).collect();
    let param = Payload(reference.clone());
    user.execute("insert into bytes values ($1)", &[&param]);

    let field = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
    let element: u32 = user.one("select 'rbytea'::regtype::oid", &[]);
    let integer = [&23u32.to_be_bytes()[..], &field(&7u32.to_be_bytes())].concat();
    let array = [
        &1u32.to_be_bytes()[..],
        &[0; 4],
        &element.to_be_bytes(),
        &1u32.to_be_bytes(),
        &1u32.to_be_bytes(),
        &field(&reference),
    ];
    let pair = [&2u32.to_be_bytes()[..], &integer, &element.to_be_bytes(), &field(&reference)];
    let (array, pair, domain) = (Raw(array.concat()), Raw(pair.concat()), Raw(reference.clone()));

    let ways: &[(&str, &[&(dyn ToSql + Sync)])] = &[
        ("$1::rbytea", &[&param]),
        ("$1::bytea::rbytea", &[&param]),
        ("$1::document", &[&domain]),
        ("($1::rbytea[])[1]", &[&array]),
        ("($1::pair).v", &[&pair]),
        ("'\\x{hex}'::rbytea", &[]),
        ("rbytea '{octal}'", &[]),
        ("rbytea_in('\\x{hex}')", &[]),
        ("'\\x{hex}'::text::rbytea", &[]),
        ("rbytea('\\x{hex}'::bytea)", &[]),
        ("('{{\"\\\\x{hex}\"}}'::rbytea[])[1]", &[]),
        ("(array['\\x{hex}']::rbytea[])[1]", &[]),
        ("('(7,\"\\\\x{hex}\")'::pair).v", &[]),
        ("(row(7, '\\x{hex}'::bytea)::pair).v", &[]),
        ("(json_populate_record(null::pair, '{{\"v\":\"\\\\x{hex}\"}}')).v", &[]),
        ("(select v from json_to_record('{{\"v\":\"\\\\x{hex}\"}}') as x (v rbytea))", &[]),
        ("(select unnest(array_agg(b::rbytea)) from bytes)", &[]),
        ("(select coalesce(null::rbytea, b::rbytea) from bytes)", &[]),
    ];
    for (way, params) in ways {
        let way = way.replace("{hex}", &hex).replace("{octal}", &octal).replace("{{", "{").replace("}}", "}");
        let row = &user
            .rows(&format!("select v::bytea, uuid(v) is null, len(v) from (select {way} as v) x"), params)[0];
        assert_eq!(row.get::<_, Payload>(0), param, "{way} reads another user's payload");
        assert!(row.get::<_, bool>(1), "{way} has made a reference");
        assert_eq!(row.get::<_, i64>(2), 78, "{way}");
        user.execute(&format!("insert into t values ($how${way}$how$, {way})"), params);
    }
    let stored = user.rows("select how, v from t", &[]);
    assert_eq!(stored.len(), ways.len());
    for row in stored {
        assert_eq!(
            row.get::<_, Payload>(1),
            param,
            "{}: a stored row reads something else",
            row.get::<_, String>(0)
        );
    }
    assert_eq!(cluster.live().len(), ways.len() + 1, "each row has a file of its own");
}

#[test]
fn bytes_of_a_reference_are_payload_in_copy_arrays_and_rows_of_tables() {
    let (_cluster, user, reference) = with_secret();
    let hex: String = reference.iter().map(|byte| format!("{byte:02x}")).collect();
    let param = Payload(reference.clone());
    user.copy_in("copy t from stdin", format!("text\t\\\\x{hex}\n").as_bytes());
    user.copy_in("copy t from stdin csv", format!("csv,\\x{hex}\n").as_bytes());
    let binary = [
        &b"PGCOPY\n\xff\r\n\0"[..],
        &[0; 8],
        b"\0\x02",
        b"\0\0\0\x06binary",
        b"\0\0\0\x4e",
        &reference,
        b"\xff\xff",
    ];
    user.copy_in("copy t from stdin binary", &binary.concat());
    user.copy_in("copy docs from stdin", format!("\\\\x{hex}\n").as_bytes());
    user.copy_in("copy many from stdin", format!("{{\"\\\\\\\\x{hex}\"}}\n").as_bytes());
    user.copy_in("copy pairs from stdin", format!("(7,\"\\\\\\\\x{hex}\")\n").as_bytes());
    user.execute("insert into many values (array[$1::rbytea])", &[&param]);
    user.execute("insert into pairs values (row(1, $1::rbytea))", &[&param]);
    user.execute("insert into docs values (rbytea_store($1::bytea))", &[&param]);
    user.execute("insert into bytes values ($1)", &[&param]);
    user.run(
        "alter table bytes alter b type rbytea; alter table many add v rbytea; update many set v = a[1]",
    );

    let read = user.column::<Payload>(
        "select v from t union all select d from docs union all select a[1] from many union all select v from many
         union all select (p).v from pairs union all select b from bytes",
        &[],
    );
    assert_eq!(read.len(), 12);
    assert!(read.iter().all(|read| *read == param), "a row reads another user's payload");
    assert_eq!(
        user.text("select distinct uuid(v) is not null from t"),
        "t",
        "a payload like any other is stored"
    );
}

#[test]
fn no_sql_declares_bytes_to_be_a_reference() {
    let (_cluster, user, _) = with_secret();
    for sql in [
        "create cast (bytea as rbytea) without function",
        "create type mine; create function mine_in(cstring) returns mine language internal as 'byteain'",
        "create function f(bytea) returns rbytea language internal as 'byteacat'",
        "create function f(bytea) returns rbytea language c as '$libdir/rbytea', 'rbytea_to_bytea_wrapper'",
        "alter type rbytea set (receive = none)",
        "create operator class mine for type rbytea using hash as function 1 rbytea_hash(rbytea)",
        "create trigger x before insert on t for each row execute function rbytea_externalize()",
        "create or replace function public.rbytea(bytea) returns rbytea language sql as 'select null::rbytea'",
        "alter extension rbytea drop type rbytea",
        "drop event trigger rbytea_attach",
        "update pg_type set typinput = 'byteain'::regproc where typname = 'rbytea'",
        "select v from secret",
    ] {
        assert_eq!(user.sqlstate(sql), SqlState::INSUFFICIENT_PRIVILEGE, "{sql}");
    }
    for function in ["rbytea_recv", "rbytea_typanalyze"] {
        let state = user.sqlstate(&format!("select {function}('\\x02'::bytea)"));
        assert_eq!(state, SqlState::UNDEFINED_FUNCTION, "{function} takes bytes from SQL");
    }
}
