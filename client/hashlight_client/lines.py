"""Lines out of an answer that arrives in pieces, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .errors import BadAnswerError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aiohttp import StreamReader

MAX_LINE_BYTES: Final = 16_777_216
"""A thousand records with everything that they may say take less."""


async def read_lines(content: StreamReader) -> AsyncGenerator[list[bytes], None]:
    """Read lines.

    Yields:
        Those that are complete, without their line ends, whenever some are.

    Raises:
        BadAnswerError: A line is longer than any of a node, or the last has no end.
    """
    rest = b""
    async for piece in content.iter_any():
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            reason = "a line is too long"
            raise BadAnswerError(reason)
        if lines:
            yield lines
    if rest:
        reason = "its last line has no end"
        raise BadAnswerError(reason)
