-- Functions in SQL and PL/pgSQL, prepared statements, cursors, and what chooses among functions of one name.

create function first_byte(v @type) returns int language sql immutable strict as $$select get_byte(v, 0)$$;
create function head(v @type, n int default 2) returns @type language sql immutable as $$select substr(v, 1, n)::@type$$;
create function standard(v @type) returns int language sql immutable begin atomic select length(v); end;
create function as_bytea(bytea) returns text language sql immutable as $$select 'bytea ' || encode($1, 'hex')$$;
create function both_ways(int) returns @type language sql as $$select v from goods where id = $1$$;
create function rows_of(text) returns setof goods language sql as $$select * from goods where kind = $1 order by id$$;
create function values_of(text) returns setof @type language sql as $$select v from goods where kind = $1 order by v, id$$;
create function table_of(text) returns table (n int, v @type) language sql as $$select id, v from goods where kind = $1 order by id$$;
create function given_back(inout v @type, out n int) language sql as $$select v || v, length(v)$$;
create or replace function given_back(inout v @type, out n int) language sql as $$select (v || v)::@type, length(v)$$;
select first_byte(«abc»), first_byte('abc'), first_byte(null);
select first_byte('abc'::bytea);
select head(«abc»), head('abc'), head(«abc», 1), head(n => 1, v => «abc»), head(v => 'abc');
select standard(«abc»), as_bytea(«abc»), as_bytea(«abc»::bytea), as_bytea('abc'), both_ways(8), both_ways(4);
select head(5);
select head('abc'::text);
select first_byte(«»);
select id, v from rows_of('d') order by id;
select (rows_of('a')).v;
select values_of('c');
select * from values_of('c') v where v > '\x01';
select * from table_of('b');
select v, n from given_back(«ab»);
select (given_back(«ab»)).*;
select proargtypes::regtype[], prorettype::regtype from pg_proc where proname in ('head', 'values_of') order by proname;
create function spread(variadic v @type[]) returns text language sql as $$select array_to_string(v, ',')$$;
select spread(«a», «b»), spread('a'), spread(variadic array[«a», «b»]), spread(«a», 'b'::@type);
select spread();
create function same(anyelement) returns anyelement language sql immutable as $$select $1$$;
create function pair(anyelement, anyelement) returns anyarray language sql immutable as $$select array[$1, $2]$$;
create function either(anycompatible, anycompatible) returns anycompatible language sql immutable as $$select coalesce($1, $2)$$;
select same(«a»), same(array[«a»]), pair(«a», «b»), pair(«a», 'b'), either(«a», 'b'), either(null, «b»);
select either(«a», 'b'::bytea), either('b'::bytea, «a»);
select pair(«a», 1);
select pair(«a», 'b'::text);
create function overloaded(text) returns text language sql as $$select 'text'$$;
create function overloaded(bytea) returns text language sql as $$select 'bytea'$$;
create function overloaded(int) returns text language sql as $$select 'int'$$;
select overloaded(«a»), overloaded('a'), overloaded('a'::bytea), overloaded(null);
create function only_text(text) returns text language sql as $$select $1$$;
select only_text(«a»);
create operator ### (leftarg = bytea, rightarg = bytea, function = byteacat);
select «a» ### «b», «a» ### 'b', 'a' ### «b», 'a'::bytea ### «b»;
create operator !!! (rightarg = @type, function = first_byte);
select !!! «a», !!! 'a'::@type;
create cast (@type as json) with inout as assignment;
create function at_point(v @type) returns point language sql immutable strict as $$select point(get_byte(v, 0), length(v))$$;
create cast (@type as point) with function at_point(@type) as implicit;
select «abc»::point, «abc» <-> point(97, 0), cast('abc'::@type as point);
drop cast (@type as point);
create function no_such(v @type) returns no_such_type language sql as $$select v$$;
create function wrong_result(v @type) returns int language sql as $$select v$$;
create function wrong_default(v @type default '\x0') returns int language sql as $$select 1$$;

-- PL/pgSQL.
create function walk(k text) returns text language plpgsql as $$
declare
    one @type; two @type := '\x2d'; three constant @type := 'end'; all_of @type[] := '{}'; r record; g goods; t goods.v%type; answer text := '';
