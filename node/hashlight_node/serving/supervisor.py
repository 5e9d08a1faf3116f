"""The process that starts the others, starts workers anew, and stops all in order.

It has one thread and no event loop, because it forks for as long as it runs. Signals
wait until it asks for them. Its children hold a pipe of which only it has the other
end: if it is killed, they notice and stop by themselves.
"""

from __future__ import annotations

import asyncio
import gc
import mmap
import os
import select
import signal
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from hashlight_node.app import Behind, load_memory
from hashlight_node.config import SettingsError, split_address
from hashlight_node.keys import KeyFileError
from hashlight_node.last_signed import LastSignedError
from hashlight_node.matching.flood import BUFFER_BYTES, prepare_counts
from hashlight_node.observability import configure_logging
from hashlight_node.store.backends import file_beside
from hashlight_node.store.database import Reader
from hashlight_node.store.errors import StoreError

from .running import STOP, Inherited, announce, run_alone, run_behind_workers
from .sockets import (
    close_all,
    listen_inside,
    private_directory,
    remove_left_behind,
    reserve,
)
from .worker import run_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashlight_node.app import Memory
    from hashlight_node.config import Settings

_WAKING: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})

_POLL_SECONDS: Final = 0.1
_IDLE_SECONDS: Final = 60.0

DRAIN_SECONDS: Final = 30.0
"""Longer than any process takes to stop by its own rules."""

_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 30.0
_GOOD_LIFE_SECONDS: Final = 60.0
"""A worker that lived so long is started anew at once."""

_log = structlog.get_logger()


def serve(settings: Settings, *, drain_seconds: float = DRAIN_SECONDS) -> None:
    """Run a node until SIGTERM or SIGINT, with as many workers as the settings say.

    Args:
        settings: The node's.
        drain_seconds: Time that workers, and then the node behind them, have to finish
            what they began; what still runs after it is killed.

    Raises:
        KeyFileError: The keys cannot be used as they are (without workers only).
        StoreError: The database cannot.
        OSError: An address cannot be bound.
        SystemExit: Something ended that should not; the log says what.
    """
    if not settings.local.workers:
        run_alone(settings)
        return
    configure_logging(settings.logging.level)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WAKING)
    try:
        with ExitStack() as stack:
            code = _Supervisor(settings, stack, drain_seconds).run()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if code:
        sys.exit(code)


@dataclass(slots=True)
class _Slot:
    """A place for a worker.

    Attributes:
        number: From 1; what metrics call it.
        pid: Of the process, None while there is none.
        started_at: When it was started, on the monotonic clock.
        failures: Starts in a row that did not last.
        due_at: When to start it again.
    """

    number: int
    pid: int | None = None
    started_at: float = 0.0
    failures: int = 0
    due_at: float = 0.0


class _Stopped(Exception):  # noqa: N818 -- nothing went wrong
    """We were told to stop while starting."""


