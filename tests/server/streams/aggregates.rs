//! rbytea_agg(): the concatenation that string_agg() makes, of any length.

use tokio_postgres::error::SqlState;

use super::client::{IN_MEMORY, Uploads, live, open_files};
use crate::support::session::Session;
use crate::support::twin_tables::{Twins, assert_live_is, cluster_with_table};

/// Rows `(k, n, p)` with groups of all sizes: nothing, NULLs alone, a few bytes, around what stays in memory, some MiB.
fn with_pieces(db: &Session) {
    db.run(&format!(
        "create table pieces (k int, n int, p bytea);
         insert into pieces values (1, 1, null), (1, 2, null), (2, 1, ''), (2, 2, null), (3, 1, ''), (3, 2, 'a'), (3, 3, ''), (3, 4, 'b');
         insert into pieces select 4, n, payload(n, 1000) from generate_series(1, 100) n;
         insert into pieces select 5, n, payload(n, {IN_MEMORY} / 4) from generate_series(1, 4) n;
         insert into pieces select 6, n, payload(n, {IN_MEMORY} / 4) from generate_series(1, 4) n union all select 6, 5, 'x';
         insert into pieces values (7, 1, payload(1, {IN_MEMORY} + 1));
         insert into pieces select 8, n, payload(n, 70001) from generate_series(1, 60) n;
         insert into pieces values (8, 61, null)"
    ));
}

#[test]
fn it_is_what_string_agg_says_in_every_form() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    with_pieces(&db);
    // What string_agg() is called with besides, its delimiter, comes behind the first argument.
    let forms = [
        ("(p", " order by n)"),
        ("(p", " order by n desc)"),
        ("(p", " order by md5(n::text))"),
        ("(p", " order by p, n)"),
        ("(distinct p", ")"),
        ("(distinct p", " order by p desc)"),
        ("(p", " order by n) filter (where n % 2 = 0)"),
        ("(all p", " order by n)"),
    ];
    for (argument, rest) in forms {
        let (original, form) =
            (format!("string_agg{argument}, ''::bytea{rest}"), format!("{argument}{rest}"));
        db.run(&format!(
            "truncate t; insert into t (n, b, r) select k, {original}, rbytea_agg{form} from pieces group by k order by k"
        ));
        db.assert_same("t", 8);
        assert_eq!(
            db.text("select string_agg(n::text, ' ' order by n) from t where r is null").split(' ').next(),
            Some("1"),
            "{form}"
        );
    }
    let whole = db.text(
        "select sha256sum(rbytea_agg(p order by k, n)) = encode(sha256(string_agg(p, ''::bytea order by k, n)), 'hex') from pieces",
    );
    assert_eq!(whole, "t", "without GROUP BY");
    db.run("select rvacuum()");
    assert_live_is(&cluster, &db, &[("r", "t")]);
    db.assert_stored("t", 8);
}

#[test]
fn of_nothing_it_is_null_and_of_nothing_but_empty_values_it_is_empty() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    for (query, answer) in [
        ("select rbytea_agg(p) is null from (select ''::bytea p where false) s", "t"),
        (
            "select count(*) from (select rbytea_agg(p) from (select 1 k, ''::bytea p where false) s group by k) s",
            "0",
        ),
        ("select rbytea_agg(null::bytea) is null from generate_series(1, 3)", "t"),
        ("select len(rbytea_agg(''::bytea)) from generate_series(1, 3)", "0"),
        ("select rbytea_agg('x') filter (where false) is null from generate_series(1, 3)", "t"),
        (
            "select encode(rbytea_agg(x::rbytea order by x), 'escape') from (values ('b'::bytea), ('a')) v (x)",
            "ab",
        ),
    ] {
        assert_eq!(db.text(query), answer, "{query}");
    }
    assert_eq!(live(&cluster).0, 0);
}

