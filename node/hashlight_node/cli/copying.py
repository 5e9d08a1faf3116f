"""Shows how far copies of lists are while a command waits for them."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, cast

from hashlight_node.cli.progress import Progress
from hashlight_node.local_client import NodeUnreachableError, ProblemError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashlight_node.local_client import Json, LocalClient

_LOOK_SECONDS = 0.5


def watched(client: LocalClient, work: Callable[[], Json], *, quiet: bool) -> Json:
    """Have the node do something, and show meanwhile how far its copies are.

    Args:
        client: Asks the node.
        work: Waits for the node's answer.
        quiet: Show nothing.

    Returns:
        What `work` returns.
    """
    if quiet:
        return work()
    done = threading.Event()
    showing = threading.Thread(target=_show_until, args=(client, done), daemon=True)
    showing.start()
    try:
        return work()
    finally:
        done.set()
        showing.join()


def wait_for_copy(
    client: LocalClient, peer: str, list_name: str, *, quiet: bool
) -> Json:
    """Wait until a list that is followed was copied whole once, showing how far it is.

    Returns:
        The follow, as the node shows it then; if its error has ended the wait, that is
        in it.
    """

    def wait() -> Json:
        while True:
            follow = _find_follow(client, peer, list_name)
            if follow["synced_at"] is not None or follow["error"] is not None:
                return follow
            time.sleep(_LOOK_SECONDS)

    return watched(client, wait, quiet=quiet)


def _find_follow(client: LocalClient, peer: str, list_name: str) -> Json:
    follows = client.get_all("/v1/follows", "follows")
    (follow,) = (it for it in follows if (it["peer"], it["list"]) == (peer, list_name))
    return follow


def _show_until(client: LocalClient, done: threading.Event) -> None:
    progress: Progress | None = None
    while not done.wait(_LOOK_SECONDS):
        try:
            copies = _copies(client)
        except (NodeUnreachableError, ProblemError):
            continue  # Whoever waits for the answer is told.
        size, target = (sum(map(int, sizes)) for sizes in zip(*copies, strict=True))
        if target and progress is None:
            progress = Progress("copying", target, done=size)
            progress.__enter__()
        if target and progress is not None:
            progress.show(size)
    if progress is not None:
        progress.__exit__(None, None, None)


def _copies(client: LocalClient) -> list[tuple[int, int]]:
    """Give of each copy under way how many entries there are, and will be."""
    lists = cast("list[Json]", client.get("/v1/status")["lists"])
    found = [cast("Json | None", row["copying"]) for row in lists]
    sizes = [
        (cast("int", it["size"]), cast("int", it["target_size"]))
        for it in found
        if it is not None
    ]
    return sizes or [(0, 0)]
