//! A bytea that is cast to rbytea is not copied: the value points to its argument until somebody keeps it. Whatever keeps it, the
//! bytes are the right ones after the argument has gone.

use crate::support::cluster::Cluster;
use crate::support::payload::Payload;
use crate::support::session::{Session, block_on};

/// Payloads around the length from which on they are not copied, in every form in which a table has a bytea.
fn setup(db: &Session) {
    db.run(
        "create table plain (id int primary key, b bytea); alter table plain alter b set storage external;
         insert into plain select n, (select string_agg(sha512((n * 10000 + i)::text::bytea), '' order by i)
                                        from generate_series(1, 10 * n) i)
                             from generate_series(1, 40) n;
         create table compressed (id int primary key, b bytea);
         insert into compressed select n, decode(repeat(lpad(to_hex(n), 2, '0'), n * 1000), 'hex') from generate_series(1, 20) n;
         create table short (id int primary key, b bytea); insert into short select id, substring(b from 1 for id) from plain;
         create table t (id int, r rbytea);
         create domain document as rbytea check (length(value) > 0);
         analyze",
    );
}

/// Sources, each with columns id and b.
const SOURCES: &[&str] = &[
    "plain",
    "compressed",
    "short",
    "(select id, b || b as b from plain)",
    "(select id, r::bytea as b from stored)",
];

/// Queries that have columns id and v, with `{}` for the source: v keeps the converted b for a while.
const KEEPERS: &[&str] = &[
    "select id, b::rbytea as v from {} s",
    "select id, b::rbytea::bytea::rbytea as v from {} s",
    "select id, b::document as v from {} s",
    "select id, v from (select id, b::rbytea as v from {} s offset 0) x",
    "select id, v from (select id, b::rbytea as v from {} s order by md5(id::text) limit 1000) x",
    "select id, v from (select id, b::rbytea as v, row_number() over (order by id desc) from {} s) x",
    "select id, v from (select distinct id, b::rbytea as v from {} s) x",
    "select id, (array_agg(b::rbytea))[1] as v from {} s group by id",
    "select id, v from (select array_agg(id order by id) i, array_agg(b::rbytea order by id) a from {} s) x, unnest(i, a) u (id, v)",
    "select id, first(b::rbytea) as v from {} s group by id",
    "select id, lag(v, 0) over (order by id) as v from (select id, b::rbytea as v from {} s) x",
    "select id, first_value(v) over (partition by id) as v from (select id, b::rbytea as v from {} s) x",
    "with w as materialized (select id, b::rbytea as v from {} s) select id, v from w",
    "with recursive w as (select id, b::rbytea as v, 1 as n from {} s union all select id, v, n + 1 from w where n < 3) select id, v from w where n = 3",
    "select id, case when id > 0 then b::rbytea end as v from {} s",
    "select id, coalesce(null, b::rbytea) as v from {} s",
    "select id, nullif(b::rbytea, '') as v from {} s",
    "select id, (row(id, b::rbytea)::kept).v from {} s",
    "select id, (array[b::rbytea, null])[1] as v from {} s",
    "select id, (array_fill(b::rbytea, array[2]))[2] as v from {} s",
    "select id, (select b::rbytea) as v from {} s",
    "select id, (select v from (values (1, b::rbytea), (2, null)) x (n, v) where n = 1) as v from {} s",
    "select s.id, x.v from {} s, lateral (select b::rbytea as v offset 0) x",
    "select s.id, x.v from {} s, lateral (select b::rbytea as v from generate_series(1, 2) n order by n limit 1) x",
    "select id, of_sql(b::rbytea) as v from {} s",
    "select id, of_plpgsql(b) as v from {} s",
    "select id, of_loop(b) as v from {} s",
    "select id, v from (select (set_of(array_agg(id order by id), array_agg(b order by id))).* from {} s) x",
    "select id, b::rbytea || '' as v from {} s",
    "select id, b::rbytea as v from {} s union all select -1, null where false",
    "select id, b::rbytea as v from {} s union select -1, null where false",
    "select x.id, x.v from (select id, b::rbytea as v from {} s) x join (select id as i from {} s) y on x.id = y.i",
    "select x.id, x.v from (select id, b::rbytea as v from {} s) x join (select b::rbytea as w from {} s) y on x.v = y.w",
];

