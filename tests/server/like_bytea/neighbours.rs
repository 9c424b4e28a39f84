//! What is no business of rbytea's means what it meant before: more functions of the same name make some calls
//! ambiguous, or answer others.

use crate::support::cluster::Cluster;
use crate::support::session::Session;
use crate::support::twins::outcome;

/// Calls whose arguments have no type, or one that could be converted to several.
const EXPRESSIONS: &[&str] = &[
    "length('abc')",
    "length(null)",
    "length('abc'::varchar)",
    "length('abc'::char(5))",
    "length('abc'::bytea)",
    "length('abc'::name)",
    "length(b'101')",
    "length('a b'::tsvector)",
    "length('[(0,0),(1,1)]'::lseg)",
    "length('abc', 'utf8')",
    "octet_length('abc')",
    "octet_length(null)",
    "octet_length('abc'::bytea)",
    "octet_length(b'101')",
    "substring('abcdef' from 2 for 3)",
    "substring('abcdef' from 2)",
    "substring('abcdef' for 2)",
    "substring('abcdef', 2)",
    "substring('abcdef', '2')",
    "substring('abcdef' from 'c.')",
    "substring(null from 1)",
    "substring('abcdef'::bytea from 2 for 3)",
    "substring(b'10101' from 2 for 3)",
    "substr('abcdef', 2)",
    "substr('abcdef', 2, 3)",
    "substr('abcdef'::bytea, 2, 3)",
    "substr(null, 2)",
    "md5('abc')",
    "md5(null)",
    "md5('abc'::bytea)",
    "sha224('abc')",
    "sha256('abc')",
    "sha256(null)",
    "sha512('abc')",
    "encode('abc', 'hex')",
    "position('b' in 'abc')",
    "overlay('abc' placing 'x' from 2)",
    "trim('abc ')",
    "btrim('abc', 'a')",
    "get_byte('abc', 1)",
    "'a' || 'b'",
    "'a' || null",
    "'\\x01' || '\\x02'",
    "'\\x01'::bytea || '\\x02'",
    "1 || 'a'",
    "'a'::varchar || 'b'::char(3)",
    "array[1] || '{2}'",
    "array['a'] || 'b'::text",
    "'{\"a\": 1}'::jsonb || '{}'",
    "b'1' || b'0'",
    "'a' = 'a'",
    "null = null",
    "'a' <> 'b'",
    "'\\x01'::bytea = '\\x01'",
    "'a' in ('a', 'b')",
    "'a' = any ('{a}')",
    "uuid('00000000-0000-4000-8000-000000000000')",
    "bytea('abc')",
    "bytea('abc'::text)",
    "coalesce('a', null)",
    "nullif('a', 'b')",
    "string_agg('a', ',')",
    "count(distinct 'a')",
    "max('a')",
    "convert_to('abc', 'utf8')",
    "len('abc')",
    "md5sum('abc')",
];

/// What an expression means, or the SQLSTATE that it raises.
struct Meaning {
    expression: &'static str,
    /// Its type and value.
    value: Result<String, String>,
    /// The types of parameters in the place of its literals.
    parameters: Result<String, String>,
}

fn meanings(db: &Session) -> Vec<Meaning> {
    let meaning = |expression: &&'static str| {
        let value = outcome(db, &format!("select pg_typeof(x), x::text from (select {expression} as x) y"));
        let mut parameters = 0;
        let mut prepared = String::new();
        for (at, part) in expression.split('\'').enumerate() {
            if at % 2 == 1 {
                parameters += 1;
                prepared += &format!("${parameters}");
            } else {
                prepared += part;
            }
        }
        let types = outcome(db, &format!("prepare p as select {prepared}"))
            .map(|_| db.text("select parameter_types from pg_prepared_statements"));
        if types.is_ok() {
            db.run("deallocate p");
        }
        Meaning { expression, value, parameters: types }
    };
    EXPRESSIONS.iter().map(meaning).collect()
}

#[test]
fn expressions_without_rbytea_mean_what_they_meant() {
    let cluster = Cluster::running();
    let db = cluster.session();
    let before = meanings(&db);
    assert!(
        before.iter().filter(|meaning| meaning.value.is_ok() && meaning.parameters.is_ok()).count() > 50,
        "nothing was asked"
    );
    db.run("create extension rbytea");
    let ours = ["len('abc')", "md5sum('abc')"];
    for (before, after) in before.into_iter().zip(meanings(&db)) {
        if ours.contains(&before.expression) {
            assert_eq!(
                before.value,
                Err("42883".to_owned()),
                "{} is no name of PostgreSQL's",
                before.expression
            );
            continue;
        }
        assert_eq!(after.value, before.value, "the extension has changed what {} means", before.expression);
        // What PostgreSQL refuses without the extension may find a function now.
        if before.parameters.is_ok() {
            assert_eq!(
                after.parameters, before.parameters,
                "the extension has changed the parameters of {}",
                before.expression
            );
        }
    }
    db.run("drop extension rbytea");
    assert_eq!(
        meanings(&db)[0].value,
        Ok("integer|3".to_owned()),
        "the functions of PostgreSQL are still there"
    );
}
