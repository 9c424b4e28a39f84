//! Ways around the input functions: a value of another type, made of the bytes of a reference, that turns into rbytea without a
//! conversion. There is none.

use tokio_postgres::error::SqlState;

use crate::bad_input::forging::{assert_kept, reference, with_secret};
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::Cluster;
use crate::support::payload::Payload;
use crate::support::subscription::{Link, QUICK, far};

/// Types, casts, functions, operators, aggregates and transforms of mallory's own.
#[test]
fn no_object_of_a_user_turns_bytes_into_a_reference() {
    let (_cluster, user, hex) = with_secret();
    let bytes = format!("'\\x{hex}'::bytea");
    let statements: Vec<String> = [
        "create domain raw as bytea",
        "create type box as (v bytea)",
        "create type vbox as (v rbytea)",
        "create type kind as enum ('a')",
        "create cast (raw as rbytea) without function",
        "create cast (box as rbytea) without function",
        "create cast (box as vbox) without function",
        "create cast (vbox as box) without function",
        "create cast (kind as rbytea) without function",
        "create cast (box as vbox) with inout",
        "create cast (bytea as rbytea) with inout",
        "select (row(BYTES)::box::vbox).v",
        "select (row(BYTES)::vbox).v",
        "select (row(BYTES)::box::text::vbox).v",
        "select (array[row(BYTES)::box]::text::vbox[])[1]",
        "select BYTES::raw::rbytea",
        "select BYTES::raw::text::rbytea",
        "create function same(anyelement) returns anyelement language sql as 'select $1'",
        "create function same2(anyelement, rbytea) returns rbytea language sql as 'select $1'",
        "select same(BYTES)::rbytea",
        "create function made() returns rbytea language sql as $$ select BYTES $$",
        "select made()",
        "create function made2() returns rbytea language plpgsql as $$ begin return BYTES; end $$",
        "select made2()",
        "create function made3() returns record language sql as $$ select BYTES, 1 $$",
        "select v from made3() as (v rbytea, n int)",
        "create function made4() returns setof record language plpgsql as $$ begin return query select BYTES, 1; end $$",
        "select v from made4() as (v rbytea, n int)",
        "create function made5() returns setof record language plpgsql as $$ begin return next row(BYTES, 1); end $$",
        "select v from made5() as (v rbytea, n int)",
        "create function made6(out v rbytea) language plpgsql as $$ begin v := BYTES; end $$",
        "select made6()",
        "create function made7(variadic rbytea[]) returns rbytea language sql as 'select $1[1]'",
        "select made7(BYTES, BYTES)",
        "create aggregate last_of(bytea) (sfunc = byteacat, stype = bytea, finalfunc = rbytea)",
        "select last_of(b) from (select BYTES) s (b)",
        "create aggregate kept_of(rbytea) (sfunc = byteacat, stype = bytea)",
        "create aggregate sent_of(bytea) (sfunc = array_append, stype = rbytea[])",
        "create transform for rbytea language sql (to sql with function rbytea_recv(internal))",
        "create operator === (leftarg = rbytea, rightarg = bytea, function = byteaeq)",
        "create function eq(rbytea, bytea) returns bool language internal as 'byteaeq'",
        "create function cast_it(bytea) returns rbytea language internal immutable as 'rbytea'",
        "create type mine",
        "create function mine_in(cstring) returns mine language internal as 'byteain'",
        "create type mine (input = byteain, output = byteaout, like = rbytea)",
        "create type ranged as range (subtype = rbytea)",
        "create type ranged as range (subtype = vbox)",
        "select lower(('[\"(\\\"\\\\\\\\xHEX\\\")\",\"(\\\"\\\\\\\\xHEX\\\")\"]')::ranged)",
        "create table plain (v bytea)",
        "insert into plain values (BYTES)",
        "create table child (v rbytea) inherits (plain)",
        "create table other (v rbytea)",
        "alter table other inherit plain",
        "create table parts (v rbytea) partition by list (len(v))",
        "alter table parts attach partition plain for values in (68)",
        "create table typed of box",
        "alter table plain of vbox",
        "create view seen as select v from plain",
        "create or replace view seen as select v::rbytea from plain",
        "alter view seen alter column v type rbytea",
        "select v from (table plain union all select null::rbytea) s",
        "select coalesce(null::rbytea, v) from plain",
        "select case when true then v else null::rbytea end from plain",
        "select v from plain, lateral (select v::rbytea as w) s where w = v",
        "select nullif(v::rbytea, '') from plain",
        "with recursive r (v) as (select null::rbytea union all select BYTES where false) select * from r",
        "select lag(v::rbytea, 1, v) over () from plain",
        "select (json_populate_record(null::vbox, to_json(b))).v from (select row(v)::box from plain) s (b)",
        "select (xpath('//v/text()', query_to_xml('table plain', true, false, '')))[1]::text::rbytea",
        "update plain set v = BYTES; alter table plain alter v type rbytea using v",
        "select v from plain",
        "alter table plain add w rbytea default BYTES; select w from plain",
        "create table stored (b bytea, v rbytea generated always as (b::rbytea) stored)",
        "insert into stored values (BYTES)",
        "select v from stored",
        "create index on stored (v)",
        "create statistics st on (v::bytea), (b || b) from stored",
        "analyze stored",
        "select most_common_vals::text, histogram_bounds::text from pg_stats where tablename in ('stored', 'plain')",
        "copy (select BYTES) to '/tmp/rbytea-never-written'",
        "do $$ declare v rbytea; b bytea := BYTES; begin v := b; raise notice '%', v; select b into v; raise notice '%', v; execute 'select $1' into v using b; raise notice '%', v; end $$",
        "do $$ declare r record; v rbytea; begin for r in select BYTES as v loop v := r.v; raise notice '%', v; end loop; foreach v in array array[BYTES] loop raise notice '%', v; end loop; end $$",
        "prepare p (rbytea) as select $1; execute p (BYTES); deallocate p",
        "begin; declare c cursor for select BYTES::rbytea; fetch c; rollback",
        "select set_config('mallory.x', BYTES::text, false)::rbytea",
        "select pg_input_is_valid('\\xHEX', 'rbytea')",
    ]
    .iter()
    .map(|sql| sql.replace("BYTES", &bytes).replace("HEX", &hex))
    .collect();
    let cases = assert_kept(&user, &statements);
    for sql in statements.iter().filter(|sql| {
        sql.contains("without function") || sql.contains("language internal") || sql.contains("transform")
    }) {
        assert_eq!(user.sqlstate(sql), SqlState::INSUFFICIENT_PRIVILEGE, "{sql}");
    }
    proves_by_assertions(Promise::BadInput, cases);
}

