"""Use cases: publish, push, follow, witness, serve, look up, inspect.

Nothing here knows HTTP or SQL. Connection objects are only handed through to the
functions of `store`, inside the closures that `Database.read` and `.write` run.
"""
