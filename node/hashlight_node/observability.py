"""What an operator reads of a running node: its log.

It is one JSON object a line on standard error. It must never hold a hash, an
identifier, a token, a salt or a key, and no reviewer can check that at every call.
So a line is built from an allow-list: a key that is not in `_FIELDS` is dropped, a
value that is not of its field's form is dropped, and of an exception only its type
and the places in the code are kept, because messages quote what they are about.
What was dropped is counted in the line itself (`withheld`).
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, TextIO

import orjson
import structlog

from hashlight_protocol import is_list_name, is_node_name, parse_origin
from hashlight_protocol.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from types import TracebackType

REQUEST_ID: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)
"""Id of the request that is being answered: in every line logged meanwhile. Not kept
by structlog, whose way to bind a value for a while costs as much as a search."""

# An event is a sentence about what happened, known when the code is written. Digits
# are what hashes, keys and tokens are made of and sentences are not.
_SENTENCE: Final = re.compile(r"[A-Za-z][A-Za-z ,;:.?'()-]{0,99}")
# Longest word of a sentence; the longest in English that we might need is shorter.
_MAX_WORD: Final = 20
_SLUG: Final = re.compile(r"[a-z]+(-[a-z]+){0,7}")
_REQUEST_ID: Final = re.compile(r"[0-9a-f]{16}")
_ROUTE: Final = re.compile(r"/[A-Za-z0-9/{}._*-]{0,120}")
_DOTTED: Final = re.compile(r"[A-Za-z_]+(\.[A-Za-z_]+){0,9}")
_PLACE: Final = re.compile(r"[A-Za-z0-9_./<>-]+\.py:[0-9]+ [A-Za-z0-9_<>]+")
_ADDRESS: Final = re.compile(r"(\[[0-9a-f:]+\]|[a-z0-9.-]+):[0-9]{1,5}")
_URL: Final = re.compile(r"https?://(\[[0-9a-f:]+\]|[a-z0-9.-]{1,253})(:[0-9]{1,5})?")
_VERSION: Final = re.compile(r"[0-9]{1,4}(\.[0-9a-z]{1,8}){1,4}")
_TIME: Final = re.compile(r"[0-9-]{10}T[0-9:.]{8,15}Z")
_METHOD: Final = re.compile(r"[A-Z]{1,8}")
_STACK_PLACES: Final = 24


# A digest can have the form of a name; a name that could be one is not worth the risk.
_DIGEST: Final = re.compile(r"[0-9a-f]{20}")


def _matches(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    def matches(value: object) -> bool:
        return (
            isinstance(value, str)
            and pattern.fullmatch(value) is not None
            and _DIGEST.search(value) is None
        )

    return matches


def _is_number(value: object) -> bool:
    # 2**53 bounds it: a hash cannot hide in an integer of a log line.
    return isinstance(value, int | float) and abs(value) <= 2**53


def _names(is_name: Callable[[str], bool]) -> Callable[[object], bool]:
    return lambda value: (
        isinstance(value, str) and is_name(value) and _DIGEST.search(value) is None
    )


def _is_origin(value: str) -> bool:
    try:
        parse_origin(value)
    except ProtocolError:
        return False
    return True


def _is_stack(value: object) -> bool:
    return isinstance(value, list) and all(map(_matches(_PLACE), value))


_FIELDS: Final[dict[str, Callable[[object], bool]]] = {
    "timestamp": _matches(_TIME),
    "level": _matches(_SLUG),
    "logger": _matches(_DOTTED),
    "request_id": _matches(_REQUEST_ID),
    "node": _names(is_node_name),
    "peer": _names(is_node_name),
    "list": _names(is_list_name),
    "origin": _names(_is_origin),
    "base": _matches(_URL),
    "federation": _matches(_ADDRESS),
    "local": _matches(_ADDRESS),
    "version": _matches(_VERSION),
    "method": _matches(_METHOD),
    "route": _matches(_ROUTE),
    "listener": _matches(_SLUG),
    "job": _matches(_SLUG),
    "code": _matches(_SLUG),
    "state": _matches(_SLUG),
    "error_type": _matches(_DOTTED),
    "cause_type": _matches(_DOTTED),
    "stack": _is_stack,
} | dict.fromkeys(
    (
        "status",
        "duration_seconds",
        "wait_seconds",
        "old_size",
        "new_size",
        "size",
        "records",
        "retractions",
        "erasures",
        "signals",
        "peers",
        "count",
        "attempt",
        "evidence_id",
        "pid",
        "offset_seconds",
        "free_mib",
    ),
    _is_number,
)


def keep_allowed(
    logger: object, name: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    """Drop from a log line whatever is not known to be harmless.

    The last processor before encoding, so nothing is added after it.
    """
    del logger, name
    kept: dict[str, object] = {"event": _sentence(event.pop("event", ""))}
    given = {key: value for key, value in event.items() if value is not None}
    for key, is_harmless in _FIELDS.items():
        if key in given and is_harmless(given[key]):
            kept[key] = given.pop(key)
    if given:
        kept["withheld"] = len(given)
    return kept


def _sentence(event: object) -> str:
    if not (isinstance(event, str) and _SENTENCE.fullmatch(event)):
        return "event withheld"
    if any(len(word) > _MAX_WORD for word in event.split()):
        return "event withheld"
    return event


def _add_request_id(
    logger: object, name: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    del logger, name
    event.setdefault("request_id", REQUEST_ID.get())
    return event


def _describe_exception(
    logger: object, name: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    """Keep an exception's type and where it arose, without what it says."""
    del logger, name
    given = event.pop("exc_info", None)
    error = sys.exc_info()[1] if given is True else given
    if isinstance(error, tuple):
        error = error[1]
    while isinstance(error, BaseExceptionGroup):
        # Of several that ended together the first, which is why the rest did.
        error = error.exceptions[0]
    if not isinstance(error, BaseException):
        return event
    event["error_type"] = type(error).__qualname__
    if error.__cause__ is not None:
        event["cause_type"] = type(error.__cause__).__qualname__
    if isinstance(error, ProtocolError):
        event.setdefault("code", error.code)
    event["stack"] = _places(error.__traceback__)
    return event


def _places(trace: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(trace)[-_STACK_PLACES:]
    return [
        f"{'/'.join(frame.filename.split('/')[-2:])}:{frame.lineno} {frame.name}"
        for frame in frames
    ]


def _without_record(
    logger: object, name: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    """Take out what structlog adds for its own use, so that it is not counted."""
    record = event.pop("_record", None)
    event.pop("_from_structlog", None)
    if isinstance(record, logging.LogRecord):
        event["logger"] = record.name
    del logger, name
    return event


def configure_logging(level: str, stream: TextIO | None = None) -> None:
    """Send this process's log to a stream as JSON lines; called once, by `app`.

    What libraries log comes in the same form and by the same rules, from `warning`
    on. Of their messages only the constant part is used: arguments may be anything.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        stream: Standard error by default.
    """
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    encode = structlog.processors.JSONRenderer(serializer=_encode)
    structlog.configure(
        processors=[
            _add_request_id,
            structlog.processors.add_log_level,
            stamp,
            _describe_exception,
            keep_allowed,
            encode,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.processors.add_log_level, stamp],
            processors=[_without_record, _describe_exception, keep_allowed, encode],
            use_get_message=False,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))


def _encode(event: object, **_: object) -> str:
    return orjson.dumps(event).decode()
