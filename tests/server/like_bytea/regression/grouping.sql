-- GROUP BY, HAVING and grouping sets, by hash and by sort.

select v, count(*), min(id) from goods where id < 12 group by v order by v;
select v, w, count(*) from goods where id < 12 group by v, w order by v, w;
select v, array_agg(id order by id) from goods group by v order by min(id);
select v, string_agg(w, ',' order by w, id) from goods where id < 12 group by v order by v;
select count(*) from goods group by v order by v desc nulls last;
select v as x, count(*) from goods where id < 12 group by x order by x;
select v, count(*) from goods where id < 12 group by 1 order by 1 desc;
select v, count(*) from goods where id < 12 group by v having count(*) > 1 order by v;
select v from goods where id < 12 group by v having v > '\x00' order by v;
select v, kind from goods where id < 12 group by v, kind having min(w) is null order by v, kind;
select v, kind from goods where id < 12 group by v, kind having count(w) = 0 order by v, kind;
select substr(v, 1, 1), count(*) from goods group by substr(v, 1, 1) order by 1;
select v || w, count(*) from goods where id < 12 group by v || w order by 1;
select length(v), array_agg(v order by v, id) from goods where id < 12 group by length(v) order by 1;
select case when v < 'abc' then v else w end as x, count(*) from goods where id < 12 group by x order by x;
select (v, w), count(*) from goods where id < 12 group by (v, w) order by 1;
select row(v, w), count(*) from goods where id < 12 group by row(v, w) order by 1;
select array[v], count(*) from goods where id < 12 group by 1 order by 1;
select id, v from goods where id < 4 group by id order by id;
select v, id from goods group by v;
select w from goods group by v;
select distinct v, count(*) from goods where id < 12 group by v, kind order by v, count;
select count(*) from (select v from goods group by v) g;
select v, b, count(*) from goods where id < 12 group by v, b order by v;

-- Sets.
select v, kind, count(*), grouping(v, kind) from goods where id < 12 group by grouping sets ((v), (kind), ()) order by 4, 1, 2;
select v, w, count(*) from goods where id < 12 group by rollup (v, w) order by grouping(v, w), v, w;
select v, kind, count(*), grouping(v), grouping(kind) from goods where id < 12 group by cube (v, kind) order by 4, 5, 1, 2;
select v, grouping(v), array_agg(id order by id) from goods where id < 12 group by grouping sets ((v), (v), ()) order by 1, 2, 3;
select v, count(*) from goods where id < 12 group by distinct rollup (v, v) order by v, count;
select kind, v, count(*) from goods where id < 12 group by kind, grouping sets (v, ()) order by kind, v, count;
select v, count(distinct w), string_agg(distinct w, '-' order by w) from goods where id < 12 group by rollup (v) order by grouping(v), v;
select v, kind, string_agg(w, '-' order by id) from goods where id < 12 group by grouping sets ((v, kind), (kind)) having count(*) > 1 order by grouping(v), v, kind;
select grouping(w) from goods group by v;

-- One way and the other.
set enable_hashagg = off;
select v, count(*), min(id) from goods where id < 12 group by v order by v;
select v, w, count(*) from goods where id < 12 group by v, w order by v, w;
select v, w, count(*) from goods where id < 12 group by rollup (v, w) order by grouping(v, w), v, w;
select v, kind, count(*), grouping(v), grouping(kind) from goods where id < 12 group by cube (v, kind) order by 4, 5, 1, 2;
set enable_hashagg = on;
set enable_sort = off;
select v, count(*), min(id) from goods where id < 12 group by v order by v;
select v, w, count(*) from goods where id < 12 group by rollup (v, w) order by grouping(v, w), v, w;
set enable_sort = on;
set work_mem = '64kB';
select count(*), sum(c) from (select sha256((n % 3000)::text::bytea)::@type as v, count(*) as c from generate_series(1, 4000) n group by v) g;
set hash_mem_multiplier = 1;
select count(*), sum(c), max(c) from (select v, count(*) as c from (select sha512((n % 3000)::text::bytea)::@type as v from generate_series(1, 4000) n) s group by v) g;
