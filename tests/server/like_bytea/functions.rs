//! Functions and operators of bytea, on rbytea.

use crate::support::cluster::Cluster;
use crate::support::payload::Payload;
use crate::support::session::Session;
use crate::support::twins::{noise, twins};

/// Whatever bytea has; $1 is the value.
const EXPRESSIONS: &[&str] = &[
    "length($1)",
    "octet_length($1)",
    "bit_length($1)",
    "md5($1)",
    "sha224($1)",
    "sha256($1)",
    "sha384($1)",
    "sha512($1)",
    "encode($1, 'hex')",
    "encode($1, 'base64')",
    "encode($1, 'escape')",
    "encode($1, 'rot13')",
    "position('\\x00'::bytea in $1)",
    "position('\\x02' in $1)",
    "position(''::bytea in $1)",
    "position(substring($1 from 60) in $1)",
    "position($1 in '\\x0203'::bytea)",
    "$1 || $1",
    "$1 || '\\x0203'",
    "'\\x0203' || $1",
    "$1 || '\\x0203'::bytea",
    "'\\x0203'::bytea || $1",
    "get_byte($1, 0)",
    "get_byte($1, 126)",
    "get_byte($1, 8191)",
    "get_byte($1, -1)",
    "get_bit($1, 9)",
    "set_byte($1, 1, 255)",
    "set_bit($1, 9, 1)",
    "overlay($1 placing '\\x0203' from 3)",
    "overlay($1 placing '\\x0203' from 1 for 1)",
    "overlay($1 placing '\\x0203' from -1)",
    "trim('\\x02' from $1)",
    "trim(leading '\\x02' from $1)",
    "btrim($1, '\\x0200')",
    "ltrim($1, '\\x0200')",
    "rtrim($1, '\\x0200')",
    "convert_from($1, 'LATIN1')",
    "convert_from($1, 'UTF8')",
    "convert($1, 'LATIN1', 'UTF8')",
    "$1 = ''",
    "$1 <> '\\x02'",
    "$1 like '\\\\x02%'",
    "$1 is null",
    "$1::text",
    "$1::varchar(10)",
    "row($1)::text",
    "array[$1]::text",
    "array[$1] = array[$1]",
    "coalesce($1, '')::bytea",
    "nullif($1, '')::bytea",
    "case when $1 = '' then null else $1 end::bytea",
    "to_json($1)",
    "to_jsonb($1)",
    "json_build_object('v', $1)",
    "format('%s', $1)",
    "concat($1, $1)",
    "quote_literal($1)",
    "string_agg($1, '\\x00')",
    "count($1)",
    "any_value_of(array[$1]::text[])",
];

/// `attempt(value, expression)`: type and digest of the result, or the SQLSTATE.
fn with_attempt(db: &Session) {
    db.run("create function any_value_of(text[]) returns text language sql as 'select $1[1]'");
    for ty in ["bytea", "rbytea"] {
        db.run(&format!(
            "create function attempt(value {ty}, expression text) returns text language plpgsql as $$
             declare result text;
             begin
                 execute 'select pg_typeof(r) || '' '' || coalesce(md5(r::text), ''null'') from (select '
                     || expression || ' as r) as q' into result using value;
                 return result;
             exception when others then
                 return sqlstate;
             end $$"
        ));
    }
}

#[test]
fn functions_and_operators_say_the_same_of_every_form() {
    let cluster = Cluster::with_extension();
    let db = twins(&cluster);
    with_attempt(&db);
    let mut wrong = Vec::new();
    for expression in EXPRESSIONS {
        let differs = db.text(&format!(
            "select count(*), min(ours), min(theirs)
             from (select attempt(v, e) as ours, attempt(b, e) as theirs from twins, (values ($e${expression}$e$)) x (e)) y
             where ours is distinct from theirs having count(*) > 0"
        ));
        if !differs.is_empty() {
            wrong.push(format!("{expression}: {differs}"));
        }
    }
    assert!(wrong.is_empty(), "rbytea differs from bytea (how often|ours|bytea's):\n{}", wrong.join("\n"));
    let failing: Vec<_> = EXPRESSIONS
        .iter()
        .filter(|expression| {
            let all = "select bool_and(attempt(b, $1) ~ '^[0-9A-Z]{5}$') from stored";
            db.one(all, &[expression])
        })
        .collect();
    assert_eq!(
        failing,
        [&"encode($1, 'rot13')", &"get_byte($1, -1)", &"overlay($1 placing '\\x0203' from -1)"],
        "the others were compared by more than their errors"
    );
}

#[test]
fn null_stays_null() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    with_attempt(&db);
    db.run("create table t (v rbytea, b bytea); insert into t values (null, null)");
    for expression in EXPRESSIONS {
        let row = &db.rows("select attempt(v, $1), attempt(b, $1) from t", &[expression])[0];
        assert_eq!(row.get::<_, String>(0), row.get::<_, String>(1), "{expression} of NULL");
    }
    assert!(cluster.live().is_empty(), "NULL has a file");
}

/// In a row of many columns PostgreSQL moves even references to the TOAST table, or compresses them.
#[test]
fn a_row_full_of_payloads_reads_back() {
    const COLUMNS: usize = 100;
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    let list = |prefix: &str, suffix: &str| {
        (1..=COLUMNS).map(|n| format!("{prefix}{n}{suffix}")).collect::<Vec<_>>().join(", ")
    };
    db.run(&format!("create table wide ({})", list("c", " rbytea")));
    for compressible in [false, true] {
        let bytes = |n: usize| if compressible { vec![n as u8; 3000] } else { noise(3000, n as u64) };
        let values: Vec<_> = (1..=COLUMNS).map(|n| Payload(bytes(n))).collect();
        let params: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
            values.iter().map(|value| value as &(dyn tokio_postgres::types::ToSql + Sync)).collect();
        db.execute(&format!("insert into wide values ({})", list("$", "")), &params);

        let row = &db.rows("select * from wide", &[])[0];
        for (at, value) in values.iter().enumerate() {
            assert_eq!(row.get::<_, Payload>(at), *value, "column {at} came back changed");
        }
        let same = list("substring(c", " from 2990) || ''::bytea").replace(", ", " || ");
        let tails: Vec<u8> = values.iter().flat_map(|value| value.0[2989..].to_vec()).collect();
        assert_eq!(db.one::<Payload>(&format!("select {same} from wide"), &[]), Payload(tails));
        db.run("delete from wide");
    }
    assert_eq!(cluster.live().len(), 2 * COLUMNS, "each payload has one file");
    db.run("insert into wide select from generate_series(1, 3); update wide set c1 = 'a', c100 = 'a'");
    assert_eq!(db.text("select count(*) from wide where c1 = c100 and uuid(c1) <> uuid(c100)"), "3");
}
