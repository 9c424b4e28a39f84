"""What alembic's autogenerate wants to change, and what it creates."""

import os
import sys
import warnings

from alembic.autogenerate import compare_metadata, render_python_code, produce_migrations
from alembic.migration import MigrationContext
from sqlalchemy import Column, Integer, LargeBinary, MetaData, Table, Text, create_engine, inspect
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.ext.compiler import compiles

(mode,) = sys.argv[1:]


class RBytea(LargeBinary):
    """bytea for the program, rbytea in DDL."""


@compiles(RBytea)
def ddl_of_rbytea(type_, compiler, **options):
    return "rbytea"


Content = LargeBinary
if mode == "declared":
    ischema_names["rbytea"] = RBytea
    Content = RBytea
else:
    warnings.filterwarnings("ignore", "Did not recognize type")


metadata = MetaData()
Table("documents", metadata, Column("id", Integer, primary_key=True), Column("note", Text, nullable=False), Column("content", Content))
Table("old", metadata, Column("id", Integer, primary_key=True), Column("content", Content))
engine = create_engine("postgresql+psycopg://{PGUSER}@{PGHOST}:{PGPORT}/{PGDATABASE}".format(**os.environ))


# What include_name is for in env.py: with include_schemas, alembic sees the schema of the extension.
def include_name(name, kind, parents):
    return not (kind == "schema" and name == "rbytea")


with engine.begin() as db:
    print("reflected", inspect(db).get_columns("documents")[2]["type"].__class__.__name__)
    options = {"include_schemas": True, "include_name": include_name} if mode == "declared" else {}
    for difference in compare_metadata(MigrationContext.configure(db, opts=options), metadata):
        if isinstance(difference, list):
            kind, _, name, column, _, before, after = difference[0]
            print("wants", kind, f"{name}.{column}", before, "rbytea" if isinstance(after, RBytea) else after)
        else:
            print("wants", difference[0], difference[1].name)

    if mode == "declared":
        new = Table("new", metadata, Column("id", Integer, primary_key=True), Column("content", RBytea))
        migrations = produce_migrations(MigrationContext.configure(db, opts=options), metadata)
        print("migration", "RBytea()" if "RBytea()" in render_python_code(migrations.upgrade_ops) else "")
        new.create(db)
        db.execute(new.insert().values(id=1, content=b"\\101\0"))
        print("content", db.execute(new.select()).one().content)
