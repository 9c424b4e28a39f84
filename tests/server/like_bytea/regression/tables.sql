-- What holds values: columns with defaults and constraints, generated ones, partitions, domains, composite types, views, rules,
-- triggers, COPY; and the statements that change them.

create table parcels (id int primary key, v @type default '\x64', w @type not null default 'w', check (length(v) < 20), check (v <> 'bad'));
insert into parcels default values;
insert into parcels (id) values (1) returning *;
insert into parcels values (2, 'two', 'zwei'), (3, '\x33', default), (4, null, '') returning id, v, w, length(v);
insert into parcels values (5, 'bad') returning v;
insert into parcels values (5, 'longer than twenty bytes') returning v;
insert into parcels values (5, 'x', null);
insert into parcels values (5, '\x0');
insert into parcels values (5, 5);
insert into parcels values (5, 'x'::text);
insert into parcels values (5, 'x'::bytea, b'1');
insert into parcels select 5, 'x'::text;
insert into parcels (id, v) select 5, 'x';
insert into parcels (id, v) select id + 100, b from goods where length(b) < 3 returning id, v;
insert into parcels values (2, 'again') on conflict do nothing returning v;
insert into parcels values (2, 'again') on conflict (id) do update set v = excluded.v || parcels.v returning v;
insert into parcels as p values (2, 'third') on conflict (id) do update set v = excluded.v where p.v > excluded.v returning v;
insert into parcels values (2, 'x') on conflict (v) do nothing;
update parcels set v = 'two' where id = 2 returning v, w, v = 'two';
update parcels set v = v || 'x', w = v where id = 2 returning v, w;
update parcels set (v, w) = (w, v) where id = 2 returning v, w;
update parcels set (v, w) = (select b, w from goods where goods.id = 8) where id = 3 returning v, w;
update parcels set v = default where id = 3 returning v;
update parcels p set v = g.w from goods g where g.id = p.id and g.w is not null returning p.id, p.v;
update parcels set v = 5;
update parcels set v = id;
update parcels set v = 'x'::text;
update parcels set v = set_byte(w, 0, 65) where length(w) > 0 and id < 10 returning id, v;
delete from parcels where v = '\x00' returning id, v;
delete from parcels p using goods g where p.v = g.b returning p.id, p.v;
select id, v, w from parcels order by id;
merge into parcels p using (values (2, 'merged'::@type), (9, 'inserted')) as s (id, v) on p.id = s.id
    when matched then update set v = s.v when not matched then insert (id, v) values (s.id, s.v);
merge into parcels p using goods g on p.v = g.b when matched and p.id > 100 then delete when not matched by source and p.v = 'inserted' then update set v = 'kept';
merge into parcels p using (select 9 as id, «merged» as v) s on p.id = s.id when matched then update set v = s.v returning p.v, merge_action();
select id, v, w from parcels order by id;
truncate parcels;
alter table parcels add x @type default 'added' not null, add y @type;
insert into parcels (id) values (1) returning *;
alter table parcels alter v set default '\x0';
alter table parcels alter v set default 'd' || 'e';
alter table parcels alter v set default 'd'::@type || 'e', alter v set not null, add check (v > x);
alter table parcels alter y set default sha256('y');
insert into parcels (id) values (2) returning v, x;
insert into parcels (id, v) values (3, 'z') returning v, x, y;
alter table parcels alter x set data type bytea, alter y type text using y::text;
select id, v, x, y from parcels order by id;
alter table parcels alter y type @type;
alter table parcels alter y type @type using y::@type;
select id, v, x, y from parcels order by id;
alter table parcels rename v to content;
select content from parcels order by id;
select attname, format_type(atttypid, atttypmod), atthasdef, attnotnull from pg_attribute where attrelid = 'parcels'::regclass and attnum > 0 and attname <> 'x' order by attnum;
select column_name, data_type, character_octet_length, column_default from information_schema.columns where table_name = 'parcels' and column_name = 'w';
select pg_get_constraintdef(oid) from pg_constraint where conrelid = 'parcels'::regclass and contype = 'c' order by conname;

-- Generated columns.
create table generated (id int, v @type, n int generated always as (length(v)) stored, h text generated always as (md5(v)) stored,
    d bytea generated always as (sha256(v)) stored, r @type generated always as (substr(v, 2)) stored);
insert into generated (id, v) values (1, 'abc'), (2, ''), (3, null) returning *;
update generated set v = v || 'x' where id = 1 returning n, h, d, r;
insert into generated (id, r) values (4, 'x');
select * from generated where r = '\x626378';
create table virtual (v @type, r @type generated always as (substr(v, 2)) virtual);
create table virtual_length (v @type, n int generated always as (length(v)) virtual);

