//! A database with everything that a dump has to carry, and the comparison of a restored one with it.

use crate::support::cluster::Cluster;
use crate::support::payload::Payload;
use crate::support::session::Session;
use crate::support::twins::{noise, payloads};

/// Every relation with payloads, what identifies its rows, and whether it stores them.
pub const RELATIONS: &[(&str, bool)] = &[
    ("plain", true),
    ("documents", true),
    ("parts", true),
    ("parts_low", true),
    ("parts_rest", true),
    ("only parent", true),
    ("child", true),
    ("alice.own", true),
    ("arrays", false),
    ("kept", false),
    ("seen", false),
];

const SCHEMA: &str = "
    create schema alice authorization alice;
    create domain document as rbytea check (octet_length(value) < 10000000);
    create function shout() returns trigger language plpgsql as $$
        begin if new.id = 1000 then new.v := 'shouted'; end if; return new; end $$;
    create table plain (id int primary key, v rbytea, w rbytea default '\\x0203',
                        start bytea generated always as (substring(v from 1 for 3)) stored);
    create trigger shout before insert on plain for each row execute function shout();
    create index on plain using hash (v);
    create table documents (id int, v document not null, check (length(v) >= 0));
    create table parts (id int, v rbytea) partition by range (id);
    create table parts_low partition of parts for values from (0) to (20);
    create table parts_rest partition of parts default;
    create table parent (id int, v rbytea);
    create table child () inherits (parent);
    create table alice.own (id int, v rbytea, other int references plain);
    alter table alice.own owner to alice;
    create table arrays (id int, v rbytea[]);
    create view seen as select id, v from plain where v <> '';
    create materialized view kept as select id, v from plain with no data";

/// Makes the database `original` and the role alice.
pub fn original(cluster: &Cluster) -> Session {
    cluster.session().run("create role alice login");
    cluster.session().run("create database original");
    let db = cluster.session_in("original");
    db.run("create extension rbytea");
    db.run(SCHEMA);
    let small = payloads().into_iter().filter(|bytes| bytes.len() < 9_000);
    for (id, bytes) in small.chain([noise(400_000, 9)]).enumerate() {
        db.execute("insert into plain (id, v) values ($1, $2)", &[&(id as i32), &Payload(bytes)]);
    }
    db.run(
        "insert into plain values (999, null, null), (1000, 'said', 'said');
         insert into documents select id, v from plain where v is not null;
         insert into parts select id, v from plain;
         insert into parent select id, v from plain where id % 2 = 0; insert into child select id, v from plain where id % 2 = 1;
         insert into alice.own select id, v, id from plain;
         insert into arrays select id, array[v, null, 'in the row'] from plain;
         refresh materialized view kept",
    );
    db
}

/// Creates an empty database.
pub fn empty(cluster: &Cluster, name: &str) {
    cluster.session().run(&format!("create database {name}"));
}

/// That every relation of the schemas that `name` has is what it is in the original, stored as there, with its trigger. The
/// number of payloads that were compared.
#[track_caller]
pub fn assert_restored(cluster: &Cluster, original: &Session, name: &str, schema: Option<&str>) -> u64 {
    let copy = cluster.session_in(name);
    let wanted = |relation: &&(&str, bool)| match schema {
        Some(schema) => relation.0.starts_with(&format!("{schema}.")),
        None => true,
    };
    let mut stored = 0;
    for (relation, stores) in RELATIONS.iter().filter(wanted) {
        let content = format!("select * from {relation} order by id, v::text");
        assert!(copy.text(&content) == original.text(&content), "{name}: {relation} has other rows");
        if !stores {
            continue;
        }
        assert_eq!(
            copy.text(&format!("select count(*) from {relation} where (v is null) <> (uuid(v) is null)")),
            "0",
            "{name}: payloads of {relation} stay in their rows"
        );
        assert_eq!(
            copy.text(&format!(
                "select count(*) from {relation} where md5store(v) is distinct from md5(v::bytea)"
            )),
            "0",
            "{name}: a file of {relation} is not its payload"
        );
        // A partitioned table is counted by its partitions, `only parent` leaves the child out.
        if *relation != "parts" {
            stored += copy.one::<i64>(&format!("select count(v) from {relation}"), &[]);
        }
    }
    if schema.is_none() {
        stored += copy.one::<i64>("select count(w) from plain", &[]);
    }
    let oid: u32 = copy.one("select oid from pg_database where datname = current_database()", &[]);
    let live = cluster.store_files().remove(&oid).unwrap_or_default().live;
    assert_eq!(live.len() as i64, stored, "{name}: each payload has one file");

    let filter =
        schema.map(|schema| format!("and relnamespace = '{schema}'::regnamespace")).unwrap_or_default();
    let triggers = format!(
        "select c.oid::regclass::text collate \"C\", count(*), min(tgenabled::text), bool_and(tgisinternal) from pg_trigger t
         join pg_class c on c.oid = tgrelid where tgfoid = 'rbytea_externalize'::regproc {filter} group by 1 order by 1"
    );
    assert_eq!(copy.text(&triggers), original.text(&triggers), "{name}: relation|triggers|enabled|internal");
    assert!(copy.text(&triggers).contains("own|1|A|t"), "the extension's triggers were found at all");
    stored.unsigned_abs()
}
