"""Server-sent events out of bytes, in pieces of any size.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .errors import BadAnswerError

MAX_EVENT_BYTES: Final = 1_048_576
"""No event of a node comes near; more would only fill our memory."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Attributes:
        name: Its type; `message` if it has none, `` if there is no event, and the
            node only shows that it lives, or where the feed is.
        data: Its text.
        id: Of the last event that had one, None before the first.
    """

    name: str
    data: str
    id: str | None


class EventReader:
    """Splits a stream into events, and keeps the beginning of the next one."""

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._is_begun = False
        self._data: list[str] = []
        self._data_bytes = 0
        self._id: str | None = None

    def feed(self, data: bytes) -> list[Event]:
        """Take what arrived and give the events that are complete now.

        Lines must end in LF or CRLF; a node never ends them in CR alone.

        Raises:
            BadAnswerError: An event is larger than `MAX_EVENT_BYTES`.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        events = [event for line in lines if (event := self._line(line)) is not None]
        if len(self._rest) + self._data_bytes > MAX_EVENT_BYTES:
            reason = "an event is too large"
            raise BadAnswerError(reason)
        return events

    def _line(self, line: bytes) -> Event | None:
        text = line.removesuffix(b"\r").decode(errors="replace")
        if not text:
            return self._end()
        self._is_begun = True
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
                self._data_bytes += len(line)
            case "id":
                self._id = value
            case _:
                pass  # A comment, or what a later version of the format has.
        return None

    def _end(self) -> Event | None:
        name, data, is_begun = self._name, self._data, self._is_begun
        self._name, self._data, self._is_begun = "", [], False
        self._data_bytes = 0
        if not is_begun:
            return None
        if not data:
            return Event("", "", self._id)
        return Event(name or "message", "\n".join(data), self._id)
