-- Which values go into files: those of tables, by themselves.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS rbytea;
RESET client_min_messages;
CREATE FUNCTION stored(rbytea) RETURNS text LANGUAGE sql
AS $$ SELECT CASE WHEN $1 IS NULL THEN 'null' WHEN uuid($1) IS NULL THEN 'in the row' ELSE 'in a file' END $$;

-- COPY, in and out.
CREATE TABLE t (id int, v rbytea);
COPY t FROM stdin;
1	\\x616263
2	abc\\\\def
3	\N
\.
COPY t FROM stdin (FORMAT csv);
4,abc
5,
6,""
\.
SELECT id, v, stored(v) FROM t ORDER BY id;
COPY (SELECT * FROM t ORDER BY id) TO stdout;
COPY (SELECT * FROM t ORDER BY id) TO stdout (FORMAT csv, FORCE_QUOTE *);

-- Domains, partitions, copies of tables.
CREATE DOMAIN small AS rbytea CHECK (length(VALUE) < 5);
CREATE TABLE smalls (s small);
INSERT INTO smalls VALUES ('abcd');
INSERT INTO smalls VALUES ('abcde');
SELECT stored(s) FROM smalls;
CREATE TABLE parts (id int, v rbytea) PARTITION BY RANGE (id);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (10) TO (20);
INSERT INTO parts VALUES (1, 'low'), (11, 'high');
UPDATE parts SET id = 12 WHERE id = 1;
SELECT tableoid::regclass, id, convert_from(v, 'utf8'), stored(v) FROM parts ORDER BY id;
CREATE TABLE copied AS SELECT v, 'new'::rbytea AS w FROM t WHERE id = 1;
SELECT stored(v), stored(w), v = 'abc' AS same FROM copied;

-- Columns that come later, and defaults.
CREATE TABLE grown (id int);
INSERT INTO grown VALUES (1);
ALTER TABLE grown ADD v rbytea, ADD w rbytea NOT NULL DEFAULT 'default';
INSERT INTO grown VALUES (2, 'given');
SELECT id, convert_from(v, 'utf8') AS v, stored(v), convert_from(w, 'utf8') AS w FROM grown ORDER BY id;

-- A user's own trigger has its say first.
CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN NEW.v := upper(convert_from(NEW.v, 'utf8'))::bytea; RETURN NEW; END $$;
CREATE TRIGGER shout BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION shout();
INSERT INTO t VALUES (7, 'quiet') RETURNING convert_from(v, 'utf8'), stored(v), len_full(v);

-- Temporary tables, arrays and rows keep what is theirs; a reference that is copied into them stays one.
CREATE TEMP TABLE passing AS SELECT 'abc'::rbytea AS v UNION ALL SELECT v FROM t WHERE id = 1;
SELECT stored(v), v FROM passing ORDER BY 1;
CREATE TABLE arrays AS SELECT array['abc'::rbytea, v] AS a FROM t WHERE id = 1;
SELECT stored(a[1]), stored(a[2]), a FROM arrays;

-- Small values may stay in the row.
SET rbytea.external_threshold = 4;
INSERT INTO copied VALUES ('abc', 'abcd') RETURNING stored(v), stored(w);
RESET rbytea.external_threshold;

-- A rollback leaves no row, and what remains reads as before.
BEGIN;
UPDATE t SET v = 'changed' WHERE id = 1;
SAVEPOINT s;
DELETE FROM t;
ROLLBACK TO s;
SELECT convert_from(v, 'utf8') FROM t WHERE id = 1;
ROLLBACK;
SELECT convert_from(v, 'utf8') FROM t WHERE id = 1;

-- Literals make no file: only what a table holds counts.
PREPARE p AS SELECT rbytea 'constant', $1::rbytea;
EXECUTE p ('argument');
CREATE VIEW v AS SELECT 'in a view'::rbytea AS c;
SELECT stored(c) FROM v;

DROP VIEW v;
DROP TABLE t, smalls, parts, copied, grown, passing, arrays;
DROP DOMAIN small;
DROP FUNCTION stored, shout;
