"""Asks a Hashlight node from Python: is this known, and what does policy say to do?

    from hashlight_client import Client

    with Client(token=token) as node:
        result = node.lookup("pdq:f8f8f0ce…")
        if result.handling == "block":
            ...

`AsyncClient` is the same for asyncio. Both repeat what fails for a passing reason, and
send concurrent lookups together if asked to. `InProcessClient` keeps all live signals
in this process and answers in microseconds that nothing is known, which is the answer
to nearly every upload; whatever might match it asks the node.
"""

from typing import TYPE_CHECKING

from .blocking import Client
from .client import AsyncClient
from .errors import (
    BadAnswerError,
    ChangesLostError,
    ClosedError,
    HashlightError,
    NodeUnreachableError,
    ProblemError,
)
from .options import DEFAULT_BASE, Options
from .retrying import Retries
from .values import (
    Answer,
    BulkMatch,
    Change,
    ExportedSignal,
    Handling,
    ImageAnswer,
    ImageHashes,
    Label,
    ListState,
    Match,
    Opinion,
    Purpose,
    Reason,
    Record,
    Result,
    Signal,
    Stance,
)

if TYPE_CHECKING:
    from .in_process import AsyncInProcessClient, InProcessClient

__all__ = [
    "DEFAULT_BASE",
    "Answer",
    "AsyncClient",
    "AsyncInProcessClient",
    "BadAnswerError",
    "BulkMatch",
    "Change",
    "ChangesLostError",
    "Client",
    "ClosedError",
    "ExportedSignal",
    "Handling",
    "HashlightError",
    "ImageAnswer",
    "ImageHashes",
    "InProcessClient",
    "Label",
    "ListState",
    "Match",
    "NodeUnreachableError",
    "Opinion",
    "Options",
    "ProblemError",
    "Purpose",
    "Reason",
    "Record",
    "Result",
    "Retries",
    "Signal",
    "Stance",
]

_IN_PROCESS = frozenset({"AsyncInProcessClient", "InProcessClient"})


def __getattr__(name: str) -> object:
    """Load the clients that need numpy and the index when they are asked for."""
    if name not in _IN_PROCESS:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from . import in_process  # noqa: PLC0415 -- others do not pay for it

    return getattr(in_process, name)
