"""Where row groups are scanned: processes of this machine, or a Dask cluster."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Future,
    ProcessPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol

from typing_extensions import override

from hashlight_client.row_groups import forget_index, scan_with
from hashlight_node.cli.session import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

    from hashlight_client.row_groups import Query, RowGroup
    from hashlight_client.taking import Snapshot

DASK_MISSING: Final = "Dask is not installed: pip install 'hashlight[dask]'"

_IDLE_ATTEMPTS: Final = 3
"""How often work is given out again although nothing of it got done."""

_AHEAD: Final = 2
"""Row groups for each worker, so that it need not wait for the next."""

_SCHEDULER_SECONDS: Final = 10.0
_WORKERS_SECONDS: Final = 30.0


class Engine(Protocol):
    """Scans row groups somewhere, each until it is done."""

    def run(
        self, groups: Mapping[int, RowGroup], query: Query
    ) -> Iterator[tuple[int, pa.Table | str]]:
        """Scan row groups, in any order.

        Yields:
            The number of a group, and what `scan_with` gave for it; each once.

        Raises:
            CommandError: Workers die again and again, or cannot be reached.
        """


class LostWorkersError(Exception):
    """Workers died with what they had; what is not done is to be given out again."""


class _Persistent:
    """Gives work out again when workers died with it."""

    def run(
        self, groups: Mapping[int, RowGroup], query: Query
    ) -> Iterator[tuple[int, pa.Table | str]]:
        left = dict(groups)
        idle = 0
        while left:
            before = len(left)
            try:
                for number, found in self._run_once(dict(left), query):
                    del left[number]
                    yield number, found
            except LostWorkersError:
                idle = idle + 1 if len(left) == before else 0
                if idle >= _IDLE_ATTEMPTS:
                    message = (
                        "workers died again and again, perhaps for want of memory; "
                        "what is done is kept, run the same command again"
                    )
                    raise CommandError(message) from None

    def _run_once(
        self, groups: Mapping[int, RowGroup], query: Query
    ) -> Iterator[tuple[int, pa.Table | str]]:
        raise NotImplementedError


class LocalEngine(_Persistent):
    """A pool of processes, each with an index of its own.

    They are not forked: threads of Arrow in the parent can leave locks that a child
    waits for without end.

    Args:
        snapshot: What is live.
        processes: How many.
    """

    def __init__(self, snapshot: Snapshot, processes: int) -> None:
        self._snapshot = snapshot
        self._processes = processes

    @override
    def _run_once(
        self, groups: Mapping[int, RowGroup], query: Query
    ) -> Iterator[tuple[int, pa.Table | str]]:
        pool = ProcessPoolExecutor(
            self._processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_adopt,
            initargs=(self._snapshot,),
        )
        try:
            waiting = iter(groups.items())
            running: dict[Future[pa.Table | str], int] = {}
            while True:
                for number, group in islice(
                    waiting, self._processes * _AHEAD - len(running)
                ):
                    running[pool.submit(_scan_here, group, query)] = number
                if not running:
                    return
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(done), done.result()
        except BrokenProcessPool:
            raise LostWorkersError from None
        finally:
            pool.shutdown(cancel_futures=True)


_snapshot: Snapshot | None = None


def _adopt(snapshot: Snapshot) -> None:
    global _snapshot  # noqa: PLW0603 -- a worker of the pool has one snapshot
    _snapshot = snapshot
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A command that is killed must not leave workers behind that hold its memory.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _scan_here(group: RowGroup, query: Query) -> pa.Table | str:
    assert _snapshot is not None  # noqa: S101 -- the pool has called `_adopt`
    return scan_with(_snapshot, group, query)


class DaskEngine(_Persistent):
    """A Dask cluster that somebody runs.

    Its workers need hashlight and the scanned files under the same paths.

    Args:
        snapshot: What is live; every worker is sent it once.
        scheduler: Its address, such as `tcp://10.0.0.5:8786`.

    Raises:
        CommandError: Dask is not installed.
    """

    def __init__(self, snapshot: Snapshot, scheduler: str) -> None:
        try:
            import distributed
        except ImportError:
            raise CommandError(DASK_MISSING) from None
        self._dask: Any = distributed  # its functions have no types
        self._snapshot = snapshot
        self._scheduler = scheduler

    @override
    def _run_once(
        self, groups: Mapping[int, RowGroup], query: Query
    ) -> Iterator[tuple[int, pa.Table | str]]:
        with self._connect() as client:
            try:
                yield from self._scan(client, groups, query)
            except (CancelledError, self._dask.KilledWorker):
                raise LostWorkersError from None
            except (self._dask.comm.CommClosedError, OSError) as error:
                message = f"the Dask scheduler {self._scheduler} went away"
                raise CommandError(message) from error
            finally:
                # Erased values must not stay in workers that live on.
                with suppress(Exception):
                    client.run(forget_index, on_error="ignore")

    def _connect(self) -> Any:  # noqa: ANN401 -- has no types
        try:
            client = self._dask.Client(
                self._scheduler, timeout=_SCHEDULER_SECONDS, set_as_default=False
            )
        except (OSError, ValueError) as error:
            message = f"no Dask scheduler answers at {self._scheduler}"
            raise CommandError(message) from error
        try:
            client.wait_for_workers(1, timeout=_WORKERS_SECONDS)
        except TimeoutError as error:
            client.close()
            message = f"the Dask scheduler {self._scheduler} has no workers"
            raise CommandError(message) from error
        return client

    def _scan(
        self,
        client: Any,  # noqa: ANN401 -- has no types
        groups: Mapping[int, RowGroup],
        query: Query,
    ) -> Iterator[tuple[int, pa.Table | str]]:
        # To all of them now: a worker that dies takes no only copy with it.
        snapshot = client.scatter(self._snapshot, broadcast=True, hash=False)
        waiting = iter(groups.items())
        numbers: dict[Any, int] = {}

        def more(count: int) -> list[Any]:
            made = []
            for number, group in islice(waiting, count):
                future = client.submit(scan_with, snapshot, group, query, pure=False)
                numbers[future] = number
                made.append(future)
            return made

        slots = sum(client.nthreads().values())
        running = self._dask.as_completed(more(slots * _AHEAD), loop=client.loop)
        for future in running:
            found = future.result()
            yield numbers.pop(future), found
            for added in more(1):
                running.add(added)
