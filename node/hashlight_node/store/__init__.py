"""Keeps everything a node knows in one SQL database; values in, values out.

`Database` runs functions inside transactions, and the other modules are such functions:
plain, synchronous, given a connection first. They never commit, so whoever calls
several of them in one `Database.write` gets all of their effects or none.

`tables` is the schema, `records.apply_entries` the one place where verified entries
take effect, and `contents` the one place where bytes are written that must be
destroyable.
"""
