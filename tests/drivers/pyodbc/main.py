"""Files in a table, with pyodbc and psqlODBC."""

import hashlib
import os
import pathlib
import sys

import pyodbc

table, directory, mode = sys.argv[1:]
files = sorted(pathlib.Path(directory).iterdir())
db = pyodbc.connect(
    "Driver={PostgreSQL Unicode};"
    f"Server={os.environ['PGHOST']};Port={os.environ['PGPORT']};Uid={os.environ['PGUSER']};Database={os.environ['PGDATABASE']};"
    f"UseServerSidePrepare={int(mode == 'prepared')};MaxLongVarcharSize=100000000"
)


def bytes_of(content):
    if content is None:
        return "null"
    return f"{type(content).__name__} {len(content)} {hashlib.sha256(content).hexdigest()}"


def show():
    for name, note, content in db.execute(f"SELECT name, note, content FROM {table} ORDER BY name"):
        print("row", name, note, bytes_of(content))


insert = f"INSERT INTO {table} (name, note, content) VALUES (?, ?, ?)"
for file in files:
    db.execute(insert, file.name, "new", file.read_bytes())
db.execute(insert, "null", "new", None)
show()
print("type", db.execute(f"SELECT content FROM {table}").description[0][1])

print("found", db.execute(f"SELECT name FROM {table} WHERE content = ?", files[0].read_bytes()).fetchone()[0])
db.execute(f"UPDATE {table} SET note = 'changed'")
for name, content in db.execute(f"SELECT name, content FROM {table} ORDER BY name").fetchall():
    db.execute(insert, "copy-of-" + name, "copied", content)
print("deleted", bytes_of(db.execute(f"DELETE FROM {table} WHERE name = 'empty' RETURNING content").fetchone()[0]))
db.commit()
show()
