"""Kinds of answer: how each is written, and how OpenAPI describes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import orjson
from aiohttp import web
from typing_extensions import override

from .bodies import JSON
from .sending import write_in_time

if TYPE_CHECKING:
    from .bodies import SchemaOf

Answer = TypeVar("Answer")
Document = TypeVar("Document", bound=Mapping[str, Any])

NO_STORE: Final = {"Cache-Control": "no-store"}
"""Answers are about abuse and about people: nothing on the way may keep them."""


class Gives(ABC, Generic[Answer]):
    """A kind of answer.

    Attributes:
        status: HTTP status.
        models: Types of which OpenAPI needs a schema.
        page_of: Name of the list of which the answer is a page, if it is.
    """

    status: int = 200
    models: tuple[Any, ...] = ()
    page_of: str | None = None

    @abstractmethod
    def content(self, schema_of: SchemaOf) -> Mapping[str, object]:
        """Describe the answer for OpenAPI, by media type; empty if it has no body."""

    @abstractmethod
    async def send(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        """Write the answer to whoever sent a request."""


class WholeAnswer(Gives[Answer]):
    """An answer that is in memory before it is sent."""

    @override
    async def send(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        del request  # The framework sends what it is given.
        return self.respond(answer)

    @abstractmethod
    def respond(self, answer: Answer) -> web.Response:
        """Write the answer."""


class StreamedAnswer(Gives[AsyncGenerator[bytes, None]]):
    """Bytes that are made while they are sent, so that memory is bounded.

    A caller that stops reading stops the making, and after a while loses the
    connection. An error after the first piece closes it before the answer's end, which
    HTTP clients notice.

    Args:
        media_type: Of the whole.
        models: Of one line, if the lines are JSON.
    """

    def __init__(self, media_type: str, *models: Any) -> None:  # noqa: ANN401
        self.media_type = media_type
        self.models = models

    @override
    def content(self, schema_of: SchemaOf) -> Mapping[str, object]:
        lines = [schema_of(model) for model in self.models]
        described = {"x-lines": lines[0]} if lines else {}
        return {self.media_type: {"schema": {"type": "string", **described}}}

    @override
    async def send(
        self, request: web.Request, answer: AsyncGenerator[bytes, None]
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": self.media_type, **NO_STORE}
        )
        async with aclosing(answer):
            # The first piece may fail, and can still be answered with a problem.
            first = await anext(answer, b"")
            await response.prepare(request)
            await write_in_time(request, response, first)
            async for piece in answer:
                await write_in_time(request, response, piece)
        await response.write_eof()
        return response


class JsonAnswer(WholeAnswer[Document]):
    """A JSON object.

    Args:
        model: A typed dictionary. The type checker holds handlers to it, tests hold
            the answers of a running node to the schema that is made of it; checking
            each answer once more would cost more than most lookups.
        status: 200, or 201 if something was made.
        page_of: Name of the list of which the answer is a page, if it is.
    """

    def __init__(
        self, model: type[Document], *, status: int = 200, page_of: str | None = None
    ) -> None:
        self.model = model
        self.models = (model,)
        self.status = status
        self.page_of = page_of

    @override
    def content(self, schema_of: SchemaOf) -> Mapping[str, object]:
        return {JSON: {"schema": schema_of(self.model)}}

    @override
    def respond(self, answer: Document) -> web.Response:
        return web.Response(
            status=self.status,
            body=orjson.dumps(answer),
            content_type=JSON,
            headers=NO_STORE,
        )


class BytesAnswer(WholeAnswer[bytes]):
    """Bytes as they are stored."""

    def __init__(self, media_type: str) -> None:
        self.media_type = media_type

    @override
    def content(self, schema_of: SchemaOf) -> Mapping[str, object]:
        is_text = self.media_type.startswith("text/")
        return {self.media_type: {"schema": {"type": "string"} if is_text else {}}}

    @override
    def respond(self, answer: bytes) -> web.Response:
        headers = {"Content-Type": self.media_type, **NO_STORE}
        return web.Response(body=answer, headers=headers)


class NoAnswer(WholeAnswer[None]):
    """Nothing: what was asked for is done."""

    status = 204

    @override
    def content(self, schema_of: SchemaOf) -> Mapping[str, object]:
        return {}

    @override
    def respond(self, answer: None) -> web.Response:
        return web.Response(status=204, headers=NO_STORE)
