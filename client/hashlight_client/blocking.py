"""The same client for programs without asyncio, on an event loop in a thread."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import TYPE_CHECKING, Self, TypeVar, Unpack

from .client import AsyncClient
from .decoding import decode_export
from .errors import ClosedError
from .options import DEFAULT_BASE

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        Callable,
        Coroutine,
        Generator,
        Iterable,
        Mapping,
        Sequence,
    )
    from datetime import datetime
    from types import TracebackType
    from typing import Any

    from .options import Options
    from .values import (
        Answer,
        BulkMatch,
        Change,
        ExportedSignal,
        ImageAnswer,
        Purpose,
        Reason,
        Result,
        Signal,
        Stance,
    )

T = TypeVar("T")


class LoopThread:
    """An event loop that runs in a thread until it is closed."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._closed = False
        self._submitting = threading.Lock()
        self._thread.start()

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine there and wait for what it gives.

        Args:
            work: Makes the coroutine; not called once the thread is closed.

        Raises:
            ClosedError: The thread was closed.
        """
        with self._submitting:
            if self._closed:
                raise ClosedError
            future = asyncio.run_coroutine_threadsafe(work(), self._loop)
        try:
            return future.result()
        except CancelledError:
            raise ClosedError from None  # Another thread has closed it meanwhile.
        except BaseException:
            # Ctrl+C reaches the thread that waits; the work must not go on unseen.
            future.cancel()
            raise

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a last coroutine, then end the thread; a second time does nothing."""
        with self._submitting:
            if self._closed:
                return
            self._closed = True
        try:
            asyncio.run_coroutine_threadsafe(last(), self._loop).result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        # Threads that still wait for an answer must not wait for ever.
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())


