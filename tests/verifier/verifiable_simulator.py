"""A node that can lie, with all that a verifier asks for."""

from __future__ import annotations

import re
from dataclasses import replace

from typing_extensions import override

from hashlight_protocol import (
    BodyStatus,
    Receipt,
    append_signatures,
    cosign,
    encode_receipt,
    inclusion_proof,
    origin_hash,
    root_of,
    unverified_origin,
)
from support.clock import ManualClock
from support.log_simulator import LogSimulator
from support.peer_simulator import NOT_FOUND, Answer, PeerSimulator

_WITNESS = re.compile(r"/hsf/v1/witness/([0-9a-f]{64})/checkpoint")

_EPOCH = re.compile(r"\A(/hsf/v1/log/[a-z0-9-]+)/[0-9]+/")
"""Every list has one log here, whatever its epoch."""


def _problem(status: int, code: str) -> Answer:
    body = f'{{"type":"hsf:{code}","status":{status}}}'.encode()
    return Answer("receipt", body, status, NOT_FOUND.headers)


_REFUSALS = {
    BodyStatus.NONE: _problem(404, "not-found"),
    BodyStatus.WITHHELD: _problem(403, "withheld"),
    BodyStatus.ERASED: _problem(410, "erased"),
}


class VerifiableSimulator(PeerSimulator):
    """Sends bodies uncompressed, makes receipts, shows what it has witnessed."""

    def __init__(self, name: str, clock: ManualClock) -> None:
        super().__init__(name, clock)
        self.witnessed: dict[str, bytes] = {}

    def witness_note(self, note: bytes) -> None:
        """Say that a checkpoint of a log of somebody else was seen."""
        line = cosign(note, self.witness, now=self.clock())
        hashed = origin_hash(unverified_origin(note))
        self.witnessed[hashed] = append_signatures(note, line)

    @override
    def _answer(self, path: str, body: bytes) -> Answer:
        path = _EPOCH.sub(r"\1/1/", path)
        if match := _WITNESS.fullmatch(path):
            note = self.witnessed.get(match[1])
            if note is None:
                return replace(NOT_FOUND, kind="witness")
            return Answer("witness", note)
        return super()._answer(path, body)

    @override
    def _resource(self, log: LogSimulator, name: str) -> Answer:
        if name.startswith("receipt/"):
            return self.receipt(log, int(name.removeprefix("receipt/")))
        answer = super()._resource(log, name)
        if answer.kind == "bodies":
            width = int(name.partition(".p/")[2] or 256)
            index = int(name[len("bodies/") :][:3])
            return replace(answer, body=log.body_bundle(index, width), headers={})
        return answer

    def receipt(self, log: LogSimulator, index: int) -> Answer:
        body = log.bodies[index]
        if body.status is not BodyStatus.PRESENT:
            return _REFUSALS[body.status]

        def read(level: int, at: int) -> bytes:
            return root_of(log.leaves[at << level : (at + 1) << level])

        proof = inclusion_proof(read, leaf_index=index, tree_size=log.size)
        receipt = Receipt(index, tuple(proof), log.note(), body.salt, body.body)
        return Answer("receipt", encode_receipt(receipt))
