"""Every error that a caller can meet, as an RFC 9457 problem document.

`PROBLEMS` is the only place where an error gets a status (pictures have a second
table, `IMAGE_PROBLEMS`, because one type of theirs has several codes). The `type` of a
document is `hsf:` and a code; for the protocol's errors the code is their own, so one
word stands in SPEC.md, in the exception and on the wire. Clients act on status and type
only.

Whatever is not in the table is a mistake of ours: 500 `hsf:internal`, logged with
the request's id, and nothing of it told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson
from aiohttp import web

from hashlight_node.exchange import errors as exchange
from hashlight_node.keys import (
    IdentityOfflineError,
    KeyExistsError,
    SignerUnavailableError,
)
from hashlight_node.last_signed import LastSignedError
from hashlight_node.matching.image import ImageRefusal, ImageRefusedError
from hashlight_node.peers import errors as peers
from hashlight_node.store.errors import (
    DatabaseInUseError,
    ScrubError,
    is_server_away,
)
from hashlight_protocol import errors as protocol

from . import errors as requests

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTENT_TYPE: Final = "application/problem+json"

SERVER_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Server": "hashlight",  # instead of the versions of what we are built with
}
"""On every answer, of either listener."""

RETRY_SECONDS: Final = 5
"""When to try again what failed for a passing reason of ours."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What a caller is told about one kind of error.

    Attributes:
        status: HTTP status.
        code: What follows `hsf:` in the document's `type`.
        title: The same for every error of the kind; `detail` says more.
    """

    status: int
    code: str
    title: str


def _of(error: type[protocol.ProtocolError], status: int, title: str) -> Problem:
    return Problem(status, error.code, title)


INTERNAL: Final = Problem(500, "internal", "The node made a mistake")

_PROTOCOL: Final[Mapping[type[Exception], Problem]] = {
    error: _of(error, status, title)
    for error, status, title in (
        (protocol.MalformedError, 400, "The bytes are not what they should be"),
        (protocol.TooLargeError, 413, "A limit is exceeded"),
        (protocol.BadKeyError, 400, "The public key cannot be used"),
        (protocol.BadSignatureError, 403, "A signature does not match"),
        (protocol.UnknownKeyError, 403, "No trusted key signed"),
        (protocol.BadProofError, 422, "A proof does not lead to the root"),
        (protocol.BadBundleError, 422, "Content does not match its hashes"),
        (protocol.BadCommitmentError, 422, "A body does not match its commitment"),
        (protocol.RollbackError, 409, "A log became smaller"),
        (protocol.SplitViewError, 409, "A log shows two histories"),
        (protocol.NoForkError, 422, "The evidence shows no fork"),
        (protocol.QuorumNotMetError, 422, "Too few witnesses cosigned"),
        (protocol.ConflictError, 409, "The known checkpoint is another"),
        (protocol.StaleVersionError, 409, "A newer version is known"),
        (protocol.ContradictionError, 409, "It takes back what was final"),
        (protocol.BadRecordError, 422, "The body is not a record"),
        (protocol.BadSignalError, 422, "The value is not a signal of its type"),
        (protocol.UnknownCriticalError, 422, "A critical member is not known"),
        (protocol.AuthMissingError, 403, "The request is not signed"),
        (protocol.AuthInvalidError, 403, "The request's signature does not hold"),
        (protocol.ClockSkewError, 403, "The request was signed at another time"),
        (protocol.UnsupportedEntryError, 422, "An entry's kind is not known"),
    )
}

_REQUESTS: Final[Mapping[type[Exception], Problem]] = {
    requests.InvalidBodyError: Problem(422, "invalid-body", "The body is not valid"),
    requests.InvalidParameterError: Problem(
        400, "invalid-parameter", "A parameter is not valid"
    ),
    requests.UnsupportedMediaError: Problem(
        415, "unsupported-media", "The body's type is not supported"
    ),
    requests.TokenMissingError: Problem(401, "token-missing", "A token is needed"),
    requests.TokenInvalidError: Problem(401, "token-invalid", "The token is not known"),
    requests.ScopeMissingError: Problem(403, "scope-missing", "The token may not"),
    requests.UnknownPeerError: Problem(
        403, "unknown-peer", "The request is not by a peer"
    ),
    requests.NotFoundError: Problem(404, "not-found", "There is nothing here"),
    requests.RateLimitedError: Problem(429, "rate-limited", "Too many requests"),
    requests.NodeUnavailableError: Problem(503, "unavailable", "The node is not there"),
    requests.DescriptorUnsignedError: Problem(
        503, "unavailable", "The node is not ready"
    ),
    requests.SlowBodyError: Problem(408, "slow-body", "The body came too slowly"),
}

_EXCHANGE: Final[Mapping[type[Exception], Problem]] = {
    error: Problem(status, error.code, title)
    for error, status, title in (
        (exchange.UnknownLogError, 404, "There is no such log"),
        (exchange.NotServedError, 404, "The log has no such thing"),
        (exchange.ErasedError, 410, "The record was erased"),
        (exchange.WithheldError, 403, "The body is withheld"),
        (exchange.UnknownListError, 404, "There is no such list"),
        (exchange.UnknownRecordError, 404, "There is no such record"),
        (exchange.UnknownCaseError, 404, "There is no record of this case"),
        (exchange.UnknownPeerError, 404, "There is no such peer"),
        (exchange.UnknownFollowError, 404, "The list is not followed"),
        (exchange.ListExistsError, 409, "The list exists"),
        (exchange.ListInactiveError, 409, "The list takes no more entries"),
        (exchange.RolledBackError, 409, "The list is older than what was signed"),
        (exchange.UnconfirmedError, 503, "It is not known what was signed last"),
        (exchange.LogHeldError, 503, "The log cannot be served now"),
        (exchange.ForeignRecordError, 403, "The record is another node's"),
        (exchange.PeerPinnedError, 409, "The peer is pinned with another key"),
        (exchange.OwnNodeError, 422, "The peer is this node"),
        (exchange.PeerQuarantinedError, 409, "The peer is in quarantine"),
        (exchange.FollowQuarantinedError, 409, "The list is in quarantine"),
        (exchange.ForkedLogError, 409, "The log showed two histories"),
        (exchange.NoRoomError, 507, "The disk is nearly full"),
        (exchange.EmptyRequestError, 422, "There is nothing to publish"),
        (exchange.IdempotencyConflictError, 422, "The key is another request's"),
        (exchange.StoreSilentError, 503, "The database cannot be heard"),
    )
}

# Trouble with a peer is not a mistake of whoever asked us, nor of ours: 424 says that
# the request failed because something else did, and 503 that waiting helps.
_PEERS: Final[Mapping[type[Exception], Problem]] = {
    peers.PeerUnavailableError: Problem(503, "unavailable", "The peer is not there"),
    peers.PeerClockSkewError: Problem(503, "unavailable", "The peer is not there"),
    peers.PeerRefusedError: Problem(424, "peer-refused", "The peer refused"),
    peers.PeerMisbehavedError: Problem(424, "peer-misbehaved", "The peer misbehaves"),
}

_STORE: Final[Mapping[type[Exception], Problem]] = {
    KeyExistsError: Problem(409, "key-exists", "The log has existed before"),
    IdentityOfflineError: Problem(
        409, IdentityOfflineError.code, "The identity key is on another machine"
    ),
    SignerUnavailableError: Problem(
        503, SignerUnavailableError.code, "A key cannot sign now"
    ),
    # The erase itself is done; repeating the request removes what is left of it.
    ScrubError: Problem(503, "unavailable", "Erased bytes are not all removed yet"),
    LastSignedError: Problem(503, "unavailable", "What is signed cannot be noted"),
    DatabaseInUseError: Problem(503, "unavailable", "Another process leads"),
}

_SERVER_AWAY: Final = Problem(503, "unavailable", "The database does not answer")
_UNTOLD: Final = (INTERNAL, _SERVER_AWAY, _STORE[DatabaseInUseError])
"""Problems of which no caller is told more: what they say may name anything."""

IMAGE_PROBLEMS: Final[Mapping[ImageRefusal, Problem]] = {
    "not-an-image": Problem(422, "not-an-image", "The bytes are no picture"),
    "image-too-large": Problem(413, "image-too-large", "The picture is too large"),
    "image-truncated": Problem(422, "image-truncated", "The picture is cut off"),
    "image-quality-too-low": Problem(
        422, "image-quality-too-low", "The picture shows too little to be matched"
    ),
}
"""What is told about pictures; one error type with a code of its own."""

PROBLEMS: Final[Mapping[type[Exception], Problem]] = {
    **_PROTOCOL,
    **_REQUESTS,
    **_EXCHANGE,
    **_PEERS,
    **_STORE,
}
"""What is told about every other error, by its type."""

_HTTP: Final[Mapping[int, Problem]] = {
    400: Problem(400, "malformed", "The request cannot be read"),
    404: PROBLEMS[requests.NotFoundError],
    405: Problem(405, "method-not-allowed", "The method is not for this resource"),
    406: Problem(406, "not-acceptable", "No such representation"),
    408: PROBLEMS[requests.SlowBodyError],
    411: Problem(411, "length-required", "The body needs a length"),
    413: PROBLEMS[protocol.TooLargeError],
    415: PROBLEMS[requests.UnsupportedMediaError],
    417: Problem(417, "expectation-failed", "The expectation is not supported"),
}


def problem_for(error: Exception) -> Problem:
    """Find what to tell about an error; `INTERNAL` for one that is ours."""
    if isinstance(error, ImageRefusedError):
        return IMAGE_PROBLEMS[error.code]
    if is_server_away(error):
        return _SERVER_AWAY
    for kind in type(error).__mro__:
        if kind in PROBLEMS:
            return PROBLEMS[kind]
    return INTERNAL


def problem_for_status(status: int) -> Problem:
    """Find what to tell about a refusal by the HTTP framework itself."""
    if status in _HTTP:
        return _HTTP[status]
    return INTERNAL if status >= INTERNAL.status else _HTTP[400]


def problem_document(error: Exception) -> dict[str, object]:
    """Describe an error, without anything that only a reader of our log may know."""
    problem = problem_for(error)
    document = _describe(problem)
    if problem in _UNTOLD:
        return document
    document["detail"] = str(error)
    return document | _members(error)


def problem_response(error: Exception) -> web.Response:
    """Answer a request with the document of an error."""
    return _respond(problem_for(error), problem_document(error), _headers(error))


def status_problem_response(status: int, allow: str | None = None) -> web.Response:
    """Answer what the HTTP framework refused.

    Args:
        status: What it would have answered.
        allow: Its Allow field, which a 405 needs.
    """
    problem = problem_for_status(status)
    headers = {"Allow": allow} if allow else {}
    return _respond(problem, _describe(problem), {**SERVER_HEADERS, **headers})


def _respond(
    problem: Problem, document: Mapping[str, object], headers: Mapping[str, str]
) -> web.Response:
    return web.Response(
        status=problem.status,
        body=orjson.dumps(document),
        content_type=CONTENT_TYPE,
        headers={"Cache-Control": "no-store", **headers},
    )


def _describe(problem: Problem) -> dict[str, object]:
    return {
        "type": f"hsf:{problem.code}",
        "title": problem.title,
        "status": problem.status,
    }


_FACTS: Final[Mapping[type[Exception], str]] = {
    protocol.TooLargeError: "limit",
    protocol.ConflictError: "known_size",
    protocol.ClockSkewError: "now",
    requests.ScopeMissingError: "scope",
}
"""Errors with a fact that is a member of the document, and the attribute's name."""