#[test]
fn whatever_keeps_a_converted_value_has_the_bytes() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    setup(&db);
    db.run(
        "create type kept as (id int, v rbytea);
         create table stored as select id, b::rbytea as r from plain where id % 10 = 0;
         create function of_sql(v rbytea) returns rbytea language sql volatile as 'select v from (select 1 offset 0) x';
         create function of_plpgsql(b bytea) returns rbytea language plpgsql as $$
             declare v rbytea := b; w document; k kept; a rbytea[]; r record; begin
                 b := substring(b from 2); w := v; v := '';
                 k.v := w::bytea; a[2] := w; w := 'x'; k.id := 1; r := row(k.v, a[2]); k := null; a := null;
                 if r.f1 is distinct from r.f2 then return null; end if;
                 return r.f2; end$$;
         create function keep(rbytea, rbytea) returns rbytea language sql strict volatile return $1;
         create aggregate first (rbytea) (sfunc = keep, stype = rbytea);
         create function of_loop(b bytea) returns rbytea language plpgsql as $$
             declare c bytea; v rbytea; begin
                 for i in 0..2 loop c := b || repeat('x', i)::bytea; v := c; c := '\\x00'; end loop;
                 return substring(v from 1 for length(b)); end$$;
         create function set_of(i int[], a bytea[]) returns setof kept language plpgsql as $$
             declare b bytea; n int := 0; begin
                 foreach b in array a loop n := n + 1; return next row(i[n], b::rbytea)::kept; b := ''; end loop; end$$",
    );
    for plans in [
        "",
        "set enable_hashagg = off; set enable_hashjoin = off",
        "set debug_parallel_query = on; set parallel_setup_cost = 0",
    ] {
        if db.try_run(plans).is_err() {
            db.run(&plans.replace("debug_parallel_query", "force_parallel_mode"));
        }
        for source in SOURCES {
            for keeper in KEEPERS {
                let query = keeper.replace("{}", source);
                let wrong = db.text(&format!(
                    "with kept as ({query}) select count(*), count(*) filter (where v::bytea is distinct from b) from {source} s left join kept using (id)"
                ));
                let count = db.text(&format!("select count(*), 0 from {source} s"));
                assert_eq!(wrong, count, "{plans}: {query}");
                db.run(&format!("truncate t; insert into t select id, v from ({query}) x"));
                let wrong = db.text(&format!("select count(*), count(*) filter (where r::bytea is distinct from b) from {source} s left join t using (id)"));
                assert_eq!(wrong, count, "{plans}: stored from {query}");
            }
        }
    }
}

/// What is asked of v, a converted b, or of w, a longer one, and what the answer is.
const FUNCTIONS: &[(&str, &str)] = &[
    ("length(v)", "length(b)"),
    ("len(v)", "length(b)"),
    ("md5(v)", "md5(b)"),
    ("md5sum(v)", "md5(b)"),
    ("sha256sum(v)", "encode(sha256(b), 'hex')"),
    ("substring(v from 5 for 20000)", "substring(b from 5 for 20000)"),
    ("substring(v from 3)", "substring(b from 3)"),
    ("v::text", "b::text"),
    ("encode(v, 'hex')", "encode(b, 'hex')"),
    ("v || v", "b || b"),
    ("position('\\x01'::bytea in v)", "position('\\x01'::bytea in b)"),
    ("v = b", "true"),
    ("b = v", "true"),
    ("v = w", "false"),
    ("v < w", "true"),
    ("b < w", "true"),
    ("w > v", "true"),
    ("rbytea_hash(v)", "rbytea_hash((b || '')::rbytea)"),
    ("row(v)::text", "row(b)::text"),
    ("pg_column_size(v) > length(b)", "true"),
];

#[test]
fn functions_of_a_converted_value_are_those_of_its_bytes() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    setup(&db);
    for source in &SOURCES[..4] {
        for (ours, theirs) in FUNCTIONS {
            let wrong = db.text(&format!(
                "select id, {ours}, {theirs} from (select id, b, b::rbytea as v, (b || '\\x00')::rbytea as w from {source} s offset 0) x
                  where {ours} is distinct from {theirs}"
            ));
            assert_eq!(wrong, "", "{source}: {ours}");
        }
    }
}

