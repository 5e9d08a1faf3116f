"""A node's local API for asyncio: lookups, publishing, feedback, changes."""

from __future__ import annotations

import secrets
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Self, Unpack
from urllib.parse import quote

import orjson

from .batching import Batcher
from .decoding import (
    decode_answer,
    decode_bulk_match,
    decode_export,
    decode_image_answer,
    decode_refs,
    decode_results,
)
from .feed import follow_changes
from .lines import read_lines
from .options import DEFAULT_BASE
from .requests import (
    MAX_PAST_QUERIES,
    MAX_QUERIES,
    bulk_path,
    encode_lookup,
    encode_query,
    encode_records,
    list_of,
    rfc3339,
    split_hashes,
    split_queries,
)
from .retrying import Retries
from .transport import JSON, Transport
from .values import Answer, Change, Signal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

    from .options import Options
    from .values import (
        BulkMatch,
        ExportedSignal,
        ImageAnswer,
        ListState,
        Purpose,
        Reason,
        Result,
        Stance,
    )

_BULK: Final = "application/octet-stream"


class AsyncClient:
    """One node's local API.

    Use it as `async with`, in one event loop. It keeps connections, so one client
    should serve a whole program.

    Args:
        base: `http://host:port` of the node's local listener.
        token: Bearer token with the scopes that the calls need.
        options: See `Options`.

    Raises:
        ValueError: `base` is no such address.

    Every method raises `NodeUnreachableError` if nothing answers until patience ends,
    `ProblemError` if the node refuses, `BadAnswerError` if what answers is no node.
    """

    def __init__(
        self,
        base: str = DEFAULT_BASE,
        *,
        token: str,
        **options: Unpack[Options],
    ) -> None:
        self._transport = Transport(
            base,
            token,
            timeout_seconds=options.get("timeout_seconds", 30.0),
            retries=options.get("retries", Retries()),
            connections=options.get("connections", 20),
            tls=options.get("tls"),
        )
        batch_seconds = options.get("batch_seconds")
        self._batcher = (
            None if batch_seconds is None else Batcher(self._look_up, batch_seconds)
        )

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Get ready; of this client nothing has to be, of others a copy is loaded."""

    async def close(self) -> None:
        """Close all connections; a second time does nothing."""
        if self._batcher is not None:
            await self._batcher.close()
        await self._transport.close()

    async def lookup(
        self,
        signal: Signal | str,
        *,
        max_distance: int | None = None,
        as_of: datetime | None = None,
        purpose: Purpose = "upload",
    ) -> Result:
        """Look one signal up. Scope `lookup`.

        Args:
            signal: A signal, or `TYPE:VALUE`.
            max_distance: Where near matches end, in bits; it narrows the node's own
                threshold and never widens it.
            as_of: Answer from what was live then.
            purpose: `scan` for what was stored before: the node's flood breaker does
                not count its matches, and the match log does not have them.
        """
        asked = Signal.parse(signal) if isinstance(signal, str) else signal
        is_plain = max_distance is None and as_of is None and purpose == "upload"
        if self._batcher is not None and is_plain:
            return await self._batcher.lookup(asked)
        answer = await self.lookup_many(
            [asked], max_distance=max_distance, as_of=as_of, purpose=purpose
        )
        return answer.results[0]

    async def lookup_many(
        self,
        signals: Iterable[Signal | str],
        *,
        max_distance: int | None = None,
        as_of: datetime | None = None,
        purpose: Purpose = "upload",
    ) -> Answer:
        """Look signals up, any number. Scope `lookup`.

        Takes a request for each thousand, with `as_of` for each ten.

        Args:
            signals: Signals, or `TYPE:VALUE`.
            max_distance: As of `lookup`.
            as_of: As of `lookup`.
            purpose: As of `lookup`.
        """
        parsed = (Signal.parse(it) if isinstance(it, str) else it for it in signals)
        results: list[Result] = []
        lists: tuple[ListState, ...] | None = None
        most = MAX_QUERIES if as_of is None else MAX_PAST_QUERIES
        for queries in split_queries(map(encode_query, parsed), most=most):
            answer = await self._look_up(
                queries, max_distance=max_distance, as_of=as_of, purpose=purpose
            )
            results += answer.results
            lists = answer.lists if lists is None else lists
        return Answer(tuple(results), lists or ())

    async def lookup_json(
        self,
        signals: Sequence[Signal],
        *,
        max_distance: int | None = None,
        purpose: Purpose = "upload",
    ) -> list[dict[str, Any]]:
        """Look signals up and give the node's own words, to pass them on.

        Args:
            signals: Any number.
            max_distance: As of `lookup`.
            purpose: As of `lookup`.

        Returns:
            One JSON object for each signal, in order.
        """
        results: list[dict[str, Any]] = []
        for queries in split_queries(map(encode_query, signals)):
            raw = await self._ask(
                queries, max_distance=max_distance, as_of=None, purpose=purpose
            )
            results += decode_results(raw, len(queries))
        return results

    async def lookup_pdq(
        self,
        hashes: bytes,
        *,
        max_distance: int | None = None,
        purpose: Purpose = "upload",
    ) -> list[BulkMatch]:
        """Look PDQ hashes up by the fastest way, any number. Scope `lookup`.

        Args:
            hashes: 32 bytes each, one after the other.
            max_distance: As of `lookup`.
            purpose: As of `lookup`.

        Returns:
            One for each hash that matched, in their order.

        Raises:
            ValueError: The length is no multiple of 32.
        """
        found: list[BulkMatch] = []
        for first, some in split_hashes(hashes):
            lines = await self.lookup_pdq_lines(
                some, max_distance=max_distance, purpose=purpose
            )
            found += [decode_bulk_match(line, first) for line in lines]
        return found

    async def lookup_pdq_lines(
        self,
        hashes: bytes,
        *,
        max_distance: int | None = None,
        purpose: Purpose = "upload",
    ) -> list[bytes]:
        """Do one bulk lookup and give the lines as they come, to pass them on.

        Args:
            hashes: At most `MAX_BULK_HASHES`.
            max_distance: As of `lookup`.
            purpose: As of `lookup`.

        Returns:
            JSON objects; `index` counts from the first of these hashes.
        """
        path = bulk_path(max_distance=max_distance, purpose=purpose)
        raw = await self._transport.exchange(
            "POST", path, hashes, {"Content-Type": _BULK}
        )
        return [line for line in raw.split(b"\n") if line]

    async def lookup_image(
        self, data: bytes, *, content_type: str = "image/*"
    ) -> ImageAnswer:
        """Look a picture up by all its hashes, computed by the node. Scope `lookup`.

        Nothing of the picture is stored.

        Args:
            data: The file.
            content_type: What it is, if that is known.
        """
        raw = await self._transport.exchange(
            "POST", "/v1/lookup/image", data, {"Content-Type": content_type}
        )
        return decode_image_answer(raw)

    async def publish(
        self,
        list_name: str,
        records: Sequence[Mapping[str, object]],
        *,
        idempotency_key: str | None = None,
    ) -> tuple[str, ...]:
        """Publish records in a list of this node. Scope `publish`.

        All of them are in the signed log when this returns, or none is.

        Args:
            list_name: The list.
            records: 1 to 1,000 bodies, as docs/local-api.md shows them.
            idempotency_key: Of your own, if the call may be made again after this
                program was restarted; retries within the call are safe anyway.

        Returns:
            Their references, in order.
        """
        path = f"/v1/lists/{quote(list_name, safe='')}/records"
        return await self._publish(path, encode_records(records), idempotency_key)

    async def retract(
        self,
        ref: str,
        *,
        reason: Reason = "withdrawn",
        idempotency_key: str | None = None,
    ) -> str:
        """Take a record back: every follower stops matching it. Scope `publish`.

        Args:
            ref: Reference of the record.
            reason: Why.
            idempotency_key: As of `publish`.

        Returns:
            Reference of the entry that took it back.
        """
        return await self._withdraw("retract", ref, reason, idempotency_key)

    async def erase(
        self,
        ref: str,
        *,
        reason: Reason = "withdrawn",
        idempotency_key: str | None = None,
    ) -> str:
        """Take a record back and destroy its content everywhere. Scope `publish`.

        At this node it is gone when this returns.

        Args:
            ref: Reference of the record.
            reason: Why.
            idempotency_key: As of `publish`.

        Returns:
            Reference of the entry that erased it.
        """
        return await self._withdraw("erase", ref, reason, idempotency_key)

    async def opinion(
        self,
        ref: str,
        stance: Stance,
        *,
        signal_type: str | None = None,
        reason: str | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        """Say what we think of a record, to its owner too. Scope `feedback`.

        Args:
            ref: Reference of the record.
            stance: Whether we think that it is right.
            signal_type: If only one of its signals is meant.
            reason: One word, such as `not-abusive`.
            idempotency_key: As of `publish`.

        Returns:
            Reference of the opinion.
        """
        body = {"ref": ref, "stance": stance, "signal": signal_type, "reason": reason}
        raw = orjson.dumps({k: v for k, v in body.items() if v is not None})
        (made,) = await self._publish("/v1/opinions", raw, idempotency_key)
        return made

    async def sighting(
        self,
        ref: str,
        outcome: str,
        *,
        count: int,
        between: tuple[datetime, datetime],
        signal_type: str | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        """Say what a record led to on our service. Scope `feedback`.

        The node adds sightings up and publishes them together, once in a while.

        Args:
            ref: Reference of the record.
            outcome: One word, such as `matched` or `removed`.
            count: How often.
            between: The first time and the last, with their time zones.
            signal_type: The type of the signal that matched.
            idempotency_key: As of `publish`.

        Raises:
            ValueError: A time has no time zone.
        """
        body: dict[str, object] = {
            "ref": ref,
            "outcome": outcome,
            "count": count,
            "first_at": rfc3339(between[0]),
            "last_at": rfc3339(between[1]),
        }
        if signal_type is not None:
            body["signal"] = signal_type
        raw = orjson.dumps(body)
        await self._send_once("/v1/sightings", raw, idempotency_key)

    async def changes(
        self, *, after: str | None = None
    ) -> AsyncGenerator[Change, None]:
        """Follow what becomes live and what dies, as it happens. Scope `lookup`.

        Goes on for ever: a connection that ends is made again, and the feed goes on
        behind the last change that was given. Close it with `aclosing` or by ending
        the program.

        Args:
            after: `id` of the last change that is known already; "0" for everything
                that the node still knows, None to begin with the next one.

        Raises:
            ChangesLostError: The node no longer knows what changed since then.
        """
        async with aclosing(follow_changes(self._transport, after=after)) as feed:
            async for news in feed:
                if isinstance(news, Change):
                    yield news

    async def export(
        self, *, signal_type: str | None = None, list_name: str | None = None
    ) -> AsyncGenerator[ExportedSignal, None]:
        """Read all live signals with their records. Scope `audit`.

        It is not repeated if it breaks off: what was given cannot be taken back.

        Args:
            signal_type: Only signals of this type.
            list_name: Only records of this list: `<node>/<list>`, or the name of one of
                the node's own.
        """
        lines = self.export_lines(signal_type=signal_type, list_name=list_name)
        async with aclosing(lines):
            async for some in lines:
                for line in some:
                    yield decode_export(line)

    async def export_lines(
        self, *, signal_type: str | None = None, list_name: str | None = None
    ) -> AsyncGenerator[list[bytes], None]:
        """Read what `export` reads as the lines of JSON that the node sends.

        Yields:
            Some lines, as many as have arrived.
        """
        given = {"type": signal_type, "list": list_name}
        query = "&".join(
            f"{name}={quote(value, safe='')}" for name, value in given.items() if value
        )
        path = "/v1/export" + (f"?{query}" if query else "")
        silence = self._transport.timeout_seconds
        async with self._transport.stream(
            "GET", path, silence_seconds=silence
        ) as answer:
            async for some in read_lines(answer.content):
                yield some

    async def _look_up(
        self,
        queries: Sequence[bytes],
        *,
        max_distance: int | None = None,
        as_of: datetime | None = None,
        purpose: Purpose = "upload",
    ) -> Answer:
        return decode_answer(
            await self._ask(
                queries, max_distance=max_distance, as_of=as_of, purpose=purpose
            )
        )

    async def _ask(
        self,
        queries: Sequence[bytes],
        *,
        max_distance: int | None,
        as_of: datetime | None,
        purpose: Purpose,
    ) -> bytes:
        body = encode_lookup(
            queries, max_distance=max_distance, as_of=as_of, purpose=purpose
        )
        return await self._transport.exchange(
            "POST", "/v1/lookup", body, {"Content-Type": JSON}
        )

    async def _withdraw(
        self, kind: str, ref: str, reason: Reason, key: str | None
    ) -> str:
        path = f"/v1/lists/{quote(list_of(ref), safe='')}/{kind}"
        body = orjson.dumps({"ref": ref, "reason": reason})
        (made,) = await self._publish(path, body, key)
        return made

    async def _publish(
        self, path: str, body: bytes, key: str | None
    ) -> tuple[str, ...]:
        return decode_refs(await self._send_once(path, body, key))

    async def _send_once(self, path: str, body: bytes, key: str | None) -> bytes:
        # Without a key a repeated request could have its effect twice.
        sent = {
            "Content-Type": JSON,
            "Idempotency-Key": key or secrets.token_urlsafe(24),
        }
        return await self._transport.exchange("POST", path, body, sent)
