"""What can be wrong with a request before a use case sees it.

Both listeners raise these; `problems` turns them into documents. What is wrong with
the *content* of a request is said by the protocol's and the use cases' own errors.
"""

from dataclasses import dataclass


class RequestError(Exception):
    """A request that no use case was called for; only subclasses are raised."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One place in a JSON body that breaks a rule.

    Attributes:
        pointer: RFC 6901 JSON pointer to it, empty for the whole body.
        reason: The rule; never the value.
    """

    pointer: str
    reason: str


class InvalidBodyError(RequestError):
    """A body is JSON but not what the operation takes.

    Attributes:
        faults: Every place that is wrong, in the order of the body.
    """

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        places = ", ".join(repr(fault.pointer) for fault in faults[:3])
        super().__init__(f"the body breaks rules at {places}")
        self.faults = faults


class InvalidParameterError(RequestError):
    """A parameter in the path, the query or a header is not acceptable.

    Attributes:
        name: The parameter.
        reason: The rule; never the value.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} {reason}")
        self.name = name
        self.reason = reason


class UnsupportedMediaError(RequestError):
    """The body's content type or coding is not one the operation takes.

    Attributes:
        expected: What it takes.
    """

    def __init__(self, expected: str) -> None:
        super().__init__(f"the body must be {expected}")
        self.expected = expected


class TokenMissingError(RequestError):
    """A request to the local API carries no bearer token."""

    def __init__(self) -> None:
        super().__init__("a bearer token of this node is required")


class TokenInvalidError(RequestError):
    """A request carries something that is no bearer token of this node."""

    def __init__(self) -> None:
        super().__init__("the credentials are no bearer token of this node")


class ScopeMissingError(RequestError):
    """A token is valid and does not allow the operation.

    Attributes:
        scope: The scope that is required.
    """

    def __init__(self, scope: str) -> None:
        super().__init__(f"the token lacks the scope {scope}")
        self.scope = scope


class UnknownPeerError(RequestError):
    """A signed request is by nobody this node exchanges with.

    One error for a stranger, an unknown key, a signature that does not verify and a
    peer in quarantine: which nodes are peers of ours is nobody else's business.
    """

    def __init__(self) -> None:
        super().__init__("the signature is not by a key of a peer of this node")


class NotFoundError(RequestError):
    """There is nothing at this path, or not for this caller."""

    def __init__(self) -> None:
        super().__init__("there is nothing here")


class RateLimitedError(RequestError):
    """The caller has as many requests under way as it may, or had too many lately.

    Attributes:
        retry_after_seconds: When to try again.
    """

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__("too many requests, at the same time or in a short time")
        self.retry_after_seconds = retry_after_seconds


class NodeUnavailableError(RequestError):
    """A process was asked for what only the node can do, and it is not there.

    It is behind a worker, or is the one of several processes that leads.
    """

    def __init__(self) -> None:
        super().__init__("the process that can do this does not answer")


class DescriptorUnsignedError(RequestError):
    """The node's first descriptor waits for the machine with the identity key."""

    def __init__(self) -> None:
        super().__init__("the descriptor of this node is not signed yet")


class SlowBodyError(RequestError):
    """A body did not arrive in time.

    Attributes:
        limit_seconds: The time it had.
    """

    def __init__(self, limit_seconds: int) -> None:
        super().__init__(f"the body did not arrive within {limit_seconds} s")
        self.limit_seconds = limit_seconds
