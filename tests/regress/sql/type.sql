-- A tour of the type: what goes in comes out, and bytea is never far away.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS rbytea;
RESET client_min_messages;

-- Text in the formats of bytea.
SELECT rbytea '\xDEADbeef', rbytea '\x de ad', rbytea 'abc\000\\', ''::rbytea;
SELECT rbytea '\xabc';
SELECT rbytea '\x0g';
SELECT rbytea '\777';
SET bytea_output = escape;
SELECT rbytea '\x00277f61ff';
RESET bytea_output;

-- A table like any other.
CREATE TABLE documents (id int PRIMARY KEY, name text, content rbytea);
INSERT INTO documents VALUES
    (1, 'greeting', 'Hello, world'),
    (2, 'empty', ''),
    (3, 'nothing', NULL),
    (4, 'binary', '\x00ff00ff'),
    (5, 'long', repeat('0123456789', 100000)::bytea);
SELECT id, name, length(content), left(content::text, 30) AS starts FROM documents ORDER BY id;

-- The row keeps a reference, however long the payload is.
SELECT id, uuid(content) IS NOT NULL AS stored, len(content), len_full(content), qss_mode(content), pg_column_size(content)
FROM documents ORDER BY id;
SELECT uuid('in memory'::rbytea), len('in memory'::rbytea), len_full('in memory'::rbytea);

-- Sums of the payload and of its file.
SELECT id, md5sum(content), md5store(content) = md5(content::bytea) AS same,
       sha256sum(content) = encode(sha256(content), 'hex') AND sha256store(content) = sha256sum(content) AS same256
FROM documents ORDER BY id;

-- Parts, with the arithmetic of bytea.
SELECT substring(content FROM 8 FOR 5), substring(content FROM 8), substring(content FOR 5), substr(content, -1, 3),
       substring(content FROM 100), substring(content FROM 2147483647 FOR 2147483647)
FROM documents WHERE id = 1;
SELECT substring(content FROM 1 FOR -1) FROM documents WHERE id = 1;
SELECT convert_from(substring(content FROM 999991), 'utf8') FROM documents WHERE id = 5;

-- Everything else bytea has.
SELECT octet_length(content), encode(content, 'base64'), position('world' IN content), get_byte(content, 0),
       convert_from(content || '!', 'utf8'), convert_from(overlay(content PLACING 'there' FROM 8), 'utf8')
FROM documents WHERE id = 1;
SELECT get_byte(content, 99) FROM documents WHERE id = 1;

-- Equality and order are those of the bytes, wherever they are.
SELECT id FROM documents WHERE content = 'Hello, world' OR content IN ('', '\x00ff00ff') ORDER BY id;
SELECT d.id, e.id FROM documents d JOIN documents e ON d.content = e.content AND d.content <> '' ORDER BY 1;
SELECT count(*) FROM (SELECT DISTINCT content FROM documents) d;
CREATE INDEX ON documents USING hash (content);
SELECT id FROM documents ORDER BY content, id;
SELECT id FROM documents WHERE content < '\x01'::bytea ORDER BY id;
CREATE INDEX ON documents (content);

-- Values change as in any column.
UPDATE documents SET content = content || '!' WHERE id = 1 RETURNING convert_from(content, 'utf8');
INSERT INTO documents VALUES (1, 'greeting', 'Good bye')
    ON CONFLICT (id) DO UPDATE SET content = excluded.content || ', ' || documents.content
    RETURNING convert_from(content, 'utf8'), uuid(content) IS NOT NULL AS stored;
DELETE FROM documents WHERE id = 5 RETURNING len(content);

-- To bytea and back.
ALTER TABLE documents ALTER content TYPE bytea;
SELECT id, content FROM documents WHERE id < 5 ORDER BY id;
ALTER TABLE documents ALTER content TYPE rbytea USING rbytea_store(content);
SELECT id, content, uuid(content) IS NOT NULL AS stored FROM documents ORDER BY id;

-- ANALYZE keeps no payload.
ANALYZE documents;
SELECT null_frac, avg_width, n_distinct, most_common_vals, histogram_bounds FROM pg_stats
WHERE tablename = 'documents' AND attname = 'content';

DROP TABLE documents;
