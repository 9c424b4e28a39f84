"""Files in a table, with Django's models."""

import hashlib
import os
import pathlib
import sys

import django
from django.conf import settings

table, directory, mode = sys.argv[1:]
files = sorted(pathlib.Path(directory).iterdir())
if mode == "psycopg2":
    sys.modules["psycopg"] = None  # Django prefers psycopg 3 where it is installed.
settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": os.environ["PGDATABASE"],
            "USER": os.environ["PGUSER"],
            "HOST": os.environ["PGHOST"],
            "PORT": os.environ["PGPORT"],
            "OPTIONS": {"server_side_binding": True} if mode == "server_side_binding" else {},
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
django.setup()

from django.db import connection, models  # noqa: E402, after the settings


class Document(models.Model):
    name = models.TextField(unique=True)
    note = models.TextField()
    content = models.BinaryField(null=True)

    class Meta:
        app_label = "documents"
        db_table = table
        managed = False


def bytes_of(content):
    if content is None:
        return "null"
    return f"{type(content).__name__} {len(content)} {hashlib.sha256(content).hexdigest()}"


def show():
    for document in Document.objects.order_by("name"):
        print("row", document.name, document.note, bytes_of(document.content))


for file in files:
    Document.objects.create(name=file.name, note="new", content=file.read_bytes())
Document.objects.bulk_create([Document(name="null", note="new", content=None)])
show()
print("driver", connection.Database.__name__)

print("found", Document.objects.get(content=files[0].read_bytes()).name)
for document in Document.objects.order_by("name"):
    document.note = "changed"
    document.save()  # all columns
    document.pk, document.name, document.note = None, "copy-of-" + document.name, "copied"
    document.save(force_insert=True)
empty = Document.objects.get(name="empty")
print("deleted", bytes_of(empty.content))
empty.delete()
show()