/// As parameters, with plans of their own and without, in every place that a payload can be written to.
#[test]
fn parameters_are_written_as_they_were_sent() {
    let cluster = Cluster::with_extension_and(&["shared_preload_libraries = 'rbytea'"]);
    let db = cluster.session();
    db.run(
        "create domain document as rbytea check (length(value) > 0);
         create table t (id int primary key, r rbytea, d document, a rbytea[]);
         create function own() returns trigger language plpgsql as 'begin new.d := new.r; return new; end';
         create trigger own before insert on t for each row execute function own()",
    );
    for mode in ["auto", "force_custom_plan", "force_generic_plan"] {
        db.run(&format!("truncate t; deallocate all; set plan_cache_mode = {mode}"));
        let insert = block_on(db.client().prepare(
            "insert into t (id, r, a) values ($1, $2, array[$2::rbytea, $3]), (-$1, $3, null) returning r, d",
        ))
        .unwrap();
        let update = block_on(db.client().prepare("update t set r = $2, d = $2 where id = $1 and r <> $2 returning (select r from t where r = $3 limit 1)")).unwrap();
        // Whose type the client says.
        db.run("prepare said (bytea) as insert into t (id, r, d) values (0, $1, ($1::rbytea)::document) on conflict (id) do update set r = excluded.r, d = $1");
        for n in 1..10_i32 {
            let [one, other] = [n, n + 1]
                .map(|k| Payload((0..k as usize * 5000).map(|at| ((at * k as usize) >> 3) as u8).collect()));
            let rows = block_on(db.client().query(&insert, &[&n, &one, &other])).unwrap();
            let got: Vec<[Payload; 2]> = rows.iter().map(|row| [row.get(0), row.get(1)]).collect();
            assert!(
                got[0].iter().all(|payload| *payload == one)
                    && got[1].iter().all(|payload| *payload == other),
                "{mode} {n}"
            );
            let row = block_on(db.client().query_one(&update, &[&n, &other, &one])).unwrap();
            assert!(row.get::<_, Payload>(0) == one, "{mode} {n}");
            db.run(&format!("execute said (repeat('{n}', {n} * 5000)::bytea)"));
            let said =
                db.text(&format!("select r = repeat('{n}', {n} * 5000)::bytea, d = r from t where id = 0"));
            assert_eq!(said, "t|t", "{mode}");
            let said = db.text(&format!("select length(r), length(d), r = d, length(a[1]), length(a[2]), a[2] = r from t where id = {n}"));
            assert_eq!(said, format!("{0}|{0}|t|{1}|{0}|t", (n + 1) * 5000, n * 5000), "{mode}");
        }
    }
}

/// Where a parameter is stored, no plan has another constant made of it.
#[test]
fn a_plan_has_no_copy_of_what_is_stored() {
    let cluster = Cluster::with_extension_and(&[
        "shared_preload_libraries = 'rbytea'",
        "plan_cache_mode = force_custom_plan",
    ]);
    let db = cluster.session();
    db.run("create table t (id int primary key, r rbytea, b bytea); insert into t values (1, 'one')");
    db.run(
        "prepare explicit (bytea) as update t set r = $1 where r <> $1 or r in ($1, $1);
         prepare inferred as update t set r = $1 where r <> $1 or r in ($1, $1);
         prepare in_with as with w as (insert into t values (4, $1) returning id) update t set r = $1 where id in (select id from w)",
    );
    for analysed_again in [false, true] {
        for statement in ["explicit", "inferred", "in_with"] {
            let plan = db.text(&format!("explain (verbose, costs off) execute {statement} ('abc')"));
            let outputs: Vec<&str> = plan.lines().filter(|line| line.contains("Output: ")).collect();
            assert!(
                outputs.iter().any(|line| line.contains(r"'\x616263'::bytea"))
                    && !outputs.iter().any(|line| line.contains("::rbytea")),
                "{statement}, analysed again: {analysed_again}: {plan}"
            );
        }
        db.run("alter table t alter b set default ''");
    }
    db.run("prepare calls as insert into t values (1, rbytea($1::bytea), $2) on conflict do nothing");
    assert_eq!(
        db.text("select parameter_types from pg_prepared_statements where name = 'calls'"),
        "{bytea,bytea}"
    );
}

/// A function that takes parts of a value that it is given costs no more than the parts.
#[test]
fn parts_of_a_converted_value_are_not_copies_of_all_of_it() {
    let cluster = Cluster::with_extension();
    let db = cluster.session();
    db.run(
        "create table source (b bytea); insert into source select decode(repeat(md5('1'), 500000), 'hex');
         create function parts(v rbytea) returns bigint language plpgsql as $$
             declare sum bigint := 0; begin
                 for i in 0..2000 loop sum := sum + get_byte(substring(v from 1 + i * 1000 for 10), 3); end loop;
                 return sum + length(md5sum(v)) + length(v::bytea); end $$;
         create function parts(v bytea) returns bigint language plpgsql as $$
             declare sum bigint := 0; begin
                 for i in 0..2000 loop sum := sum + get_byte(substring(v from 1 + i * 1000 for 10), 3); end loop;
                 return sum + length(md5(v)) + length(v); end $$",
    );
    assert_eq!(db.text("select parts(b::rbytea) = parts(b) from source"), "t");
}