class Client:
    """One node's local API, for programs without asyncio.

    Every method does what the method of the same name of `AsyncClient` does, and any
    number of threads may call it. Made after a fork, not before. Use it with `with`.

    Args:
        base: As of `AsyncClient`.
        token: As of `AsyncClient`.
        options: See `Options`; `batch_seconds` joins the calls of all threads.

    Raises:
        ValueError: `base` is no address of a node.
    """

    def __init__(
        self,
        base: str = DEFAULT_BASE,
        *,
        token: str,
        **options: Unpack[Options],
    ) -> None:
        self._adopt(AsyncClient(base, token=token, **options))

    def _adopt(self, client: AsyncClient) -> None:
        """Become the face of a client."""
        self._client = client
        self._thread = LoopThread("hashlight-client")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Get ready; of this client nothing has to be, of others a copy is loaded."""
        self._thread.run(self._client.start)

    def close(self) -> None:
        """Close all connections and end the thread."""
        self._thread.close(self._client.close)

    def lookup(
        self,
        signal: Signal | str,
        *,
        max_distance: int | None = None,
        as_of: datetime | None = None,
        purpose: Purpose = "upload",
    ) -> Result:
        """Look one signal up. Scope `lookup`."""
        return self._thread.run(
            lambda: self._client.lookup(
                signal, max_distance=max_distance, as_of=as_of, purpose=purpose
            )
        )

    def lookup_many(
        self,
        signals: Iterable[Signal | str],
        *,
        max_distance: int | None = None,
        as_of: datetime | None = None,
        purpose: Purpose = "upload",
    ) -> Answer:
        """Look signals up, any number. Scope `lookup`."""
        known = list(signals)  # Here: the caller's iterator may block.
        return self._thread.run(
            lambda: self._client.lookup_many(
                known, max_distance=max_distance, as_of=as_of, purpose=purpose
            )
        )

    def lookup_json(
        self,
        signals: Sequence[Signal],
        *,
        max_distance: int | None = None,
        purpose: Purpose = "upload",
    ) -> list[dict[str, Any]]:
        """Look signals up and give the node's own words, to pass them on."""
        return self._thread.run(
            lambda: self._client.lookup_json(
                signals, max_distance=max_distance, purpose=purpose
            )
        )

    def lookup_pdq(
        self,
        hashes: bytes,
        *,
        max_distance: int | None = None,
        purpose: Purpose = "upload",
    ) -> list[BulkMatch]:
        """Look PDQ hashes up by the fastest way, any number. Scope `lookup`."""
        return self._thread.run(
            lambda: self._client.lookup_pdq(
                hashes, max_distance=max_distance, purpose=purpose
            )
        )

    def lookup_pdq_lines(
        self,
        hashes: bytes,
        *,
        max_distance: int | None = None,
        purpose: Purpose = "upload",
    ) -> list[bytes]:
        """Do one bulk lookup and give the lines as they come."""
        return self._thread.run(
            lambda: self._client.lookup_pdq_lines(
                hashes, max_distance=max_distance, purpose=purpose
            )
        )

    def lookup_image(
        self, data: bytes, *, content_type: str = "image/*"
    ) -> ImageAnswer:
        """Look a picture up by all its hashes. Scope `lookup`."""
        return self._thread.run(
            lambda: self._client.lookup_image(data, content_type=content_type)
        )

    def publish(
        self,
        list_name: str,
        records: Sequence[Mapping[str, object]],
        *,
        idempotency_key: str | None = None,
    ) -> tuple[str, ...]:
        """Publish records in a list of this node. Scope `publish`."""
        return self._thread.run(
            lambda: self._client.publish(
                list_name, records, idempotency_key=idempotency_key
            )
        )

    def retract(
        self,
        ref: str,
        *,
        reason: Reason = "withdrawn",
        idempotency_key: str | None = None,
    ) -> str:
        """Take a record back. Scope `publish`."""
        return self._thread.run(
            lambda: self._client.retract(
                ref, reason=reason, idempotency_key=idempotency_key
            )
        )

    def erase(
        self,
        ref: str,
        *,
        reason: Reason = "withdrawn",
        idempotency_key: str | None = None,
    ) -> str:
        """Take a record back and destroy its content everywhere. Scope `publish`."""
        return self._thread.run(
            lambda: self._client.erase(
                ref, reason=reason, idempotency_key=idempotency_key
            )
        )

    def opinion(
        self,
        ref: str,
        stance: Stance,
        *,
        signal_type: str | None = None,
        reason: str | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        """Say what we think of a record. Scope `feedback`."""
        return self._thread.run(
            lambda: self._client.opinion(
                ref,
                stance,
                signal_type=signal_type,
                reason=reason,
                idempotency_key=idempotency_key,
            )
        )

    def sighting(
        self,
        ref: str,
        outcome: str,
        *,
        count: int,
        between: tuple[datetime, datetime],
        signal_type: str | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        """Say what a record led to on our service. Scope `feedback`."""
        self._thread.run(
            lambda: self._client.sighting(
                ref,
                outcome,
                count=count,
                between=between,
                signal_type=signal_type,
                idempotency_key=idempotency_key,
            )
        )

    def changes(self, *, after: str | None = None) -> Generator[Change, None, None]:
        """Follow what becomes live and what dies, as it happens. Scope `lookup`."""
        return self._iterate(lambda: self._client.changes(after=after))

    def export(
        self, *, signal_type: str | None = None, list_name: str | None = None
    ) -> Generator[ExportedSignal, None, None]:
        """Read all live signals with their records. Scope `audit`."""
        # Decoded here, and not one by one over there: a turn for each costs more.
        for some in self.export_lines(signal_type=signal_type, list_name=list_name):
            for line in some:
                yield decode_export(line)

    def export_lines(
        self, *, signal_type: str | None = None, list_name: str | None = None
    ) -> Generator[list[bytes], None, None]:
        """Read what `export` reads as the lines of JSON that the node sends."""
        return self._iterate(
            lambda: self._client.export_lines(
                signal_type=signal_type, list_name=list_name
            )
        )

    def _iterate(
        self, make: Callable[[], AsyncGenerator[T, None]]
    ) -> Generator[T, None, None]:
        items = make()

        async def following() -> T:
            return await anext(items)

        async def end() -> None:
            await items.aclose()

        try:
            while True:
                try:
                    item = self._thread.run(following)
                except StopAsyncIteration:
                    return
                yield item
        finally:
            with suppress(ClosedError):  # Which has ended it already.
                self._thread.run(end)
