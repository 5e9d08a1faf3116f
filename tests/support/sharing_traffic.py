"""Publishes, withdraws and looks up while processes of a node come and go."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, TypeVar, cast

from hashlight_node.local_client import (
    LocalClient,
    NodeUnreachableError,
    ProblemError,
    path_of,
)
from support.companies import head, matches, matches_of_all, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashlight_node.demo.company import Company
    from hashlight_node.local_client import Json
    from support.sharing import Sharing

T = TypeVar("T")


LIST = "ncii"


ORIGIN = f"shield.example/hsf/v1/log/{LIST}/1"


BOUND_SECONDS = 5.0
"""What docs/operating.md promises of every process."""


UNREACHED = ("ConnectionRefusedError",)


CUT_OFF = (
    *UNREACHED,
    *("ConnectionResetError", "BrokenPipeError"),
    *("RemoteDisconnected", "IncompleteRead"),
)


def publish(client: LocalClient, md5: str, key: str | None = None) -> str:
    return publish_to(client, LIST, md5, key)


def publish_to(
    client: LocalClient, list_name: str, md5: str, key: str | None = None
) -> str:
    record: Json = {
        "type": "indicator",
        "kind": "image",
        "signals": [{"type": "md5", "value": md5}],
        "source": "hotline",
        "created": "2026-11-01T00:00:00Z",
    }
    answer = client.post(
        path_of("lists", list_name, "records"),
        {"records": [record]},
        idempotency_key=key,
    )
    (ref,) = cast("list[str]", answer["refs"])
    return ref


def retract(client: LocalClient, ref: str) -> None:
    client.post(path_of("lists", LIST, "retract"), {"ref": ref, "reason": "withdrawn"})


def excuse(
    error: NodeUnreachableError | ProblemError, excused: tuple[str, ...]
) -> None:
    """Check that a request may fail as it did.

    Args:
        error: How it did.
        excused: What may go wrong at a connection, and `503` if that may be answered.
    """
    if isinstance(error, ProblemError):
        assert str(error.status) in excused, error.problem
    else:
        assert any(name in str(error) for name in excused), str(error)


def insist(
    sharing: Sharing, ask: Callable[[LocalClient], T], excused: tuple[str, ...]
) -> T:
    """Ask one process after the other until one answers, as a service would.

    Args:
        sharing: Whom.
        ask: The request; one that may be repeated.
        excused: As of `excuse`.
    """
    give_up_at = time.monotonic() + 60
    while True:
        try:
            return ask(sharing.client())
        except (NodeUnreachableError, ProblemError) as error:
            excuse(error, excused)
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def follow(sharing: Sharing, peer: Company) -> Company:
    """Have a node of another company follow the list `ncii`, which is made."""
    one = sharing.processes[0]
    one.client.post("/v1/peers", {"base": peer.base, "vkey": peer.vkey})
    peer.client.post("/v1/peers", {"base": one.base, "vkey": one.vkey})
    one.client.post("/v1/lists", {"name": LIST})
    one.client.post("/v1/grants", {"peer": peer.name, "list": LIST})
    peer.client.post("/v1/follows", {"peer": one.name, "list": LIST})
    return peer


@dataclass
class Traffic:
    """Publishes, withdraws and looks up without a pause, and checks every answer.

    Attributes:
        sharing: Whom it asks.
        excused: As of `insist`.
        published: When each was acknowledged, by its MD5.
        withdrawn: The same, of what was taken back.
        slowest: Time that each write took.
        wrong: Answers that nobody may give.
        asked: Requests that were answered.
    """

    sharing: Sharing
    excused: tuple[str, ...]
    published: dict[str, float] = field(default_factory=dict)
    withdrawn: dict[str, float] = field(default_factory=dict)
    slowest: float = 0
    wrong: list[str] = field(default_factory=list)
    asked: int = 0
    failures: list[BaseException] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        for work in (self._write, self._look_up):
            thread = threading.Thread(target=self._run, args=(work,))
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def has_published(self, count: int) -> bool:
        return len(self.published) >= count or bool(self.failures)

    def _run(self, work: Callable[[], None]) -> None:
        try:
            while not self._ending.is_set():
                work()
        except BaseException as error:  # noqa: BLE001 -- for the test to raise
            self.failures.append(error)

    def _write(self) -> None:
        md5, key = secrets.token_hex(16), secrets.token_hex(8)
        began = time.monotonic()
        ref = insist(self.sharing, lambda to: publish(to, md5, key), self.excused)
        self.published[md5] = time.monotonic()
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.asked += 1
        if len(self.published) % 3 == 0:
            insist(self.sharing, lambda to: retract(to, ref), self.excused)
            self.withdrawn[md5] = time.monotonic()
            self.asked += 1
        time.sleep(0.05)

    def _look_up(self) -> None:
        began = time.monotonic()
        withdrawn = [it for it, at in list(self.withdrawn.items()) if at < began]
        live = [
            it
            for it, at in list(self.published.items())[-60:]
            if at + BOUND_SECONDS < began and it not in self.withdrawn
        ]
        withdrawn = withdrawn[-20:]
        signals = [f"md5:{it}" for it in (*withdrawn, *live)]
        process = self.sharing.processes[self.asked % len(self.sharing.processes)]
        try:
            found = matches_of_all(process, signals) if signals else []
        except (NodeUnreachableError, ProblemError) as error:
            excuse(error, self.excused)
            return
        self.asked += 1
        answers = list(zip(signals, found, strict=True))
        for number, (asked, records) in enumerate(answers):
            if number < len(withdrawn) and records:
                self.wrong.append(f"{asked} was withdrawn and matches")
            # Withdrawn meanwhile, perhaps.
            is_live = asked.removeprefix("md5:") not in self.withdrawn
            if number >= len(withdrawn) and not records and is_live:
                self.wrong.append(f"{asked} was published and does not match")
        time.sleep(0.02)


def check_in_the_end(sharing: Sharing, peer: Company, traffic: Traffic) -> None:
    """Check that nothing is lost, nothing is there twice, and the peer agrees."""
    assert not traffic.failures, traffic.failures
    assert not traffic.wrong
    leader = sharing.leader()
    size = 1 + len(traffic.published) + len(traffic.withdrawn)
    until(lambda: head(peer, ORIGIN) == head(leader, ORIGIN), seconds=60)
    # More would be a record that was written twice.
    assert head(leader, ORIGIN)[0] == size
    for company in (*sharing.processes, peer):
        for md5 in traffic.published:
            expected = 0 if md5 in traffic.withdrawn else 1
            assert len(matches(company, f"md5:{md5}")) == expected
    status = peer.client.get("/v1/status")
    (row,) = cast("list[Json]", status["lists"])
    assert row["state"] == "active"