/// Its final function changes the state, so a window's rows would not be what they say.
#[test]
fn it_is_no_window_function() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    for sql in [
        "select rbytea_agg('x') over (order by n) from generate_series(1, 3) n",
        "select rbytea_agg('x') over () from generate_series(1, 3) n",
    ] {
        assert_eq!(db.sqlstate(sql), SqlState::FEATURE_NOT_SUPPORTED, "{sql}");
    }
    for sql in ["select rbytea_agg_append(null, 'x')", "select rbytea_agg_finish(null)"] {
        // Without an aggregate there is no state: NULL, or an error, and no crash.
        let _ = db.try_run(sql);
    }
    assert_eq!(db.text("select 1"), "1");
}

#[test]
fn a_query_that_fails_midway_leaves_nothing_open() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("create table pieces as select n, payload(n, 50000) p from generate_series(1, 40) n");
    let fails = [
        (
            "select len(rbytea_agg(case when n < 40 then p else (1 / (n - 40))::text::bytea end order by n)) from pieces",
            "22012",
        ),
        (
            "select len(rbytea_agg(case when n < 40 then p else (1 / (n - 40))::text::bytea end)) from pieces",
            "22012",
        ),
        ("select len(rbytea_agg(p)) / (count(*) - 40) from pieces", "22012"),
        ("select n % 3, len(rbytea_agg(p)) / (n % 3 - 1) from pieces group by n % 3", "22012"),
        ("insert into t (n, r) select 1, rbytea_agg(p) from pieces group by n % 2", "23505"),
    ];
    for (sql, code) in fails {
        assert_eq!(db.sqlstate(sql).code(), code, "{sql}");
        assert!(open_files(&cluster.store(), db.pid()).is_empty(), "{sql}");
        // In a savepoint, and caught.
        db.run("begin; savepoint s");
        assert_eq!(db.sqlstate(sql).code(), code, "{sql}");
        db.run("rollback to s; commit");
        assert!(open_files(&cluster.store(), db.pid()).is_empty(), "{sql}");
    }
    db.run("select rvacuum()");
    assert_eq!(live(&cluster).0, 0);
    db.run("insert into t (n, r) select 1, rbytea_agg(p order by n) from pieces");
    db.assert_healthy(1);
}

#[test]
fn a_cursor_that_is_closed_early_closes_its_files() {
    let cluster = cluster_with_table();
    let db = cluster.session();
    db.run("create table pieces as select k, n, payload(n, 100000) p from generate_series(1, 6) k, generate_series(1, 5) n; analyze");
    let hashed = "select k, rbytea_agg(p) from pieces group by k";
    let sorted = "select k, rbytea_agg(p order by n) from pieces group by k";
    for (query, ends) in
        [hashed, sorted].map(|query| (query, ["close c", "close all", "commit", "rollback", "select 1 / 0"]))
    {
        for end in ends {
            db.run(&format!("set enable_sort = {}", query == sorted));
            db.run(&format!(
                "begin; declare c no scroll cursor for select k, len(rbytea_agg) from ({query}) s; fetch c"
            ));
            let open = open_files(&cluster.store(), db.pid()).len();
            assert!(open > 0 || query == sorted, "the test is about files that are open");
            db.run("savepoint s; fetch c; rollback to s; fetch c");
            let _ = db.try_run(end);
            let _ = db.try_run("rollback");
            assert_eq!(open_files(&cluster.store(), db.pid()).len(), 0, "{end}: {query}");
        }
    }
    db.run("select rvacuum()");
    assert_eq!(live(&cluster).0, 0);
    // A cursor WITH HOLD has them all.
    db.run("set rbytea.client_type = rbytea");
    db.run(&format!("begin; declare c cursor with hold for {hashed} order by k; commit"));
    db.run("select rvacuum_purge()");
    db.run("do $$ declare c refcursor := 'c'; f record; begin
                loop fetch c into f; exit when not found; insert into t (n, r) values (f.k, f.rbytea_agg); end loop;
            end $$; close c");
    assert_eq!(db.text("select count(*) from t where len(r) = 500000"), "6");
    db.assert_healthy(6);
}
