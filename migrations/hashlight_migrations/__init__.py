"""The history of the schema, for alembic; `hashlight migrate` runs it."""
