"""Runs every benchmark: `make bench`."""

from __future__ import annotations

from benchmarks import publish_to_matchable

if __name__ == "__main__":
    raise SystemExit(publish_to_matchable.main())
