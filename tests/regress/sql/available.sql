-- The library loads and the extension is known to the server.
LOAD 'rbytea';
SELECT name, comment FROM pg_available_extensions WHERE name = 'rbytea';
