-- Values as they are written and printed: both input formats, both output formats, and what turns a value into text.

select '\xC0ffEE'::@type, @type '\xC0ffEE', cast('\xC0ffEE' as @type), '\xC0ffEE'::text::@type;
select '\x C0 ff EE '::@type;
select E'\\xC0\nff\tEE'::@type;
select E'\\xC0ffEE'::@type, U&'\005cxC0ffEE'::@type, $$\xC0ffEE$$::@type;
select '\x'::@type, ''::@type, '\x'::@type = '';
select '\xC0ffE'::@type;
select '\xC0ffEz'::@type;
select '\x C 0'::@type;
select '\xC0:ff'::@type;
select '\xé0'::@type;
select '\xé'::@type;
select 'C0ffEE'::@type;
select 'C0\000EE'::@type;
select 'C0\123EE'::@type;
select 'C0\678EE'::@type;
select 'C0\12EE'::@type;
select 'C0\\EE'::@type;
select 'C0\EE'::@type;
select 'C0\400'::@type;
select 'SEE\'::@type;
select ' \x00'::@type;
select 'größer, 大きい'::@type;
select null::@type, cast(null as @type) is null;
select x'c0ff'::@type;
select b'1010'::@type;
select 'abc'::@type(3);
select @type 'abc' collate "C";
select array['a', '\x00']::@type[], '{a,"\\x00",null,""}'::@type[], array[]::@type[];
select '{a,"\\x0"}'::@type[];
select '[0:1]={a,b}'::@type[], ('[0:1]={a,b}'::@type[])[0];
select array[array[«a», «b»], array[«c», null]];

-- Output.
set bytea_output = escape;
select «\xC0ffEE», «\x00», «back\\slash», «it's», «größer», «»;
select «\x7f80ff», «\x7f80ff»::text, array[«\x7f80ff», «a b», «"»];
select row(«\x7f80ff», «»), to_json(«\x7f80ff»), format('%s|%L|%I', «\x00», «\x00», «\x00»);
set bytea_output = hex;
select «\xC0ffEE», «\x00», «back\\slash», «it's», «größer», «»;
select «\x7f80ff», «\x7f80ff»::text, array[«\x7f80ff», «a b», «"»];
select row(«\x7f80ff», «», null), row(«\x7f80ff», row(«a», 1));
set bytea_output = 'base64';
reset bytea_output;

-- Texts of values.
select «payload»::text, «payload»::varchar, «payload»::varchar(4), «payload»::char(4), «payload»::name;
select cast(«payload» as text), textin(byteaout(«payload»));
select «payload» || ' and text'::text, 'text and '::text || «payload»;
select «payload» || 1;
select concat(«pay», 1, «load», null), concat_ws(',', «pay», null, «load»);
select format('%s and %L and %s', «pay», «load», null::@type), format('%10s|%-10s|', «a», «b»);
select quote_literal(«it's»), quote_nullable(«it's»), quote_nullable(null::@type);
select to_json(«a"b»), to_jsonb(«a"b»), json_build_array(«a», 1), jsonb_build_object('k', «a», 'n', null::@type);
select json_build_object(«a», 1);
select json_object(array['k', «v»]::text[]), row_to_json(r) from (select 1 as n, «a» as v) r;
select array_to_json(array[«a», «b»]), array_to_string(array[«a», null, «b»], ',', 'none');
select length(«payload»::text), upper(«abc»::text), left(«payload»::text, 4);
select pg_typeof(«a»), pg_typeof(array[«a»]), pg_typeof(null::@type), pg_typeof(«a» || «b»), pg_typeof(substr(«abc», 2));
select pg_input_is_valid('\x00', '@type'), pg_input_is_valid('\x0', '@type'), pg_input_is_valid('a\1', '@type');
select * from pg_input_error_info('\x0', '@type');
select * from pg_input_error_info('\xzz', '@type');
select * from pg_input_error_info('a\1', '@type');
select * from pg_input_error_info('a\\1', '@type');
select format_type('@type'::regtype, null), '@type'::regtype, '@type[]'::regtype;
select typlen, typbyval, typtype, typcategory, typispreferred, typdelim, typalign, typstorage, typcollation, typnotnull, typndims
    from pg_type where oid = '@type'::regtype;
select xmlelement(name payload, «abc»);
select xmlforest(«abc» as payload);
set xmlbinary = hex;
select xmlelement(name payload, xmlattributes(«abc» as bytes), 'x');
reset xmlbinary;
