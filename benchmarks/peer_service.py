"""A lookup service as the field runs one: Flask and gunicorn around PDQIndex.

The field's own service, HMA (Hasher-Matcher-Actioner), is not to be had from a
package registry, so this answers `GET /m/lookup?signal_type=pdq&signal=…` the way its
`blueprints/matching.py` does: the signal is checked by threatexchange, the index is
asked, the contents that match are looked up and the names of their banks given. What
HMA does besides is left out, and it is what costs it most: its storage in
PostgreSQL through SQLAlchemy, and reading its settings from there for each request.
So this peer is faster than HMA; it is a bound from above on what that design gives.

gunicorn imports it: `benchmarks.peer_service:make_app("HASHES.npy")`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import faiss
from flask import Flask, Response, abort, jsonify, request
from threatexchange.signal_type.pdq.pdq_index import PDQIndex
from threatexchange.signal_type.pdq.signal import PdqSignal

from benchmarks.hashes import load

BANK = "ncii"


@dataclass(frozen=True, slots=True)
class Bank:
    """Where a content belongs; a share of its matches can be switched off."""

    name: str
    matching_enabled_ratio: float


def make_app(hashes: str) -> Flask:
    """Build the index over a file of hashes, and the service around it."""
    faiss.omp_set_num_threads(1)
    entries = enumerate(load(Path(hashes)))
    index = PDQIndex((digest.tobytes().hex(), row) for row, digest in entries)
    bank = Bank(BANK, 1.0)

    def bank_of(content: int) -> Bank:
        del content  # there is one bank
        return bank

    def look_up() -> Response:
        if request.args.get("signal_type") != PdqSignal.get_name():
            abort(400, "no such signal type")
        # What it raises for a bad signal becomes a 500 here: nobody sends one.
        signal = PdqSignal.validate_signal_str(request.args["signal"])
        contents = [match.metadata for match in index.query(signal)]
        banks = {it.name: it for it in map(bank_of, contents)}
        coin = random.Random(request.args.get("seed")).random()  # noqa: S311  HMA's
        return jsonify(
            [it.name for it in banks.values() if it.matching_enabled_ratio >= coin]
        )

    app = Flask("peer")
    app.add_url_rule("/m/lookup", view_func=look_up)
    app.add_url_rule("/status", view_func=lambda: "I-AM-ALIVE")
    return app