begin
    for r in select id, v from goods where kind = k order by id loop
        all_of := all_of || r.v;
        one := coalesce(one || two, '') || coalesce(r.v, 'null');
    end loop;
    select * into g from goods where kind = k and v is not null order by v desc, id limit 1;
    t := g.v;
    foreach one in array all_of loop
        if one = t then answer := answer || '='; elsif one < t then answer := answer || '<'; elsif one is null then answer := answer || '0'; end if;
    end loop;
    case t when three then answer := answer || 'never'; when g.v then answer := answer || 'case'; end case;
    all_of[1] := three;
    two := all_of[1] || substr(t, 1, 1);
    raise notice '% % %', two, length(t), one;
    return answer || two || array_length(all_of, 1);
end $$;
select walk('a'), walk('b'), walk('c'), walk('d');
create function by_text(what text) returns @type language plpgsql as $$
declare answer @type;
begin
    execute 'select ' || what || ' from goods where id = $1' into answer using 8;
    return answer;
end $$;
select by_text('v'), by_text('w || v'), by_text('b'), by_text('''\x00'''), by_text('null');
select by_text('id');
select by_text('kind');
select by_text('v, w');
create function assigned(bytea) returns @type language plpgsql as $$declare v @type := $1; w bytea; begin w := v; v := w || v; return v; end $$;
select assigned(«a»), assigned('b'), assigned(null);
create function strict_default(v @type = '\x00') returns @type language plpgsql strict as $$begin v := v || '!'; return v; end $$;
select strict_default(), strict_default(«a»), strict_default(null);
create function caught(text) returns text language plpgsql as $$
declare v @type; m text; d text;
begin
    v := $1;
    return 'fine ' || length(v);
exception when invalid_text_representation or invalid_parameter_value or invalid_escape_sequence then
    get stacked diagnostics m = message_text, d = pg_datatype_name;
    return sqlstate || ' ' || m || ' ' || d;
end $$;
select caught('\x00'), caught('\x0'), caught('\xzz'), caught('a\1'), caught('abc');
create function looped() returns setof @type language plpgsql as $$
declare c cursor (low @type) for select v from goods where v > low and length(v) < 100 order by v, id; x @type;
begin
    open c ('\x01');
    loop
        fetch c into x;
        exit when not found;
        return next x;
    end loop;
    close c;
    return query select w from goods where id = 8;
    return query execute 'select v from goods where v = $1 order by id' using 'abd'::@type;
end $$;
select * from looped();
do $$declare v @type; begin select v into strict v from goods where id = 8; raise notice 'found'; end $$;
do $$declare x @type; begin select v into strict x from goods where id = 8; raise notice 'found %', x; end $$;
do $$declare x @type not null := null; begin end $$;
do $$declare x @type := 5; begin end $$;
do $$declare x @type; n int; begin x := 'abc'; n := x; end $$;
do $$declare x @type; y @type := 'b'; begin x := 'a'; assert x < y and greatest(x, y) = y, 'order'; x := y; y[1] := 'x'; end $$;
do $$begin if 'a'::@type then null; end if; end $$;
create procedure put(inout v @type, n int) language plpgsql as $$begin insert into goods (id, v) values (n, v); v := v || 'put'; end $$;
call put('a', 300);
delete from goods where id = 300 returning v;
create function changed_in_loop() returns text language plpgsql as $$
declare r record; n int := 0;
begin
    create temp table if not exists loops (id int, v @type);
    truncate loops;
    insert into loops select id, v from goods where id < 6;
    for r in select * from loops order by id loop
        update loops set v = coalesce(r.v, '') || 'x' where id = r.id;
    end loop;
    for r in update loops set v = v || 'y' where v > 'x' returning v loop n := n + length(r.v); end loop;
    return n || string_agg(encode(v, 'hex'), ',' order by id) from loops;
end $$;
select changed_in_loop();
select changed_in_loop();

