-- Files of rows that are gone go to TRASH, and no others. (Whatever earlier scripts left goes first.)
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS rbytea;
RESET client_min_messages;
SELECT rvacuum() >= 0 AS done;
CREATE TABLE t (id int, v rbytea);
INSERT INTO t SELECT n, n::text::bytea FROM generate_series(1, 10) n;
SELECT rvacuum();

DELETE FROM t WHERE id <= 3;
UPDATE t SET v = v || '!' WHERE id = 4;
BEGIN;
INSERT INTO t VALUES (11, 'rolled back');
ROLLBACK;
SELECT action, count(*), sum(bytes) AS bytes FROM rvacuum_plan() GROUP BY action;
SELECT rvacuum();
SELECT rvacuum();
SELECT id, convert_from(v, 'utf8'), md5sum(v) = md5store(v) AS whole FROM t ORDER BY id;

-- A copied reference keeps its file.
CREATE TABLE copies AS SELECT v FROM t WHERE id > 7;
DROP TABLE t;
SELECT rvacuum();
SELECT convert_from(v, 'utf8') FROM copies ORDER BY v::bytea;

-- Every run leaves a row of history.
SELECT trashed, restored, error FROM rbytea.rbytea_vacuum_history ORDER BY id DESC LIMIT 4;

-- PUBLIC may not call it.
CREATE ROLE regress_rbytea_user;
SET ROLE regress_rbytea_user;
SELECT rvacuum();
SELECT count(*) FROM rvacuum_plan();
SELECT count(*) FROM rbytea.rbytea_vacuum_history;
SELECT name FROM pg_settings WHERE name LIKE 'rbytea.%path';
RESET ROLE;
DROP ROLE regress_rbytea_user;

DROP TABLE copies;
SELECT rvacuum();
