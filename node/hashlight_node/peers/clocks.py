"""Which peers' clocks and ours do not show the same time.

Nothing of the exchange is ordered by clocks. But a signed request counts for minutes
only, so a clock that is wrong ends the exchange until it is mended, and an operator
must be told which peer says so, and by how much. If all say so, it is our own.
"""

from __future__ import annotations

from typing import Final

import structlog

_NEWS_SECONDS: Final = 60
"""By how much an offset changes before it is worth another line in the log."""

_log = structlog.get_logger()


class PeerClocks:
    """Remembers what peers said about the time; for one event loop."""

    def __init__(self) -> None:
        self._offsets: dict[str, int] = {}
        self._logged: dict[str, int] = {}

    def offset_seconds(self, peer: str) -> int | None:
        """Tell how far a peer's clock is ahead of ours, negative if it is behind.

        Returns:
            None if it took our last signature, or was not asked yet.
        """
        return self._offsets.get(peer)

    def differ(self, peer: str, offset_seconds: int) -> None:
        """Note that a peer refused the time of a signature."""
        self._offsets[peer] = offset_seconds
        logged = self._logged.get(peer)
        if logged is None or abs(offset_seconds - logged) > _NEWS_SECONDS:
            self._logged[peer] = offset_seconds
            _log.error(
                "clocks differ; the peer takes no signature of ours",
                peer=peer,
                offset_seconds=offset_seconds,
            )

    def agree(self, peer: str) -> None:
        """Note that a peer took a signature, whatever else it answered."""
        if self._offsets.pop(peer, None) is not None:
            del self._logged[peer]
            _log.info("clocks agree again", peer=peer)
