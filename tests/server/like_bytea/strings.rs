//! The facts about bytea that PostgreSQL's own regression test `strings` holds, and the few that `md5` and `aggregates`
//! have: the same question to both types, with the values as constants and as stored payloads.

use crate::evidence::{Promise, proves_by_assertions};
use crate::support::cluster::Cluster;
use crate::support::session::Session;
use crate::support::twins::{outcome, quoted};

/// Texts in both input formats, good ones and bad ones.
const INPUT: &[&str] = &[
    r"\xC0ffEE",
    r"\x C0 ff EE ",
    "\\xC0\nff\tEE",
    r"\xC0ffE",
    r"\xC0ffEz",
    r"\xC000EE",
    r"\x C 0",
    "C0ffEE",
    r"C0\000EE",
    r"C0\123EE",
    r"C0\678EE",
    r"C0\12EE",
    r"C0\\EE",
    r"C0\EE",
    r"C0\400",
    "SEE\\",
];

/// Expressions; what stands in braces is a value.
const EXPRESSIONS: &[&str] = &[
    // what leaves at the ends
    r"trim({\000} from {\000Anna\000})",
    r"trim(leading {\000} from {\000Anna\000})",
    r"trim(trailing {\000} from {\000Anna\000})",
    r"trim(both {\000} from {\000\000})",
    r"btrim({\000trim\000}, {\000})",
    r"btrim({}, {\000})",
    r"btrim({\000trim\000}, {})",
    r"ltrim({\000\001trim\000}, {\001\000})",
    r"rtrim({\000trim\001\000}, {\001\000})",
    // one part for another
    r"overlay({Ab\000raham} placing {Ab\001raham} from 2)",
    r"overlay({Ab\000raham} placing {\002\003} from 9)",
    r"overlay({Ab\000raham} placing {\002\003} from 5 for 3)",
    r"overlay({Ab\000raham} placing {\002\003} from 0)",
    r"overlay({Ab\000raham} placing {\002\003} from 2 for -1)",
    r"overlay({Ab\000raham} placing {\002\003} from 2147483647 for 1)",
    // parts, at the ends of the integers as well
    "substring({payload} from 2 for 2147483646)",
    "substring({payload} from -10 for 2147483646)",
    "substring({payload} from -10 for -2147483646)",
    "substring({payload} from 2147483647 for 2147483647)",
    "substring({payload} from -2147483648 for 2147483647)",
    "substring({payload} from 3)",
    "substring({payload} from 0 for 3)",
    "substring({payload} for 3)",
    "substr({payload}, 3, 2)",
    "substr({payload}, -1)",
    "substring({} from 1 for 1)",
    // places
    r"position({\x1122} in {\x00112233})",
    r"position({\x2211} in {\x00112233})",
    r"position({} in {\x00112233})",
    r"position({\x00112233} in {})",
    r"position({\x33} in {\x0011223333})",
    // bits and bytes
    r"bit_count({\x0f1e2d3c4b5a69788796a5})",
    "bit_count({})",
    r"get_bit({\x0f1e2d3c4b5a697800}, 43)",
    r"get_bit({\x0f1e2d3c4b5a697800}, 0)",
    r"get_bit({\x0f1e2d3c4b5a697800}, 72)",
    r"get_bit({\x0f1e2d3c4b5a697800}, -1)",
    r"set_bit({\x0f1e2d3c4b5a697800}, 43, 0)",
    r"set_bit({\x0f1e2d3c4b5a697800}, 43, 1)",
    r"set_bit({\x0f1e2d3c4b5a697800}, 43, 2)",
    r"set_bit({\x0f1e2d3c4b5a697800}, 99, 0)",
    r"get_byte({\x0f1e2d3c4b5a697800}, 3)",
    r"get_byte({\x0f1e2d3c4b5a697800}, 99)",
    r"get_byte({}, 0)",
    r"set_byte({\x0f1e2d3c4b5a697800}, 7, 11)",
    r"set_byte({\x0f1e2d3c4b5a697800}, 7, 300)",
    r"set_byte({\x0f1e2d3c4b5a697800}, 9, 11)",
    // texts of bytes
    r"encode({\x0f1e2d3c4b5a697800}, 'hex')",
    r"encode({\x0f1e2d3c4b5a697800}, 'escape')",
    r"encode({\x0f1e2d3c4b5a697800}, 'base64')",
    r"decode(encode({\x0f1e2d3c4b5a697800}, 'hex'), 'hex') = {\x0f1e2d3c4b5a697800}",
    r"decode(encode({\x0f1e2d3c4b5a697800}, 'escape'), 'escape') = {\x0f1e2d3c4b5a697800}",
    "encode({a payload that is longer than one line of base64 has characters, which are seventy-six}, 'base64')",
    "decode(encode({one more}, 'base64'), 'base64') = {one more}",
    "encode({}, 'base64')",
    r"encode({\x00}, 'base85')",
    // sums
    "md5({})",
    "md5({a})",
    "md5({message digest})",
    "md5({12345678901234567890123456789012345678901234567890123456789012345678901234567890})",
    "sha224({})",
    "sha224({A lazy dog was jumped over.})",
    "sha256({})",
    "sha256({A lazy dog was jumped over.})",
    "sha384({})",
    "sha384({A lazy dog was jumped over.})",
    "sha512({})",
    "sha512({A lazy dog was jumped over.})",
    "crc32({})",
    "crc32({A lazy dog was jumped over.})",
    "crc32c({A lazy dog was jumped over.})",
    r"reverse({\x0102ff})",
    // lengths
    "length({payload})",
    r"octet_length({\000\001})",
    "bit_length({payload})",
    "length({gr\\303\\266\\303\\237er}, 'UTF8')",
    r"length({gr\303}, 'UTF8')",
    // characters
    r"convert_from({gr\303\266\303\237er}, 'UTF8')",
    r"convert_from({gr\366\337er}, 'LATIN1')",
    r"convert_from({gr\366\337er}, 'UTF8')",
    r"convert_from({\000}, 'LATIN1')",
    r"convert({gr\366\337er}, 'LATIN1', 'UTF8')",
    r"convert({payload}, 'LATIN1', 'no encoding')",
    // together
    "{pay} || {load}",
    "{} || {}",
    "{pay} || 'load'",
    r"'\x00' || {pay}",
    // patterns
    "{hawkeye} like {h%}",
    "{hawkeye} not like {h%}",
    "{hawkeye} like {H%}",
    "{indio} like {_ndio}",
    "{indio} like {in__o}",
    "{indio} like {in_o}",
    "{abc} like {_b_}",
    "{} like {%}",
    "{} like {_}",
    r"{\000\001} like {\000_}",
    r"{a_c} like {a\\_c}",
    r"{abc} like {a\\_c}",
    "{a_c} like {a$_c} escape {$}",
    "{abc} like {a$_c} escape {$}",
    "{a$c} like {a$$c} escape {$}",
    "{a%c} like {a$%c} escape {$}",
    "{abc} like {abc$} escape {$}",
    "{abc} like {abc} escape {$$}",
    "{abc} like {abc} escape {}",
    r"{abc} like {abc\\}",
    "{jack} like {%____%}",
    "{jack} like {____%}",
    "{jack} like {%__}",
    "{jack} like {_____%}",
    // comparison
    "{abc} = {abc}",
    "{abc} <> {abd}",
    "{abc} < {abd}",
    "{abc} < {abcd}",
    "{abc} >= {ABC}",
    r"{\377} > {\000}",
    "{} < {a}",
    "{b} between {a} and {c}",
];