def _members(error: Exception) -> dict[str, object]:
    """Give the facts of an error that a program can use, beyond its type."""
    match error:
        case requests.InvalidBodyError(faults=faults):
            pairs = ((fault.pointer, fault.reason) for fault in faults)
            return {"errors": [{"pointer": p, "detail": r} for p, r in pairs]}
        case protocol.BadRecordError(pointer=pointer, reason=reason):
            return {"errors": [{"pointer": pointer, "detail": reason}]}
        case peers.PeerRefusedError(status=status, code=code):
            return {"peer": {"status": status, "code": code}}
        case peers.PeerMisbehavedError(code=code):
            return {"peer": {"code": code}}
        case _:
            names = [name for kind, name in _FACTS.items() if isinstance(error, kind)]
            return {name: getattr(error, name) for name in names}


def _headers(error: Exception) -> dict[str, str]:
    match error:
        case requests.RateLimitedError(retry_after_seconds=seconds):
            return {"Retry-After": str(seconds)}
        case requests.TokenMissingError():
            return {"WWW-Authenticate": 'Bearer realm="hashlight"'}
        case requests.TokenInvalidError():
            challenge = 'Bearer realm="hashlight", error="invalid_token"'
            return {"WWW-Authenticate": challenge}
        case (
            peers.PeerUnavailableError()
            | ScrubError()
            | SignerUnavailableError()
            | requests.DescriptorUnsignedError()
            | LastSignedError()
            | requests.NodeUnavailableError()
            | exchange.UnconfirmedError()
            | exchange.LogHeldError()
            | exchange.NoRoomError()
            | exchange.StoreSilentError()
            | DatabaseInUseError()
        ):
            return {"Retry-After": str(RETRY_SECONDS)}
        case _:
            is_brief = is_server_away(error)
            return {"Retry-After": str(RETRY_SECONDS)} if is_brief else {}