class _Supervisor:
    def __init__(
        self, settings: Settings, stack: ExitStack, drain_seconds: float
    ) -> None:
        self._drain_seconds = drain_seconds
        self._slots = [_Slot(number + 1) for number in range(settings.local.workers)]
        self._alive, self._lifeline = os.pipe()
        self._node: int | None = None
        self._exit_code = 0
        memory = asyncio.run(_load(settings))
        reserved = reserve(*split_address(settings.local.listen))
        stack.callback(close_all, reserved)
        store = settings.store
        data = file_beside(store.url, store.directory, "index").parent
        directory = stack.enter_context(private_directory(data))
        inside = listen_inside(directory / "node")
        stack.callback(inside.close)
        flood_counts = mmap.mmap(-1, BUFFER_BYTES)
        prepare_counts(flood_counts)
        self._shared = Inherited(
            settings=settings,
            memory=memory,
            flood_counts=flood_counts,
            reserved=reserved,
            inside=inside,
            directory=directory,
            alive=self._alive,
        )

    def run(self) -> int:
        """Start everything, watch over it, stop it; give the node's exit status."""
        _settle()
        try:
            self._start_node()
            if not self._shared.settings.store.shared_at:
                remove_left_behind(self._shared.directory)
            for slot in self._slots:
                self._start_worker(slot, wait=True)
            announce(self._shared.settings)
            self._watch()
        except _Stopped:
            pass
        finally:
            self._stop()
        return self._exit_code

    # Starting

    def _start_node(self) -> None:
        shared = self._shared
        behind = Behind(
            local=shared.inside,
            memory=shared.memory,
            flood_counts=shared.flood_counts,
            counters={
                str(slot.number): shared.counter_path(slot.number)
                for slot in self._slots
            },
        )
        self._node, ready = self._fork(partial(run_behind_workers, shared, behind))
        self._wait_for(ready)

    def _start_worker(self, slot: _Slot, *, wait: bool) -> None:
        # Its socket is left behind if it was killed.
        self._shared.counter_path(slot.number).unlink(missing_ok=True)
        slot.started_at = time.monotonic()
        slot.pid, ready = self._fork(partial(run_worker, self._shared, slot.number))
        if not wait:
            os.close(ready)
            return
        self._wait_for(ready)
        # At the very start an end is no accident; without workers nobody answers.
        if slot.failures:
            self._exit_code = 1
            raise _Stopped

    def _fork(self, target: Callable[[Callable[[], None]], None]) -> tuple[int, int]:
        """Start a process; give its id and a pipe that tells when it is ready."""
        ready, say_ready = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            os.close(say_ready)
            return pid, ready
        os.close(ready)
        os.close(self._lifeline)
        _run_child(target, say_ready)
        raise AssertionError  # pragma: no cover -- it does not return

    def _wait_for(self, ready: int) -> None:
        """Wait until a process is ready.

        Raises:
            _Stopped: We were told to stop, or the process has ended.
        """
        try:
            while not select.select([ready], [], [], _POLL_SECONDS)[0]:
                self._handle(signal.sigtimedwait(_WAKING, 0))
                self._check_node()
            if not os.read(ready, 1):
                # It ended; what it was tells what that means.
                self._handle(signal.sigtimedwait(_WAKING, _POLL_SECONDS))
                self._reap()
                self._check_node()
        finally:
            os.close(ready)

    # Watching

    def _watch(self) -> None:
        while True:
            self._handle(signal.sigtimedwait(_WAKING, self._seconds_to_wait()))
            self._check_node()
            now = time.monotonic()
            for slot in self._slots:
                if slot.pid is None and slot.due_at <= now:
                    self._start_worker(slot, wait=False)

    def _seconds_to_wait(self) -> float:
        due = [slot.due_at for slot in self._slots if slot.pid is None]
        return max(0.0, min(due) - time.monotonic()) if due else _IDLE_SECONDS

    def _check_node(self) -> None:
        if self._node is None:
            raise _Stopped

    def _handle(self, received: signal.struct_siginfo | None) -> None:
        if received is None:
            return
        if received.si_signo != signal.SIGCHLD:
            raise _Stopped
        self._reap()

    def _reap(self) -> None:
        while (ended := _next_ended()) is not None:
            pid, code = ended
            if pid == self._node:
                self._node = None
                self._exit_code = code
                return
            for slot in self._slots:
                if slot.pid == pid:
                    self._note_end(slot, code)

    def _note_end(self, slot: _Slot, code: int) -> None:
        now = time.monotonic()
        lasted = now - slot.started_at >= _GOOD_LIFE_SECONDS
        slot.failures = 0 if lasted else slot.failures + 1
        pause = _FIRST_PAUSE_SECONDS * 2 ** min(slot.failures, 16)
        slot.pid = None
        slot.due_at = now + min(pause, _LONGEST_PAUSE_SECONDS)
        _log.error(
            "worker has ended and is started anew", count=slot.number, status=code
        )

    # Stopping

    def _stop(self) -> None:
        """Stop workers first: what they passed on, the node must still answer."""
        self._end([slot.pid for slot in self._slots if slot.pid is not None])
        if self._node is not None:
            codes = self._end([self._node])
            # What made us stop counts for more than that the node then did so well.
            self._exit_code = self._exit_code or codes[self._node]
        os.close(self._lifeline)
        os.close(self._alive)

    def _end(self, pids: list[int]) -> dict[int, int]:
        """Stop processes and wait for them; a second signal ends them at once."""
        for pid in pids:
            os.kill(pid, STOP)
        codes: dict[int, int] = {}
        deadline = time.monotonic() + self._drain_seconds
        while left := [pid for pid in pids if pid not in codes]:
            received = signal.sigtimedwait(_WAKING, _POLL_SECONDS)
            is_told_again = received and received.si_signo != signal.SIGCHLD
            if is_told_again or time.monotonic() > deadline:
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
            while (ended := _next_ended()) is not None:
                codes[ended[0]] = ended[1]
        return codes


async def _load(settings: Settings) -> Memory:
    """Read what is live, and let go of the database: it must not be open at a fork."""
    database = Reader.open_reader(settings.store.url)
    try:
        return await load_memory(settings, database)
    finally:
        await database.close()


def _settle() -> None:
    """Wait until no other thread runs, and let children share what is in memory."""
    while threading.active_count() > 1:
        time.sleep(_POLL_SECONDS)
    gc.collect()
    # Counting references writes to pages; the collector need not do so as well.
    gc.freeze()


def _next_ended() -> tuple[int, int] | None:
    """Give id and exit status of a child that has ended; None if there is none."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    if not pid:
        return None
    code = os.waitstatus_to_exitcode(status)
    return pid, code if code >= 0 else 128 - code


def _run_child(target: Callable[[Callable[[], None]], None], say_ready: int) -> None:
    """Do what a child is for, and end; nothing of the supervisor's is run after it."""

    def ready() -> None:
        with suppress(BrokenPipeError):  # Nobody waits for a worker started anew.
            os.write(say_ready, b"1")
        os.close(say_ready)

    # Others send these to all of us; the supervisor alone acts on them.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAKING)
    code = 1
    try:
        target(ready)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except (
        SettingsError,
        KeyFileError,
        LastSignedError,
        StoreError,
        OSError,
    ) as error:
        # For the operator, in words that a node without workers would end with.
        sys.stderr.write(f"Error: {error}\n")
    except Exception:  # noqa: BLE001 -- above a child there is nobody who would tell
        _log.exception("process ends by a mistake of ours")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