-- Constraints and indexes.
create table keyed (v @type primary key);
create table unique_ones (id int, v @type unique);
create table excluded (id int, v @type, exclude using hash (v with =));
insert into excluded values (1, 'a'), (2, 'b'), (3, null), (4, null);
insert into excluded values (5, 'a');
insert into excluded values (5, 'a') on conflict do nothing;
create table indexed (id int, v @type, a @type[]);
insert into indexed select id, v, array[v, w] from goods;
create index on indexed (v);
create unique index on indexed (v);
create index on indexed using brin (v);
create index on indexed using brin (v bytea_bloom_ops);
create index on indexed using gin (a);
create index on indexed using gist (v);
create index on indexed using hash (v);
create index on indexed ((v::bytea));
create index on indexed (md5(v), length(v)) include (v);
create index on indexed (id) where v > '\x00';
create index on indexed (substr(v, 1, 8));
create statistics indexed_statistics on id, v from indexed;
create statistics of_expressions on length(v), md5(v) from indexed;
analyze indexed;
select null_frac > 0 from pg_stats where tablename = 'indexed' and attname = 'v';
set enable_seqscan = off;
select id from indexed where v = 'abc' order by id;
select id from indexed where v::bytea = 'abc' order by id;
select id from indexed where md5(v) = md5('abc'::bytea) order by id;
select id from indexed where substr(v, 1, 8) = 'abd' order by id;
select id from indexed where id > 3 and v > '\x00' order by id;
select id from indexed where v > 'abc' order by v, id;
reset enable_seqscan;
create table sums (b bytea primary key);
insert into sums values ('a'), ('b');
create table referring (id int, v @type references sums on update cascade);
insert into referring values (1, 'a'), (2, null);
insert into referring values (3, 'c');
delete from sums where b = 'a';
update sums set b = 'aa' where b = 'a';
select id, v from referring order by id;
delete from sums where b = 'b';
alter table referring add constraint again foreign key (v) references sums (b) on delete set null;

-- Partitions.
create table by_list (id int, v @type) partition by list (v);
create table by_range (id int, v @type) partition by range (v, id);
create table by_hash (id int, v @type) partition by hash (v);
create table by_hash_0 partition of by_hash for values with (modulus 2, remainder 0);
create table by_hash_1 partition of by_hash for values with (modulus 2, remainder 1);
insert into by_hash select n, (n % 20)::text::@type from generate_series(1, 40) n;
select count(*), count(distinct v) from by_hash;
select id from by_hash where v = '7' order by id;
select id from by_hash where v = '7'::bytea order by id;
select v from by_hash group by v having count(distinct tableoid) > 1;
select count(*) > 0 from by_hash_0 union all select count(*) > 0 from by_hash_1;
set enable_partitionwise_join = on;
set enable_partitionwise_aggregate = on;
select count(*) from by_hash a join by_hash b using (v);
select v, count(*) from by_hash group by v order by v limit 3;
reset enable_partitionwise_join;
reset enable_partitionwise_aggregate;
create table child (c @type) inherits (parcels);
create table like_it (like parcels including all);

-- Domains, composite types and ranges.
create domain tag as @type check (length(value) = 3) not null;
create domain any_tag as tag default 'dft';
select 'abc'::tag, cast('\x616263' as tag), «abc»::tag, «abc»::any_tag::@type, 'abc'::tag || 'd', length('abc'::tag);
select 'ab'::tag;
select null::tag;
select «ab»::tag;
create table tagged (id int, t any_tag, a tag[]);
insert into tagged (id) values (1) returning t;
insert into tagged values (2, 'xyz', '{abc,def}') returning t, a, t > 'abc', t = any (a);
insert into tagged values (3, 'xyz', '{abc,de}');
insert into tagged values (3, 'x');
select t, count(*) from tagged group by t order by t;
select distinct t from tagged order by t desc;
select t from tagged union select v from goods where v = 'abc' order by 1;
select max(t::bytea::text), greatest(t, 'xya'), coalesce(t, 'abc') from tagged where id = 2 group by t;
alter domain tag add check (value > 'aaa');
alter domain tag add check (value > 'ddd');
alter domain tag drop constraint no_such;
create domain small as @type;
create table smalls (s small);
insert into smalls values ('b'), (null), (null);
alter domain small add check (value < 'n');
alter domain small add check (value > 'c');
alter domain small set default 'o';
insert into smalls values (default);
select s, count(*) from smalls group by s order by s;
create domain other_tag as @type collate "C";
create type labelled as (n int, v @type);
select row(1, «a»)::labelled, (row(1, «a»)::labelled).v, row(1, 'a')::labelled = row(1, '\x61')::labelled, '(1,"\\x61")'::labelled;
select row(1, «a»)::labelled < row(1, «b»)::labelled, row(2, «a»)::labelled >= row(1, «b»)::labelled, (row(1, «a»)::labelled).*;
select '(1,"\\x6")'::labelled;
create table with_labels (id int, l labelled, many labelled[]);
insert into with_labels values (1, (1, 'a'), array[(2, 'b'), (3, 'c')]::labelled[]), (2, row(1, '\x00'), null), (3, null, '{"(4,d)"}') returning l, many, (l).v, many[1].v;
update with_labels set l.v = 'changed' where id = 1 returning l, (l).v;
update with_labels set many[2].v = 'changed' where id = 1 returning many;
select id from with_labels order by l, id;
select l, count(*) from with_labels group by l order by l;
select distinct l from with_labels order by l;
select id from with_labels where l = (1, '\x00');
select id from with_labels where l = row(1, 'changed')::labelled;
select id from with_labels where (l).v > '\x00' order by id;
select u.* from with_labels, unnest(many) u order by u;
select to_json(l), row_to_json(w) from with_labels w order by id;
select json_populate_record(null::labelled, '{"n": 1, "v": "\\x6162"}'), jsonb_populate_record(row(3, «a»)::labelled, '{"n": 1}');
select * from json_populate_recordset(null::labelled, '[{"n": 1, "v": "a"}, {"n": 2}]');
select * from json_to_record('{"v": "\\x61", "a": ["x", "y"]}') as r (v @type, a @type[]);
select * from json_populate_record(null::labelled, '{"v": "\\x6"}');
alter type labelled alter attribute v type bytea;
alter type labelled add attribute w @type;
create type span as range (subtype = @type);
select span(«a», «c»), «b» <@ span(«a», «c»), span(«a», «c») @> '\x63'::@type, span(«a», «c», '[]') && span(«c», «d»), span('a', 'b') + span('b', 'c'), '[a,b)'::span;
select lower(span(«a», «c»)), upper(span(«a», «c»)), isempty(span(«a», «a»)), span(«a», «b») < span(«b», «c»);
select span(«c», «a»);
select '[\\x0,b)'::span;
select v from (values (span('b', 'c')), (span('a', 'c')), ('empty'), (null)) t (v) order by v;
create type kinds as enum ('a', 'b');
select «a»::kinds;