-- Prepared statements, and what a client is told of their parameters.
prepare by_value (@type) as select id from goods where v = $1 order by id;
execute by_value ('abc');
execute by_value («abc»);
execute by_value ('abc'::bytea);
execute by_value ('abc'::text);
execute by_value (5);
execute by_value ('\x0');
execute by_value ('a', 'b');
prepare untyped as select id, v || $1 from goods where v > $2 and id < 12 order by v, id limit $3;
execute untyped ('x', '\x01', 2);
execute untyped ('x'::bytea, «abc», 2);
prepare changing as insert into goods (id, v, w) values ($1, $2, $3::@type || '!') returning v, w;
execute changing (400, 'p', 'q');
deallocate changing;
delete from goods where id = 400;
create table taken as execute by_value ('abc');
explain (costs off) execute by_value ('\x0');
select $1::@type;
select length($1::@type), $2 || $1::@type;
select id from goods where v = $1;
select id from goods where v in ($1, $2) and w between $3 and $4;
select id from goods where v = any ($1) and w like $2;
select v || $1, $2 || v, substr(v, $3), position($4 in v), coalesce(v, $5), greatest(v, $6), case v when $7 then $8 else v end from goods;
select overlay(v placing $1 from $2), get_byte(v, $3), trim($4 from v), encode(v, $5), convert_from(v, $6) from goods;
select nullif(v, $1), v is distinct from $2, (v, id) > ($3, $4), array[v, $5], array_append(array[v], $6), array_position(array[v], $7) from goods;
select string_agg(v, $1 order by v), lag(v, 1, $2) over () from goods group by v;
select v from goods union select $1 order by 1;
select lag(v, $1, $2) over (order by v) from goods;
insert into goods (id, v, w) values ($1, $2, $3);
insert into goods (id, v) select $1, $2 returning v;
insert into goods (id, v) values ($1, $2 || $3);
update goods set v = $1, w = coalesce($2, w) where v = $3;
delete from goods where v >= $1 returning v, w;
with w as (select $1::@type as x) select x from w where x = $2;
select first_byte($1), head($1, $2), as_bytea($3), spread($4, $5);
select same($1::@type), either($2, «a»);
values ($1, «a»), («b», $2);
select $1 = «a», «a» < $2, («a», 1) = ($3, $4);
execute no_such ($1);

-- Cursors.
begin;
declare scrolled scroll cursor for select v, id from goods where id < 12 order by v, id;
fetch 2 from scrolled;
fetch backward 1 from scrolled;
fetch last from scrolled;
fetch absolute 3 from scrolled;
fetch relative -1 from scrolled;
move forward 3 in scrolled;
fetch all from scrolled;
declare held cursor with hold for select distinct v from goods where id < 12 order by v;
declare binary_one binary cursor for select length(v) from goods order by id;
declare updating cursor for select id, v from goods where id = 8 for update;
fetch updating;
update goods set w = v where current of updating returning w;
rollback;
begin;
declare held cursor with hold for select distinct v from goods where id < 12 order by v;
commit;
fetch 3 from held;
fetch all from held;
close held;
fetch held;

-- Large objects.
create table objects as select lo_from_bytea(0, «in an object») as o;
select lo_get(o), lo_get(o, 3, 2), lo_get(o)::@type = «in an object», lo_get(o) = «in an object» from objects;
select lo_put(o, 0, «IN») from objects;
select lo_get(o), lo_unlink(o) from objects;
do $$declare o oid := lo_from_bytea(0, 'abcdef'::@type); v @type; begin
    perform lo_put(o, 2, 'XY'::@type); v := lo_get(o); raise notice '%', encode(v, 'escape'); v := lo_get(o, 1, 2); raise notice '%', encode(v, 'escape');
    perform lowrite(lo_open(o, 131072), 'zz'::@type); v := loread(lo_open(o, 262144), 3); raise notice '%', encode(v, 'escape'); end $$;

-- Where search_path names nothing.
set search_path = '';
select v || '\x42', v = '\x61', v < w, v || w, length(v), substr(v, 2), md5(v) from public.goods where id = 8;
select id from public.goods where v in ('abc', '\x00') and v not in ('\x00') and w > 'a' order by v, id;
select v, count(*) from public.goods where id < 12 group by v having v > '\x00' order by v;
select distinct v from public.goods where id < 12 union select w from public.goods where id < 12 order by v;
select id, rank() over (partition by kind order by v) from public.goods order by id;
select greatest(v, w), nullif(v, w), coalesce(v, w), (v, w) < (w, v), array[v] = array[w], v like 'a%', position('b' in v) from public.goods where id in (1, 8) order by id;
select a.id, b.id from public.goods a join public.goods b on a.v = b.w order by 1, 2;
select string_agg(v, '-' order by v), count(distinct v), array_agg(v order by id) from public.goods where id < 12;
select v::text, v::bytea, sha256(v), encode(v, 'hex'), get_byte(v, 0) from public.goods where id = 8;
