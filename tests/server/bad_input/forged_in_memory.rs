//! Values that are kept somewhere while the type of a field of theirs changes from bytea to rbytea.

use crate::bad_input::forging::{assert_kept, with_secret};
use crate::evidence::{Promise, proves_by_assertions};
use crate::support::session::Session;

/// Whether the server notices that a value is older than its type, as it does since the minor releases of November 2026. One that
/// does not takes any bytes for whatever they have become, a pointer included; that is not for an extension to prevent.
fn is_noticed(user: &Session) -> bool {
    user.run("create type probe as (v bytea)");
    user.run("begin; declare probe cursor with hold for select row('A'::bytea)::probe; commit");
    let altered = user.try_run("alter type probe alter attribute v type text");
    let noticed = altered.is_err() || user.try_run("fetch probe").is_err();
    user.run("close probe");
    noticed
}

/// In variables, cursors, arrays, constants of views, functions, domains and defaults.
#[test]
fn a_value_that_outlives_a_change_of_its_type() {
    let (_cluster, user, hex) = with_secret();
    if !is_noticed(&user) {
        eprintln!("not judged: {}", user.text("select version()"));
        return;
    }
    let mut cases = 0;
    for (number, kind) in ["type", "table"].into_iter().enumerate() {
        let create = |name: &str| match kind {
            "type" => format!("create type {name} as (n int, v bytea)"),
            _ => format!("create table {name} (n int, v bytea)"),
        };
        let alter = |name: &str| match kind {
            "type" => format!("alter type {name} alter attribute v type rbytea"),
            _ => format!("alter table {name} alter v type rbytea"),
        };
        let value = format!("row(1, ''\\x{hex}''::bytea)");
        let plain = value.replace("''", "'");
        let ways: Vec<(&str, Vec<String>)> = vec![
            (
                "cursor",
                vec![
                    format!(
                        "begin; declare c{number} cursor with hold for select {plain}::cursor_row as p; commit"
                    ),
                    "ALTER".into(),
                    format!("fetch c{number}"),
                ],
            ),
            (
                "variable",
                vec![format!(
                    "do $$ declare p variable_row; begin p := {plain}::variable_row; execute 'ALTER'; raise notice '%', p.v; raise notice '%', p; end $$"
                )],
            ),
            (
                "field",
                vec![format!(
                    "do $$ declare p field_row; v rbytea; begin p := {plain}::field_row; execute 'ALTER'; v := p.v; raise notice '%', v; raise notice '%', substring(v from 1); end $$"
                )],
            ),
            (
                "array",
                vec![format!(
                    "do $$ declare p array_row[]; begin p := array[{plain}::array_row]; execute 'ALTER'; raise notice '%', p; raise notice '%', (select x.v from unnest(p) x); end $$"
                )],
            ),
            (
                "jsonb",
                vec![format!(
                    "do $$ declare p jsonb_row; begin p := {plain}::jsonb_row; execute 'ALTER'; raise notice '%', to_jsonb(p); raise notice '%', (jsonb_populate_record(p, '{{}}')).v; end $$"
                )],
            ),
            (
                "returned",
                vec![
                    format!(
                        "create function returned() returns setof returned_row language plpgsql as $$ begin return next {plain}::returned_row; execute 'ALTER'; return next {plain}::returned_row; end $$"
                    ),
                    "select returned()".into(),
                    "select v from returned()".into(),
                ],
            ),
            (
                "view",
                vec![
                    format!("create view view_view as select {plain}::view_row as p"),
                    "ALTER".into(),
                    "select (p).v from view_view".into(),
                    "select substring((p).v from 1) from view_view".into(),
                ],
            ),
            (
                "body",
                vec![
                    format!(
                        "create function body() returns body_row begin atomic select {plain}::body_row; end"
                    ),
                    "ALTER".into(),
                    "select (body()).v".into(),
                    "select body()".into(),
                ],
            ),
            (
                "argument",
                vec![
                    format!(
                        "create function argument(p argument_row default {plain}::argument_row) returns argument_row language sql as 'select $1'"
                    ),
                    "ALTER".into(),
                    "select (argument()).v".into(),
                ],
            ),
            (
                "domain",
                vec![
                    format!("create domain domain_domain as domain_row default {plain}::domain_row"),
                    "ALTER".into(),
                    "create table domain_table (p domain_domain, n int)".into(),
                    "insert into domain_table (n) values (1)".into(),
                    "select (p).v from domain_table".into(),
                ],
            ),
            (
                "aggregate",
                vec![
                    format!(
                        "create function aggregate_step(s aggregate_row, n int) returns aggregate_row language plpgsql as $$ begin if n = 2 then execute 'ALTER'; end if; return coalesce(s, {plain}::aggregate_row); end $$"
                    ),
                    "create aggregate aggregate_all(int) (sfunc = aggregate_step, stype = aggregate_row)"
                        .into(),
                    "select (aggregate_all(n)).v from generate_series(1, 3) n".into(),
                ],
            ),
            (
                "prepared",
                vec![
                    format!("prepare prepared{number} as select {plain}::prepared_row as p"),
                    format!("execute prepared{number}"),
                    "ALTER".into(),
                    format!("execute prepared{number}"),
                ],
            ),
            (
                "recursive",
                vec![
                    format!(
                        "create function recursive_alter() returns int language plpgsql as $$ begin execute 'ALTER'; return 1; end $$"
                    ),
                    format!(
                        "select (p).v, a from (select {plain}::recursive_row as p, recursive_alter() as a offset 0) s"
                    ),
                ],
            ),
        ];
        for (name, statements) in ways {
            let row = format!("{name}_row");
            user.run(&create(&row));
            let statements: Vec<String> =
                statements.iter().map(|sql| sql.replace("ALTER", &alter(&row))).collect();
            cases += assert_kept(&user, &statements);
            let _ = user.try_run("close all; deallocate all");
        }
        user.run("drop schema mallory cascade; create schema mallory");
    }
    proves_by_assertions(Promise::BadInput, cases);
}