-- Views, rules, triggers.
create view shown as select id, v, w, v || w as both_of_them, length(v) as n from goods where v > '\x00';
select * from shown where id < 12 order by id;
select id from shown where v = 'abc' and both_of_them like 'abc%' order by v, id;
select pg_get_viewdef('shown');
insert into shown (id, v) values (200, 'by the view') returning id, v, n;
update shown set v = 'changed' where id = 200 returning v, n;
delete from shown where v = 'changed' returning v;
create view checked as select id, v from goods where v < 'n' with check option;
insert into checked values (201, 'm'), (202, 'o');
create or replace view shown as select id, v::text as v, w, v || w as both_of_them, length(v) as n from goods;
create materialized view kept as select v, count(*) as n from goods group by v;
select v, n from kept where v is null or length(v) < 100 order by v;
refresh materialized view kept;
create unique index on kept (v);
create unique index on kept (md5(v));
select count(*) from kept where v = 'abc';
create table logged (what text, old_v @type, new_v @type);
create function log_change() returns trigger language plpgsql as $$
begin
    insert into logged values (tg_op, case when tg_op <> 'INSERT' then old.v end, case when tg_op <> 'DELETE' then new.v end);
    if tg_op = 'UPDATE' and new.v = 'stop' then raise exception 'stopped at %', new.v; end if;
    return case when tg_op = 'DELETE' then old else new end;
end $$;
create table watched (id int, v @type);
create trigger watch before insert or update or delete on watched for each row execute function log_change();
create trigger watch_v after update of v on watched for each row when (old.v is distinct from new.v) execute function log_change();
insert into watched values (1, 'a'), (2, '\x00');
update watched set v = 'stop' where id = 1;
update watched set v = v where id = 1;
update watched set v = 'b' where id = 1 returning v;
update watched set id = 3 where id = 2;
delete from watched where v = 'b';
select * from logged order by what, old_v, new_v;
create rule rewritten as on insert to watched do also insert into logged values ('rule', null, new.v);
insert into watched values (4, 'by a rule');
select * from logged where what = 'rule';
create rule instead as on delete to watched do instead select old.v;
delete from watched where id = 4;

-- COPY.
create table copied_rows (id int, v @type, a @type[]);
copy copied_rows from stdin;
1	\\x6162	{a,"\\\\x00"}
2	abc	{}
3	a\\\\b	\N
4	\N	{NULL}
5	\\000\\377	\N
6		\N
\.
copy copied_rows from stdin (format csv, null 'none', header);
id,v,a
7,\xff00,"{""\\x01""}"
8,none,none
9,"quoted, with ""quotes""",none
10,"",none
\.
copy copied_rows from stdin;
11	\\x6	\N
\.
copy copied_rows from stdin;
12	a\\1	\N
\.
-- since 17
copy copied_rows (v) from stdin (format csv, on_error ignore);
good
\x0
\x61
\.
select * from copied_rows order by id, v;
copy (select * from copied_rows order by id, v) to stdout;
copy (select v, a from copied_rows order by id, v) to stdout (format csv, header, force_quote (v));
copy (select v, a from copied_rows order by id, v) to stdout (delimiter ';', null '-');
copy (select id, v from copied_rows order by id, v) to stdout (format binary);
set bytea_output = escape;
copy (select * from copied_rows order by id, v) to stdout;
copy (select v from copied_rows order by id, v) to stdout (format csv);
copy copied_rows (v) to stdout (format text);
reset bytea_output;
copy shown to stdout;
copy copied_rows (no_such) to stdout;
