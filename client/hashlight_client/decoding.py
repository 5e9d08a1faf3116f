"""From the node's JSON to values; the only place that knows its members' names."""

from __future__ import annotations

import re
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from .errors import BadAnswerError
from .values import (
    Answer,
    BulkMatch,
    Change,
    Current,
    ExportedSignal,
    ImageAnswer,
    ImageHashes,
    Label,
    ListState,
    Match,
    Record,
    Result,
    Signal,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .events import Event

Json = dict[str, Any]

EVENT_ID: Final = re.compile(r"[0-9]{1,18}-[0-9]{1,18}-[0-9]{1,18}")
"""Number, signal and time of a change: what tells it from one of another history."""


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn whatever an unexpected answer breaks into one error, without its content."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        # The cause would quote the answer.
        reason = f"{what} has not the form that it must have ({type(error).__name__})"
        raise BadAnswerError(reason) from None


def decode_object(raw: bytes) -> Json:
    """Read a JSON object; an empty body counts as an empty one.

    Raises:
        BadAnswerError: It is something else.
    """
    with reading("the body"):
        value = orjson.loads(raw or b"{}")
    if not isinstance(value, dict):
        reason = "the body is no object"
        raise BadAnswerError(reason)
    return value


def decode_answer(raw: bytes) -> Answer:
    """Read the answer of `POST /v1/lookup`."""
    body = decode_object(raw)
    with reading("the answer to a lookup"):
        return Answer(_results_of(body), _lists_of(body))


def decode_results(raw: bytes, count: int) -> list[Json]:
    """Read the results of `POST /v1/lookup` without turning them into values.

    Args:
        raw: The answer.
        count: How many there must be.
    """
    results = decode_object(raw).get("results")
    if not isinstance(results, list) or len(results) != count:
        reason = "it has not one result for each query"
        raise BadAnswerError(reason)
    return results


def decode_image_answer(raw: bytes) -> ImageAnswer:
    """Read the answer of `POST /v1/lookup/image`."""
    body = decode_object(raw)
    with reading("the answer to a lookup"):
        image = body["image"]
        hashes = ImageHashes(
            image["pdq"],
            image["quality"],
            image["md5"],
            image["sha1"],
            image["sha256"],
        )
        return ImageAnswer(hashes, _results_of(body), _lists_of(body))


def decode_bulk_match(line: bytes, first_index: int) -> BulkMatch:
    """Read one line of the answer of `POST /v1/lookup/pdq`.

    Args:
        line: A JSON object.
        first_index: What the first hash of that request counts as.
    """
    body = decode_object(line)
    with reading("a line of a bulk lookup"):
        return BulkMatch(
            index=first_index + body["index"],
            handling=body["handling"],
            matches=tuple(map(match_of, body["matches"])),
            truncated=body["truncated"],
        )


def decode_export(line: bytes) -> ExportedSignal:
    """Read one line of `GET /v1/export`."""
    body = decode_object(line)
    with reading("a line of an export"):
        records = tuple(map(record_of, body["records"]))
        return ExportedSignal(_signal_of(body["signal"]), records)


def decode_change(event: Event) -> Change | Current:
    """Read an event of `GET /v1/changes`."""
    body = decode_object(event.data.encode())
    with reading("an event"):
        if event.id is None or not EVENT_ID.fullmatch(event.id):
            raise ValueError(event.id)
        match event.name:
            case "live":
                signal = _signal_of(body)
                return Change(event.id, "live", body["signal_id"], signal)
            case "dead":
                return Change(event.id, "dead", body["signal_id"], None)
            case "current":
                threshold, clock_ms = body["pdq_threshold"], body["clock_ms"]
                return Current(event.id, int(threshold), int(clock_ms))
            case _:
                raise ValueError(event.name)


def decode_refs(raw: bytes) -> tuple[str, ...]:
    """Read which records were made."""
    body = decode_object(raw)
    with reading("the answer to a publication"):
        return tuple(body["refs"]) if "refs" in body else (body["ref"],)


def match_of(body: Json) -> Match:
    """Read one match; what it lacks raises KeyError or TypeError."""
    return Match(
        signal=_signal_of(body["signal"]),
        distance=body["distance"],
        threshold=body["threshold"],
        opinion=body["opinion"],
        handling=body["handling"],
        records=tuple(map(record_of, body["records"])),
        allowed=body.get("allowed", False),
        flooded=body.get("flooded", False),
        rule=body.get("rule"),
        because=body.get("because", ""),
    )


def record_of(body: Json) -> Record:
    """Read one record; what it lacks raises KeyError or TypeError."""
    return Record(
        ref=body["ref"],
        list=body["list"],
        origin_node=body["origin_node"],
        tree_size=body["tree_size"],
        labels=tuple(map(_label_of, body["labels"])),
        source=body["source"],
        review=body["review"],
        created_at=_instant_of(body["created"]),
        quality=body["quality"],
        expires_at=_instant_of(body.get("expires")),
    )


def _results_of(body: Json) -> tuple[Result, ...]:
    return tuple(
        Result(
            query=_signal_of(result["query"]),
            handling=result["handling"],
            matches=tuple(map(match_of, result["matches"])),
            truncated=result["truncated"],
        )
        for result in body["results"]
    )


def _lists_of(body: Json) -> tuple[ListState, ...]:
    return tuple(
        ListState(it["origin"], it["tree_size"], it["root_hash"], it["age_seconds"])
        for it in body["lists"]
    )


def _signal_of(body: Json) -> Signal:
    return Signal(body["type"], body["value"])


def _label_of(body: Json) -> Label:
    return Label(
        body["scheme"],
        body["value"],
        body.get("jurisdiction"),
        body.get("assigned_by"),
    )


def _instant_of(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
