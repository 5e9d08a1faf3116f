"""What travels over the local API, one module per resource.

Requests are pydantic models: strict, frozen, and closed, so that a misspelt member is
refused and not ignored. Answers are typed dictionaries: they cost nothing to make, the
type checker holds handlers to them, and OpenAPI is generated from both. Answers may
gain members; clients ignore those they do not know.
"""
