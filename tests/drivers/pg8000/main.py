"""Files in a table, with pg8000."""

import hashlib
import os
import pathlib
import sys

import pg8000.dbapi

table, directory, mode = sys.argv[1:]
files = sorted(pathlib.Path(directory).iterdir())
db = pg8000.dbapi.connect(
    user=os.environ["PGUSER"], host=os.environ["PGHOST"], port=int(os.environ["PGPORT"]), database=os.environ["PGDATABASE"]
)


def run(statement, *parameters):
    cursor = db.cursor()
    cursor.execute(statement, parameters)
    return cursor


def bytes_of(content):
    if content is None:
        return "null"
    return f"{type(content).__name__} {len(content)} {hashlib.sha256(content).hexdigest()}"


def show():
    for name, note, content in run(f"SELECT name, note, content FROM {table} ORDER BY name").fetchall():
        print("row", name, note, bytes_of(content))


for file in files:
    run(f"INSERT INTO {table} (name, note, content) VALUES (%s, 'new', %s)", file.name, file.read_bytes())
run(f"INSERT INTO {table} (name, note, content) VALUES ('null', 'new', %s)", None)
show()
print("type", run(f"SELECT content FROM {table}").description[0][1])

print("found", run(f"SELECT name FROM {table} WHERE content = %s", files[0].read_bytes()).fetchone()[0])
run(f"UPDATE {table} SET note = 'changed'")
for name, content in run(f"SELECT name, content FROM {table} ORDER BY name").fetchall():
    run(f"INSERT INTO {table} (name, note, content) VALUES (%s, 'copied', %s)", "copy-of-" + name, content)
print("deleted", bytes_of(run(f"DELETE FROM {table} WHERE name = 'empty' RETURNING content").fetchone()[0]))
db.commit()
show()
