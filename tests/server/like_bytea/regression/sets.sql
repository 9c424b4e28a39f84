-- UNION, INTERSECT and EXCEPT, VALUES, and recursion.

select v from goods where id < 12 union select w from goods where id < 12 order by 1;
select v from goods where id < 12 union all select w from goods where id < 12 order by 1;
select v from goods where id < 12 intersect select w from goods order by 1;
select v from goods where id < 12 intersect all select w from goods order by 1;
select v from goods where id < 12 except select w from goods order by 1;
select v from goods where id < 12 except all select w from goods where id < 6 order by 1;
select v, w from goods where id < 12 except select w, v from goods order by 1, 2;
select v, kind from goods where id < 12 union select w, kind from goods where id < 12 order by 2, 1;
select v from goods where id < 12 union select b from goods where id < 12 order by 1;
select b from goods where id < 12 union all select v from goods where id < 4 order by 1;
select b from goods where id < 12 intersect select v from goods order by 1;
select v from goods except select b from goods;
select v from goods where id < 12 union select 'a literal' union select null order by 1;
select 'a literal' union select v from goods where id < 4 order by 1;
select null union all select v from goods where id < 4 order by 1;
select null union all select null union all select «a» order by 1;
select «a» union select '\x61' union select «b» union all select «b» order by 1;
select «a» union select '\x6';
select «a» union select 1;
select v from goods union select id from goods;
select v from goods union select kind from goods;
select v from goods union select v, w from goods;
select v as x from goods where id < 4 union select w as y from goods where id < 4 order by x;
select v from goods union select w from goods order by length(v);
(select v from goods where id < 12 order by v limit 2) union all (select w from goods where w is not null order by w desc limit 2) order by 1;
(select v from goods where id < 12 union select w from goods where id < 12) intersect select v from goods where v > '\x00' order by 1;
select v from goods where id < 12 union (select w from goods where id < 12 except select v from goods) order by 1 desc limit 3;
select count(*) from (select v from goods union select w from goods) u;
select count(*) from (select v, w from goods union all select w, v from goods) u where v < w;
select array[v] from goods where id < 6 union select array[w] from goods where id < 6 order by 1;
select (v, id) from goods where id < 3 union select (w, id) from goods where id < 3 order by 1;
select v, count(*) from (select v from goods where id < 12 union all select w from goods where id < 12) u group by v order by v;
set enable_hashagg = off;
select v from goods where id < 12 union select w from goods where id < 12 order by 1;
select v from goods where id < 12 intersect select w from goods order by 1;
select v from goods where id < 12 except all select w from goods where id < 6 order by 1;
set enable_hashagg = on;
set enable_sort = off;
select v from goods where id < 12 union select w from goods where id < 12 order by 1;
select v from goods where id < 12 except select w from goods order by 1;
set enable_sort = on;

-- VALUES.
values («a»), («b»), (null) order by 1;
values («a», 1), ('b', 2);
values ('a'), («b»);
values («a»), ('b'::bytea);
values ('a'::bytea), («b»);
values («a»), (1);
select x from (values («b»), («a»), ('\x00')) t (x) order by x;
select x, y from (values («a», 1), (null, 2)) t (x, y) join goods on id = y order by y;

-- WITH and recursion.
with w as (select v, id from goods where id < 12) select distinct v from w order by v;
with w as materialized (select v, id from goods) select a.id, b.id from w a join w b on a.v = b.v and a.id < b.id order by 1, 2;
with w as not materialized (select v, id from goods where v > '\x00') select max(id) from w;
with recursive r (n, v) as (select 1, «a» union all select n + 1, (v || 'b')::@type from r where n < 4) select * from r order by n;
with recursive r (n, v) as (select 1, «a» union all select n + 1, v || 'b' from r where n < 4) select * from r order by n;
with recursive r (n, v) as (values (0, «a»)
    union all select n + 1, v from r where n < 2) select n, v from r order by n;
with recursive r as (select v, 1 as n from goods where id < 12 union select v, n % 2 + 1 from r) select * from r order by v, n;
with recursive r as (select w as v from goods where id = 8 union select g.w from goods g join r on g.v = r.v) select v from r order by v;
with recursive r as (select id, v, w from goods where id = 8 union all select g.id, g.v, g.w from goods g join r on g.v = r.w where g.id > 8)
    search depth first by v set way select id, v, way from r order by way, id;
with recursive r as (select id, v, w from goods where id = 8 union all select g.id, g.v, g.w from goods g join r on g.v = r.w)
    cycle v set looped using path select id, looped, path from r order by path, id;
with recursive r (v) as (select «a» union all select length(v) from r) select * from r;
with w (x) as (values («a»), («b»)) select x || x from w order by x;
with w as (insert into goods (id, v) values (100, 'new') returning v, id) select v, id from w;
with w as (delete from goods where id = 100 returning v) select v from w union select 'x' order by 1;