/// Aggregates over the rows (1, NULL), (2, ff), (3, aa), (4, 00), in this order or another.
const AGGREGATES: &[&str] = &[
    "string_agg(v, '')",
    "string_agg(v, '' order by n)",
    "string_agg(v, ''::@ order by n desc)",
    "string_agg(v, null)",
    "string_agg(v, decode('ee', 'hex') order by n)",
    "string_agg(v, v order by n)",
    "string_agg(v, '-') filter (where n < 0)",
    "count(v)",
    "array_agg(v order by n)",
    "max(length(v))",
];

/// The values in braces, and the expression with these in their places.
fn split(expression: &str, mut place: impl FnMut(&str) -> String) -> String {
    let mut parts = expression.split(['{', '}']);
    let mut sql = parts.next().unwrap_or_default().to_owned();
    while let (Some(value), Some(after)) = (parts.next(), parts.next()) {
        sql += &place(value);
        sql += after;
    }
    sql
}

fn database(cluster: &Cluster) -> Session {
    let db = cluster.session();
    for (schema, ty) in [("ours", "rbytea"), ("theirs", "bytea")] {
        db.run(&format!(
            "create schema {schema};
             create table {schema}.payloads (name text primary key, v {ty});
             create table {schema}.numbered (n int, v {ty});
             insert into {schema}.numbered values (1, null), (2, '\\xff'), (3, '\\xaa'), (4, '\\x00')"
        ));
        for expression in EXPRESSIONS {
            split(expression, |value| {
                let value = quoted(value);
                db.run(&format!(
                    "insert into {schema}.payloads values ({value}, {value}) on conflict do nothing"
                ));
                String::new()
            });
        }
    }
    db
}

