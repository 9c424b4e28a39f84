//! The row trigger stays where it belongs, whatever commands take it away, rename it, or make a table one that needs it.

use crate::support::cluster::Cluster;
use crate::support::session::Session;

/// The tables that have the row trigger as it should be.
fn attached(db: &Session) -> String {
    db.text(
        "select tgrelid::regclass::text from pg_trigger
          where tgfoid = 'rbytea_externalize'::regproc and tgenabled = 'A' and tgname like '~rbytea%' order by 1",
    )
}

#[test]
fn a_composite_type_that_comes_to_hold_values_brings_the_trigger_to_its_tables() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run(
        "create type part as (a int); create table direct (c part); create table list (c part[]);
         create type whole as (x part); create table nested (c whole); create table other (n int)",
    );
    assert_eq!(attached(&db), "");
    db.run("alter type part add attribute r rbytea");
    assert_eq!(attached(&db), "direct\nlist\nnested", "references could be stored there without a check");
}

#[test]
fn a_view_or_foreign_table_that_comes_to_hold_values_brings_the_trigger_to_tables_of_its_rows() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run(
        "create view v as select 1 as a; create table of_view (c v);
         create foreign data wrapper w; create server s foreign data wrapper w; create foreign table f (a int) server s;
         create table of_foreign (c f[])",
    );
    db.run("create or replace view v as select 1 as a, null::rbytea as r");
    assert_eq!(attached(&db), "of_view");
    db.run("alter foreign table f add column r rbytea");
    assert_eq!(attached(&db), "of_foreign\nof_view");
}

#[test]
fn an_owner_cannot_lose_the_row_trigger() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run("create role alice; create schema authorization alice; set role alice; create table alice.t (r rbytea)");
    let trigger = || {
        db.one::<String>(
            "select quote_ident(tgname) from pg_trigger where tgrelid = 'alice.t'::regclass",
            &[],
        )
    };
    db.run(&format!("drop trigger {} on alice.t", trigger()));
    assert_eq!(attached(&db), "t");
    db.run(&format!("alter trigger {} on alice.t rename to first", trigger()));
    assert_eq!(attached(&db), "t", "it has to fire after the user's own triggers");
    db.run("insert into alice.t values ('payload')");
    assert_eq!(db.text("select uuid(r) is not null from alice.t"), "t", "the payload went into the table");
}
