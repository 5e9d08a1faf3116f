"""The asynchronous client for commands that move much; its errors as the others'."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from hashlight_node.cli.session import CommandError
from hashlight_node.local_client import NodeUnreachableError, ProblemError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hashlight_client import AsyncClient
    from hashlight_node.local_client import LocalClient

CONNECTIONS = 4
"""Requests of one command at the same time: others want to ask as well."""


def open_client(local: LocalClient, *, patience_seconds: float) -> AsyncClient:
    """Make a client of the same node.

    Args:
        local: Says where the node is.
        patience_seconds: How long it may be away, for example restarting.
    """
    from hashlight_client import AsyncClient, Retries

    return AsyncClient(
        f"http://{local.address}",
        token=local.token,
        timeout_seconds=120.0,
        retries=Retries(patience_seconds=patience_seconds),
        connections=CONNECTIONS,
    )


@contextmanager
def translated(local: LocalClient) -> Iterator[None]:
    """Turn the client's errors into those that every command reports.

    Raises:
        NodeUnreachableError: Nothing answers.
        ProblemError: The node refused.
        CommandError: What answers is no node.
    """
    import hashlight_client as client

    try:
        yield
    except client.NodeUnreachableError as error:
        reason = "or it broke off; tried for a while"
        raise NodeUnreachableError(local.address, reason) from error
    except client.ProblemError as error:
        raise ProblemError(error.status, dict(error.problem)) from error
    except client.HashlightError as error:
        raise CommandError(str(error)) from error
