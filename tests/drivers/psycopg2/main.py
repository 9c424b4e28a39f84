"""Files in a table, with psycopg2."""

import hashlib
import pathlib
import sys

import psycopg2
from psycopg2 import sql

table, directory, mode = sys.argv[1:]
files = sorted(pathlib.Path(directory).iterdir())
db = psycopg2.connect("")
TABLE = sql.Identifier(table)


def run(statement, *parameters):
    cursor = db.cursor()
    cursor.execute(sql.SQL(statement).format(TABLE), parameters)
    return cursor


def query(statement):
    # A named cursor stays on the server.
    cursor = db.cursor("files") if mode == "named_cursor" else db.cursor()
    cursor.execute(sql.SQL(statement).format(TABLE))
    return cursor


def bytes_of(content):
    if content is None:
        return "null"
    return f"{type(content).__name__} {len(content)} {hashlib.sha256(content).hexdigest()}"


def show():
    with query("SELECT name, note, content FROM {} ORDER BY name") as rows:
        for name, note, content in rows:
            print("row", name, note, bytes_of(content))


for file in files:
    run("INSERT INTO {} (name, note, content) VALUES (%s, 'new', %s)", file.name, file.read_bytes())
run("INSERT INTO {} (name, note, content) VALUES ('null', 'new', %s)", None)
show()
with query("SELECT content FROM {}") as rows:
    rows.fetchone()
    print("type", rows.description[0].type_code == psycopg2.BINARY)

print("found", run("SELECT name FROM {} WHERE content = %s", files[0].read_bytes()).fetchone()[0])
run("UPDATE {} SET note = 'changed'")
rows = run("SELECT name, content FROM {} ORDER BY name").fetchall()
for name, content in rows:
    run("INSERT INTO {} (name, note, content) VALUES (%s, 'copied', %s)", "copy-of-" + name, content)
print("deleted", bytes_of(run("DELETE FROM {} WHERE name = 'empty' RETURNING content").fetchone()[0]))
db.commit()
show()
