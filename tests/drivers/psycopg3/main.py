"""Files in a table, with psycopg 3."""

import hashlib
import pathlib
import sys

import psycopg
from psycopg import sql

table, directory, mode = sys.argv[1:]
files = sorted(pathlib.Path(directory).iterdir())
db = psycopg.connect(cursor_factory=psycopg.ClientCursor if mode == "client_cursor" else psycopg.Cursor)
TABLE = sql.Identifier(table)
prepare = mode == "prepared" or None


def run(statement, *parameters):
    cursor = db.cursor(binary=mode == "binary") if mode != "client_cursor" else db.cursor()
    return cursor.execute(sql.SQL(statement).format(TABLE), parameters or None, prepare=prepare)


def bytes_of(content):
    if content is None:
        return "null"
    return f"{type(content).__name__} {len(content)} {hashlib.sha256(content).hexdigest()}"


def show():
    for name, note, content in run("SELECT name, note, content FROM {} ORDER BY name"):
        print("row", name, note, bytes_of(content))


rows = [(file.name, "new", file.read_bytes()) for file in files] + [("null", "new", None)]
if mode == "copy":
    with db.cursor().copy(sql.SQL("COPY {} (name, note, content) FROM STDIN (FORMAT binary)").format(TABLE)) as copy:
        copy.set_types(["text", "text", "bytea"])
        for row in rows:
            copy.write_row(row)
else:
    for row in rows:
        run("INSERT INTO {} (name, note, content) VALUES (%s, %s, %s)", *row)
show()
print("type", run("SELECT content FROM {}").description[0].type_display)

print("found", run("SELECT name FROM {} WHERE content = %s", files[0].read_bytes()).fetchone()[0])
run("UPDATE {} SET note = 'changed'")
for name, content in run("SELECT name, content FROM {} ORDER BY name").fetchall():
    run("INSERT INTO {} (name, note, content) VALUES (%s, 'copied', %s)", "copy-of-" + name, content)
print("deleted", bytes_of(run("DELETE FROM {} WHERE name = 'empty' RETURNING content").fetchone()[0]))
db.commit()
show()
