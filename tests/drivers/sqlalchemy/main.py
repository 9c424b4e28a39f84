"""Files in a table, with SQLAlchemy's ORM."""

import asyncio
import hashlib
import os
import pathlib
import sys

from sqlalchemy import LargeBinary, create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

table, directory, mode = sys.argv[1:]
files = sorted(pathlib.Path(directory).iterdir())
url = "postgresql+{}://{PGUSER}@{PGHOST}:{PGPORT}/{PGDATABASE}".format(mode, **os.environ)


class Base(DeclarativeBase):
    pass


class Document(Base):
    __tablename__ = table
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    note: Mapped[str]
    content: Mapped[bytes | None] = mapped_column(LargeBinary)


def bytes_of(content):
    if content is None:
        return "null"
    return f"{type(content).__name__} {len(content)} {hashlib.sha256(content).hexdigest()}"


def show(session):
    session.expire_all()
    for document in session.scalars(select(Document).order_by(Document.name)):
        print("row", document.name, document.note, bytes_of(document.content))


def scenario(session):
    session.add_all(Document(name=file.name, note="new", content=file.read_bytes()) for file in files)
    session.add(Document(name="null", note="new", content=None))
    session.commit()
    show(session)

    print("found", session.scalars(select(Document.name).where(Document.content == files[0].read_bytes())).one())
    for document in session.scalars(select(Document).order_by(Document.name)).all():
        document.note = "changed"
        session.add(Document(name="copy-of-" + document.name, note="copied", content=document.content))
    session.commit()
    empty = session.scalars(select(Document).where(Document.name == "empty")).one()
    print("deleted", bytes_of(empty.content))
    session.delete(empty)
    session.commit()
    show(session)


async def asynchronously():
    async with AsyncSession(create_async_engine(url)) as session:
        await session.run_sync(scenario)


if mode == "asyncpg":
    asyncio.run(asynchronously())
else:
    with Session(create_engine(url)) as session:
        scenario(session)
