"""All keys of one use that count now: one, or two while one replaces the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlight_protocol import Signer, VerifierKey


@dataclass(slots=True)
class Signers:
    """The keys of one use, which all sign; by itself it is the newest of them.

    One object for the life of the process: whoever holds it signs with what counts
    at the moment.

    Attributes:
        every: The keys, oldest first, at least one.
    """

    every: tuple[Signer, ...]

    @property
    def newest(self) -> Signer:
        """The key that replaces the others."""
        return self.every[-1]

    @property
    def key(self) -> VerifierKey:
        """The public half of the newest."""
        return self.newest.key

    def sign(self, message: bytes) -> bytes:
        """Sign with the newest alone."""
        return self.newest.sign(message)


def signers_of(signer: Signer) -> tuple[Signer, ...]:
    """Give every key that must sign where `signer` does, oldest first."""
    return signer.every if isinstance(signer, Signers) else (signer,)
