"""Kinds of answer: how each is written, and how OpenAPI describes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import orjson
from aiohttp import web
from typing_extensions import override

from .bodies import JSON

if TYPE_CHECKING:
    from .bodies import SchemaOf

Answer = TypeVar("Answer")
Document = TypeVar("Document", bound=Mapping[str, Any])

# Answers are about abuse and about people: nothing on the way may keep them.
_HEADERS: Final = {"Cache-Control": "no-store"}


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
    def respond(self, answer: Answer) -> web.Response:
        """Write the answer."""


class JsonAnswer(Gives[Document]):
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
            headers=_HEADERS,
        )


class BytesAnswer(Gives[bytes]):
    """Bytes as they are stored."""

    def __init__(self, media_type: str) -> None:
        self.media_type = media_type

    @override
    def content(self, schema_of: SchemaOf) -> Mapping[str, object]:
        is_text = self.media_type.startswith("text/")
        return {self.media_type: {"schema": {"type": "string"} if is_text else {}}}

    @override
    def respond(self, answer: bytes) -> web.Response:
        headers = {"Content-Type": self.media_type, **_HEADERS}
        return web.Response(body=answer, headers=headers)


class NoAnswer(Gives[None]):
    """Nothing: what was asked for is done."""

    status = 204

    @override
    def content(self, schema_of: SchemaOf) -> Mapping[str, object]:
        return {}

    @override
    def respond(self, answer: None) -> web.Response:
        return web.Response(status=204, headers=_HEADERS)
