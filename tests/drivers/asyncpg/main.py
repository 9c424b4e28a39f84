"""Files in a table, with asyncpg."""

import asyncio
import hashlib
import pathlib
import sys

import asyncpg

table, directory, mode = sys.argv[1:]
files = sorted(pathlib.Path(directory).iterdir())


def bytes_of(content):
    if content is None:
        return "null"
    return f"{type(content).__name__} {len(content)} {hashlib.sha256(content).hexdigest()}"


async def show(db):
    for row in await db.fetch(f"SELECT name, note, content FROM {table} ORDER BY name"):
        print("row", row["name"], row["note"], bytes_of(row["content"]))


async def main():
    db = await asyncpg.connect(statement_cache_size=0 if mode == "unprepared" else 100)
    rows = [(file.name, "new", file.read_bytes()) for file in files] + [("null", "new", None)]
    insert = f"INSERT INTO {table} (name, note, content) VALUES ($1, $2, $3)"
    if mode == "copy":
        await db.copy_records_to_table(table, records=rows, columns=["name", "note", "content"])
    else:
        await db.executemany(insert, rows)
    await show(db)
    statement = await db.prepare(f"SELECT content FROM {table}")
    print("type", statement.get_attributes()[0].type.name)

    print("found", await db.fetchval(f"SELECT name FROM {table} WHERE content = $1", files[0].read_bytes()))
    await db.execute(f"UPDATE {table} SET note = 'changed'")
    for row in await db.fetch(f"SELECT name, content FROM {table} ORDER BY name"):
        await db.execute(insert, "copy-of-" + row["name"], "copied", row["content"])
    print("deleted", bytes_of(await db.fetchval(f"DELETE FROM {table} WHERE name = 'empty' RETURNING content")))
    await show(db)
    await db.close()


asyncio.run(main())