#[test]
fn the_regression_tests_of_postgresql_have_the_same_answers() {
    let cluster = Cluster::with_extension();
    let db = database(&cluster);
    let (mut asked, mut refused) = (0, 0);
    let mut ask = |ours: &str, theirs: &str| {
        for output in ["hex", "escape"] {
            db.run(&format!("set bytea_output = {output}"));
            let expected = outcome(&db, theirs);
            assert_eq!(outcome(&db, ours), expected, "{ours} with bytea_output = {output}");
            asked += 1;
            refused += u64::from(expected.is_err());
        }
    };
    for text in INPUT {
        let [ours, theirs] = ["rbytea", "bytea"].map(|ty| format!("select {}::{ty}", quoted(text)));
        ask(&ours, &theirs);
    }
    for expression in EXPRESSIONS {
        let constant = |ty: &str| split(expression, |value| format!("{}::{ty}", quoted(value)));
        let stored = |schema: &str| {
            split(expression, |value| {
                format!("(select v from {schema}.payloads where name = {})", quoted(value))
            })
        };
        let theirs = format!("select {}", constant("bytea"));
        ask(&format!("select {}", constant("rbytea")), &theirs);
        ask(&format!("select {}", stored("ours")), &theirs);
    }
    for aggregate in AGGREGATES {
        let [ours, theirs] = [("ours", "rbytea"), ("theirs", "bytea")]
            .map(|(schema, ty)| format!("select {} from {schema}.numbered", aggregate.replace('@', ty)));
        ask(&ours, &theirs);
    }
    assert!(refused > 20 && refused < asked / 3, "{refused} of {asked} questions are refused");
    proves_by_assertions(Promise::LikeBytea, asked);
}

/// Where bytea is compressed or cut into pieces: parts of long values, stored in each way that a column can be told to.
#[test]
fn parts_of_long_values_are_the_same_however_a_column_stores_them() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    let mut asked = 0;
    for storage in ["plain", "external", "extended", "main"] {
        db.run(&format!(
            "drop table if exists long;
             create table long (n int, b bytea, v rbytea);
             alter table long alter b set storage {storage}, alter v set storage {storage}"
        ));
        let len = if storage == "plain" { 7000 } else { 100_000 };
        db.run(&format!(
            "insert into long select n, p, p
             from generate_series(1, 2) n, cast(repeat('1234567890', {len} / 10) as bytea) p"
        ));
        for cut in [
            "substr(@, -1, 5)",
            "substr(@, 0, 3)",
            "substr(@, len - 5)",
            "substr(@, len - 5, 5)",
            "substr(@, len - 5, 2000000000)",
            "substr(@, len + 1)",
            "substring(@ from len / 2 for 3)",
            "substring(@ from 1 for -1)",
            "substr(@, 5, -1)",
            "md5(@)",
            "length(@)",
            "position('90123'::bytea in @)",
            "md5(@ || @)",
            "get_byte(@, len - 1)",
            "get_byte(@, len)",
        ] {
            let [ours, theirs] = ["v", "b"].map(|column| {
                let cut = cut
                    .replace('@', column)
                    .replace("len ", &format!("{len} "))
                    .replace("len)", &format!("{len})"));
                outcome(&db, &format!("select {cut} from long order by n"))
            });
            assert_eq!(ours, theirs, "{cut} of a column with storage {storage}");
            asked += 1;
        }
    }
    proves_by_assertions(Promise::LikeBytea, asked);
}
