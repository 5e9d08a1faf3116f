"""Kinds of request body: how each is read, and how OpenAPI describes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from pydantic import BaseModel
from typing_extensions import override

from hashlight_node.api.errors import UnsupportedMediaError

from .reading import media_type, read_body
from .strict_json import parse_closed, validate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp import web

    from .parts import LocalLimits

    SchemaOf = Callable[[object], Mapping[str, object]]

Value = TypeVar("Value")
Model = TypeVar("Model", bound=BaseModel)

JSON: Final = "application/json"

SMALL_BYTES: Final = 65_536
"""Largest body of an operation that is about one thing."""


@dataclass(frozen=True, slots=True)
class Received(Generic[Value]):
    """A body as it means, and as it came.

    Attributes:
        value: What the operation works with.
        raw: The bytes; they tell a repeated request from another one.
    """

    value: Value
    raw: bytes


class Takes(ABC, Generic[Value]):
    """A kind of body.

    Attributes:
        models: Types of which OpenAPI needs a schema.
        is_required: Whether there must be a body.
        is_idempotent: Whether an `Idempotency-Key` may come with it.
    """

    models: tuple[Any, ...] = ()
    is_required: bool = True
    is_idempotent: bool = False

    def slot(self, app: web.Application) -> AbstractAsyncContextManager[None]:
        """Give what must be held while a request is received and answered."""
        del app
        return nullcontext()

    @abstractmethod
    def content(self, schema_of: SchemaOf) -> Mapping[str, object]:
        """Describe the body for OpenAPI, by media type; empty if there is none."""

    @abstractmethod
    async def read(self, request: web.Request, limits: LocalLimits) -> Received[Value]:
        """Read the body of a request."""


class NoBody(Takes[None]):
    """The operation reads no body."""

    is_required = False

    @override
    def content(self, schema_of: SchemaOf) -> Mapping[str, object]:
        return {}

    @override
    async def read(self, request: web.Request, limits: LocalLimits) -> Received[None]:
        return Received(None, b"")


class JsonBody(Takes[Model]):
    """A JSON object of which a model describes every member.

    Args:
        model: Refuses members that it does not know.
        max_bytes: Largest body; checking it holds up other requests.
        is_idempotent: Whether an `Idempotency-Key` may come with it.
        is_required: Whether it must be there; a missing one counts as `{}`.
    """

    def __init__(
        self,
        model: type[Model],
        *,
        max_bytes: int = SMALL_BYTES,
        is_idempotent: bool = False,
        is_required: bool = True,
    ) -> None:
        self.model = model
        self.max_bytes = max_bytes
        self.models = (model,)
        self.is_idempotent = is_idempotent
        self.is_required = is_required

    @override
    def content(self, schema_of: SchemaOf) -> Mapping[str, object]:
        return {JSON: {"schema": schema_of(self.model)}}

    @override
    async def read(self, request: web.Request, limits: LocalLimits) -> Received[Model]:
        if not self.is_required and not request.body_exists:
            return Received(validate(self.model, {}), b"")
        max_bytes = min(self.max_bytes, limits.request_bytes)
        raw = await read_json(request, max_bytes=max_bytes)
        return Received(validate(self.model, parse_closed(raw)), raw)


async def read_json(request: web.Request, *, max_bytes: int) -> bytes:
    """Read a body that says that it is JSON.

    Raises:
        UnsupportedMediaError: It says that it is something else, or nothing.
    """
    if media_type(request) != JSON or (request.charset or "utf-8").lower() != "utf-8":
        raise UnsupportedMediaError(JSON)
    return await read_body(request, max_bytes=max_bytes)
