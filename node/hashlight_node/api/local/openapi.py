"""The OpenAPI 3.1 document, made of the same values that serve the requests.

Nothing is described twice: paths, scopes, bodies, answers and errors come from the
operations, schemas from the models that validate, problem codes from the one table of
errors.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import orjson
from pydantic import TypeAdapter

from hashlight_node.api import errors, problems
from hashlight_node.matching.image import ImageRefusedError
from hashlight_protocol import MalformedError, TooLargeError

from . import idempotency, paging
from .models.wire import Problem
from .parameters import PATH_PARAMETERS, QUERY_PARAMETERS, names_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .operations import Operation

Json = dict[str, Any]
ErrorType = type[Exception]

_REFERENCE: Final = "#/components/schemas/{model}"
_ALWAYS: Final[tuple[ErrorType, ...]] = (
    errors.InvalidParameterError,
    errors.TokenMissingError,
    errors.TokenInvalidError,
    errors.ScopeMissingError,
)
_WITH_BODY: Final[tuple[ErrorType, ...]] = (
    MalformedError,
    errors.SlowBodyError,
    TooLargeError,
    errors.UnsupportedMediaError,
    errors.InvalidBodyError,
)
_BEARER: Final = "bearerToken"
_DESCRIPTION: Final = """\
Ask whether a hash, a picture, an address or an account is known, publish records,
give feedback, and operate the node.

Every request carries `Authorization: Bearer <token>`. A token has scopes: `lookup`,
`publish`, `feedback`, `audit`, and `admin`, which includes all others. What goes wrong
is answered with a problem document (RFC 9457); programs act on its `type` and
`status`. Lists come in pages: send `next_cursor` back as `cursor` until it is null.
"""
_UNAUTHENTICATED: Final = 401

_CHALLENGE: Final[Json] = {
    "WWW-Authenticate": {"description": "RFC 6750.", "schema": {"type": "string"}}
}
_PAGE_PARAMETERS: Final[list[Json]] = [
    {
        "name": "limit",
        "in": "query",
        "description": "Most rows on the page.",
        "schema": {
            "type": "integer",
            "minimum": 1,
            "maximum": paging.MAX_LIMIT,
            "default": paging.DEFAULT_LIMIT,
        },
    },
    {
        "name": "cursor",
        "in": "query",
        "description": "`next_cursor` of the page before.",
        "schema": {"type": "string", "maxLength": paging.MAX_CURSOR_CHARACTERS},
    },
]
_IDEMPOTENCY_PARAMETER: Final[Json] = {
    "name": idempotency.HEADER,
    "in": "header",
    "description": "A key of the caller's choice. The same request with the same key "
    "is done once and answered alike; another request with it is refused.",
    "schema": {"type": "string", "pattern": f"^{idempotency.PATTERN}$"},
}


class _Schemas:
    """Schemas of all models, with one name each."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        asked: dict[int, tuple[int, str, TypeAdapter[Any]]] = {}
        for described in operations:
            for model in described.takes.models:
                asked[id(model)] = (id(model), "validation", TypeAdapter(model))
            for model in (*described.gives.models, Problem):
                asked[id(model)] = (id(model), "serialization", TypeAdapter(model))
        found, definitions = TypeAdapter.json_schemas(
            asked.values(),  # type: ignore[arg-type]
            ref_template=_REFERENCE,
        )
        self._found = {key: schema for (key, _), schema in found.items()}
        self.components: Json = definitions["$defs"]

    def of(self, model: object) -> Mapping[str, object]:
        return self._found[id(model)]


def build_document(operations: Iterable[Operation], *, version: str) -> bytes:
    """Write the document.

    Args:
        operations: Every operation of the API.
        version: The node's.
    """
    operations = tuple(operations)
    schemas = _Schemas(operations)
    paths: dict[str, Json] = defaultdict(dict)
    for described in operations:
        paths[described.path][described.method.lower()] = _operation(described, schemas)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Hashlight local API",
            "version": version,
            "summary": "What one node offers to the services of its own company",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{_BEARER: []}],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                _BEARER: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Made by `hashlight token create`.",
                }
            },
        },
    }
    return orjson.dumps(document)


def _operation(described: Operation, schemas: _Schemas) -> Json:
    summary, description = described.text
    document: Json = {
        "operationId": described.name,
        "tags": [described.tag],
        "summary": summary,
        "description": f"{description}\n\nScope: `{described.scope}`.".strip(),
        "security": [{_BEARER: [described.scope]}],
        "parameters": _parameters(described),
        "responses": _responses(described, schemas),
    }
    content = described.takes.content(schemas.of)
    if content:
        document["requestBody"] = {
            "required": described.takes.is_required,
            "content": content,
        }
    return document


def _parameters(described: Operation) -> list[Json]:
    parameters: list[Json] = []
    for name in names_in(described.path):
        form = PATH_PARAMETERS[name]
        parameters.append(
            {
                "name": name,
                "in": "path",
                "required": True,
                "description": form.description,
                "schema": form.schema,
                "example": form.example,
            }
        )
    for name in described.query:
        taken = QUERY_PARAMETERS[name]
        parameters.append(
            {
                "name": name,
                "in": "query",
                "description": taken.description,
                "schema": taken.schema,
            }
        )
    if described.gives.page_of is not None:
        parameters += _PAGE_PARAMETERS
    if described.takes.is_idempotent:
        parameters.append(_IDEMPOTENCY_PARAMETER)
    return parameters


def _responses(described: Operation, schemas: _Schemas) -> Json:
    content = described.gives.content(schemas.of)
    success: Json = {"description": "Done."}
    if content:
        success["content"] = content
    responses: Json = {str(described.gives.status): success}
    problem = {problems.CONTENT_TYPE: {"schema": schemas.of(Problem)}}
    for status, codes in _codes(described).items():
        listed = ", ".join(f"`hsf:{code}`" for code in codes)
        responses[str(status)] = {"description": listed, "content": problem}
        if status == _UNAUTHENTICATED:
            responses[str(status)]["headers"] = _CHALLENGE
    responses["default"] = {"description": "Any other problem.", "content": problem}
    return responses


def _codes(described: Operation) -> dict[int, list[str]]:
    raised = [*_ALWAYS, *described.raises]
    if described.takes.content(lambda _: {}):
        raised += _WITH_BODY
    codes: dict[int, set[str]] = defaultdict(set)
    for error in raised:
        for problem in _problems_of(error):
            codes[problem.status].add(problem.code)
    return {status: sorted(codes[status]) for status in sorted(codes)}


def _problems_of(error: ErrorType) -> Iterable[problems.Problem]:
    if issubclass(error, ImageRefusedError):
        return problems.IMAGE_PROBLEMS.values()
    return [problems.PROBLEMS[error]]