/// A publisher sends the bytes of a reference to a payload of the subscriber's, in binary and as text, in rows and in the first copy.
#[test]
fn what_a_publisher_sends_is_payload() {
    let cluster = Cluster::with_extension_and(QUICK);
    let db = cluster.session();
    let far = far(&cluster);
    far.run(
        "create table secret (v rbytea); insert into secret values ('a payload of the subscriber alone')",
    );
    let hex = reference(&cluster, &far, "secret");
    let bytes: Vec<u8> =
        (0..78).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect();
    let mut cases = 0;
    for (number, options) in [", binary = true", ", binary = false"].into_iter().enumerate() {
        let table = format!("t{number}");
        db.run(&format!("create table {table} (n int primary key, v bytea, a bytea[]); create publication p{number} for table {table}"));
        far.run(&format!("create table {table} (n int primary key, v rbytea, a rbytea[])"));
        let insert = format!("insert into {table} values ($1, $2, array[$2::bytea])");
        db.execute(&insert, &[&1, &bytes]);
        // An array says the type of its elements, which has another OID there.
        let columns = if number == 0 { "(n, v)" } else { "(n, v, a)" };
        db.run(&format!("alter publication p{number} set table {table} {columns}"));
        let link = Link::new(&cluster, (&db, &far), &format!("s{number}"), &format!("p{number}"), options);
        link.catch_up();
        db.execute(&insert, &[&2, &bytes]);
        db.run(&format!("update {table} set n = 3 where n = 1"));
        link.catch_up();
        let read: Vec<Payload> = far.column(
            &format!("select v from {table} union all select a[1] from {table} where a is not null"),
            &[],
        );
        assert_eq!(read.len(), 2 + 2 * number);
        assert!(
            read.iter().all(|read| read.0 == bytes),
            "a row of the subscriber reads the payload of another"
        );
        cases += read.len() as u64;
        link.end();
    }
    proves_by_assertions(Promise::BadInput, cases);
}
