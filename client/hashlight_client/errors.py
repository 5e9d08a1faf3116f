"""What a call to a node can end with.

    HashlightError
    ├── NodeUnreachableError   nothing answered in time, or the answer broke off
    ├── ProblemError           the node refused and said why
    ├── BadAnswerError         what answered is no node that this client understands
    ├── ChangesLostError       the feed of changes does not reach back far enough
    └── ClosedError            the client was closed

No message holds a token or a value that was looked up.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class HashlightError(Exception):
    """A call did not succeed; only subclasses are raised."""


class NodeUnreachableError(HashlightError):
    """Nothing answered in time, or the answer broke off, until patience ended.

    Attributes:
        base: Where the node was looked for.
    """

    def __init__(self, base: str, reason: str) -> None:
        super().__init__(f"no node answers at {base} ({reason})")
        self.base = base


class ProblemError(HashlightError):
    """The node refused a request and said why (RFC 9457).

    Attributes:
        status: HTTP status.
        code: Stable code of the problem, without the `hsf:` prefix.
        problem: The whole problem document.
        retry_after_seconds: When to try again, if the node said so.
    """

    def __init__(
        self,
        status: int,
        problem: Mapping[str, Any],
        retry_after_seconds: float | None = None,
    ) -> None:
        self.status = status
        self.problem = problem
        self.code = str(problem.get("type", "about:blank")).removeprefix("hsf:")
        self.retry_after_seconds = retry_after_seconds
        title = str(problem.get("title", _phrase(status)))
        detail = problem.get("detail")
        super().__init__(f"{title}: {detail}" if detail else title)


class BadAnswerError(HashlightError):
    """An answer is not what a node gives; the address may be another program's."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the answer is not a node's: {reason}")


class ChangesLostError(HashlightError):
    """The node no longer knows what changed since then; load the snapshot anew.

    Attributes:
        after: Id of the last change that was seen.
    """

    def __init__(self, after: str | None) -> None:
        super().__init__("the node no longer knows what changed since then")
        self.after = after


class ClosedError(HashlightError):
    """The client was closed."""

    def __init__(self) -> None:
        super().__init__("this client is closed")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "error"
