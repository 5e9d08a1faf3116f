"""One operation of the API: what it takes, gives and demands, said once.

`operation` turns a handler into a value from which both the route and its part of the
OpenAPI document are made, so that the document cannot say anything else than what
happens. A handler is given a checked `Call` and returns plain values.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from hashlight_protocol import Ref, parse_ref

from .bearer import require_scope
from .bodies import NoBody
from .idempotency import read_idempotency_key
from .paging import Page, read_page
from .parameters import read_event_id, read_path, read_query
from .parts import BEARERS, PARTS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from aiohttp import web

    from hashlight_node.exchange.publishing.publish import IdempotencyKey
    from hashlight_node.model import Scope, Token

    from .answers import Gives
    from .bearer import Bearers
    from .bodies import Takes
    from .parts import LocalParts

Body = TypeVar("Body")
Answer = TypeVar("Answer")

NO_BODY: Final = NoBody()


@dataclass(frozen=True, slots=True)
class Call(Generic[Body]):
    """A request that was authenticated and checked.

    Attributes:
        parts: What the operation can use.
        bearers: Knows the tokens; to be told of a revoked one.
        token: Who calls.
        path: The parameters in the path, each of its form.
        query: The operation's own parameters behind the path that are there, too.
        page: Which part of a list is wanted; of an operation that lists nothing, all.
        body: The body, of the type that the operation takes.
        idempotency: The key of an operation that may be repeated safely.
    """

    parts: LocalParts
    bearers: Bearers
    token: Token
    path: Mapping[str, str]
    query: Mapping[str, str]
    page: Page
    body: Body
    idempotency: IdempotencyKey | None

    @property
    def ref(self) -> Ref:
        """The record that the path names."""
        return parse_ref(self.path["ref"])

    @property
    def row_id(self) -> int:
        """The row that the path names."""
        return int(self.path["id"])


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    Attributes:
        method: HTTP method.
        path: Template with parameters of `parameters.PATH_PARAMETERS`.
        scope: What the caller's token must allow.
        takes: Its body.
        gives: Its answer.
        raises: Errors of its own that a caller can meet.
        query: Those of `parameters.QUERY_PARAMETERS` that it takes.
        handler: What happens.
    """

    method: str
    path: str
    scope: Scope
    takes: Takes[Any]
    gives: Gives[Any]
    raises: tuple[type[Exception], ...]
    query: tuple[str, ...]
    handler: Callable[[Call[Any]], Awaitable[Any]]

    @property
    def name(self) -> str:
        """Name under which generated clients call it."""
        return self.handler.__name__

    @property
    def tag(self) -> str:
        """Resource under which documents list it."""
        return self.path.split("/")[2]

    @property
    def text(self) -> tuple[str, str]:
        """Summary and description, from the handler's docstring."""
        summary, _, rest = inspect.cleandoc(self.handler.__doc__ or "").partition("\n")
        return summary.rstrip("."), rest.strip()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request.

        The token comes first: a stranger's body is not even read.
        """
        parts = request.app[PARTS]
        bearers = request.app[BEARERS]
        token = await bearers.authenticate(request.headers)
        require_scope(token, self.scope)
        path = read_path(request.match_info)
        page = read_page(self.gives.page_of, request.query, others=self.query)
        query = {
            **read_query(self.query, request.query),
            **read_event_id(self.query, request.headers),
        }
        async with self.takes.slot(request.app):
            received = await self.takes.read(request, parts.limits)
            key = None
            if self.takes.is_idempotent:
                key = read_idempotency_key(request, token, received.raw)
            call = Call(parts, bearers, token, path, query, page, received.value, key)
            return await self.gives.send(request, await self.handler(call))


def operation(
    method: str,
    path: str,
    *,
    scope: Scope,
    takes: Takes[Body],
    gives: Gives[Answer],
    raises: tuple[type[Exception], ...] = (),
) -> Callable[[Callable[[Call[Body]], Awaitable[Answer]]], Operation]:
    """Make an operation of a handler; its docstring is its text in the document.

    Args:
        method: HTTP method.
        path: Template as of RFC 6570: `{name}` for a parameter in the path, and at the
            end `{?name,name}` for those behind it.
        scope: What the caller's token must allow.
        takes: Its body.
        gives: Its answer.
        raises: Errors of its own that a caller can meet.
    """
    bare, _, names = path.partition("{?")
    query = tuple(names.removesuffix("}").split(",")) if names else ()

    def decorate(handler: Callable[[Call[Body]], Awaitable[Answer]]) -> Operation:
        return Operation(method, bare, scope, takes, gives, raises, query, handler)

    return decorate
