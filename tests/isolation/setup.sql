-- What every spec relies on: run once in the database that the specs use.

ALTER DATABASE postgres SET jit = off;
CREATE EXTENSION rbytea;

-- Bytes that look random, the same ones for the same number.
CREATE FUNCTION payload(seed int) RETURNS bytea LANGUAGE sql IMMUTABLE AS
    $$ SELECT decode(string_agg(md5(seed || ':' || i), '' ORDER BY i), 'hex') FROM generate_series(1, 60) i $$;

CREATE TYPE doc AS (n int, b bytea, r rbytea);

-- Names of the files in LIVE.
CREATE FUNCTION live() RETURNS SETOF uuid LANGUAGE sql AS $$
    SELECT substr(file, 18)::uuid
      FROM (SELECT 'rbytea/' || oid AS top FROM pg_database WHERE datname = current_database()) d,
           pg_ls_dir(top) era, pg_ls_dir(top || '/' || era) leaf, pg_ls_dir(top || '/' || era || '/' || leaf) file
     WHERE era ~ '^[0-9a-f]{12}$'
$$;

-- Names of the files that rows of any table refer to.
CREATE FUNCTION referred() RETURNS SETOF uuid LANGUAGE plpgsql AS $$
DECLARE
    place record;
BEGIN
    FOR place IN
        SELECT c.oid::regclass AS tab, quote_ident(attname) AS col, atttypid::regtype::text AS type
          FROM pg_class c JOIN pg_attribute ON attrelid = c.oid
         WHERE relkind IN ('r', 'm') AND relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped
    LOOP
        CASE place.type
            WHEN 'rbytea' THEN RETURN QUERY EXECUTE format('SELECT uuid(%2$s) FROM %1$s', place.tab, place.col);
            WHEN 'rbytea[]' THEN RETURN QUERY EXECUTE format('SELECT uuid(v) FROM %1$s, unnest(%2$s) v', place.tab, place.col);
            WHEN 'doc' THEN RETURN QUERY EXECUTE format('SELECT uuid((%2$s).r) FROM %1$s', place.tab, place.col);
            -- A type to which some specs add the attribute.
            WHEN 'late' THEN
                IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'late'::regclass AND attname = 'r') THEN
                    RETURN QUERY EXECUTE format('SELECT uuid((%2$s).r) FROM %1$s', place.tab, place.col);
                END IF;
            ELSE CONTINUE;
        END CASE;
    END LOOP;
END $$;

-- After the last vacuum: files in LIVE without a row, rows without a file in LIVE. Both must be 0.
CREATE FUNCTION leftovers(OUT orphans bigint, OUT dangling bigint) LANGUAGE sql AS $$
    SELECT (SELECT count(*) FROM (SELECT live() EXCEPT SELECT referred()) o),
           (SELECT count(*) FROM (SELECT referred() EXCEPT SELECT live()) d WHERE referred IS NOT NULL)
$$;

-- Two tables that are scanned in this order, with three rows each; garbage in TRASH, and garbage still in LIVE.
CREATE PROCEDURE tables() LANGUAGE plpgsql AS $$
BEGIN
    CREATE TABLE a (n int, b bytea, r rbytea);
    CREATE TABLE b (n int, b bytea, r rbytea);
    INSERT INTO a SELECT n, payload(n), payload(n) FROM generate_series(1, 9) n;
    INSERT INTO b SELECT n, payload(n), payload(n) FROM generate_series(11, 19) n;
    DELETE FROM a WHERE n > 6;
    COMMIT;
    PERFORM rvacuum();
    COMMIT;
    DELETE FROM a WHERE n > 3;
    DELETE FROM b WHERE n > 13;
END $$;
