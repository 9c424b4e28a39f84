"""What Django's inspectdb makes of the table, and a field of the type."""

import os
import sys

import django
from django.conf import settings

(mode,) = sys.argv[1:]
settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": os.environ["PGDATABASE"],
            "USER": os.environ["PGUSER"],
            "HOST": os.environ["PGHOST"],
            "PORT": os.environ["PGPORT"],
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
django.setup()

from django.core.management import call_command  # noqa: E402, after the settings
from django.db import connection, models  # noqa: E402


class RbyteaField(models.BinaryField):
    def db_type(self, connection):
        return "rbytea"


class New(models.Model):
    content = RbyteaField(null=True)

    class Meta:
        app_label = "documents"


if mode == "undeclared":
    call_command("inspectdb", "documents")

else:
    with connection.schema_editor() as editor:
        editor.create_model(New)
    New.objects.create(content=b"\\101\0")
    print("content", bytes(New.objects.get().content))
