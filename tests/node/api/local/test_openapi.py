"""The document must be valid, complete, and say what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from hashlight_node.api.local.application import OPERATIONS
from hashlight_node.api.local.models.records import RecordBody
from hashlight_node.api.local.openapi import build_document
from hashlight_node.api.problems import IMAGE_PROBLEMS, PROBLEMS
from hashlight_protocol import ProtocolError, UnknownRecord, parse_record

if TYPE_CHECKING:
    from support.local_api import LocalApi

DOCUMENT: dict[str, Any] = json.loads(build_document(OPERATIONS, version="1.2.3"))


def test_the_document_is_valid_openapi_3_1() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    schemathesis.openapi.from_dict(DOCUMENT).validate()


def test_every_schema_in_it_is_a_valid_json_schema() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert len(schemas) > 50
    for schema in schemas.values():
        jsonschema_rs.Draft202012Validator(
            {**schema, "components": DOCUMENT["components"]}
        )


def test_every_operation_has_a_name_a_summary_a_scope_and_problems() -> None:
    described = [
        operation
        for methods in DOCUMENT["paths"].values()
        for operation in methods.values()
    ]
    assert len(described) == len(OPERATIONS)
    assert len({operation["operationId"] for operation in described}) == len(described)
    for operation in described:
        assert operation["summary"]
        (requirement,) = operation["security"]
        assert requirement["bearerToken"]
        assert {"400", "401", "403", "default"} <= set(operation["responses"])
        for status, response in operation["responses"].items():
            if status.startswith("2"):
                continue
            assert list(response["content"]) == ["application/problem+json"]


def test_every_code_it_names_is_in_the_table_of_problems() -> None:
    known = {problem.code for problem in (*PROBLEMS.values(), *IMAGE_PROBLEMS.values())}
    text = json.dumps(DOCUMENT["paths"])
    named = {word.split("`")[0] for word in text.split("`hsf:")[1:]}
    assert named
    assert named <= known


def test_answers_describe_every_member_they_have() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        if schema.get("type") == "object" and name not in ("Nothing", "JsonValue"):
            assert schema.get("properties"), name
            assert schema.get("description"), name


async def test_the_node_serves_this_document_to_everybody(api: LocalApi) -> None:
    reply = await api.without_token().get("/v1/openapi.json")
    served = reply.json
    assert served["paths"] == DOCUMENT["paths"]
    assert served["components"] == DOCUMENT["components"]


INDICATOR: dict[str, Any] = {
    "type": "indicator",
    "signals": [{"type": "pdq", "value": "0" * 64, "quality": 80}],
    "kind": "image",
    "source": "person",
    "created": "2026-11-01T00:00:00Z",
    "labels": [{"scheme": "ncmec", "value": "A1", "jurisdiction": "GB"}],
    "review": {"level": "human", "reviewers": 2},
    "synthetic": False,
    "case": "k9",
    "expires": "2027-11-01T00:00:00Z",
    "replaces": 1,
    "share": "peers",
}
OPINION: dict[str, Any] = {
    "type": "opinion",
    "ref": "shield.example/hsf/v1/log/ncii/1#33",
    "stance": "affirm",
    "signal": "pdq",
    "reason": "seen",
    "tags": ["a"],
}
SIGHTING: dict[str, Any] = {
    "type": "sighting",
    "ref": "shield.example/hsf/v1/log/ncii/1#33",
    "outcome": "matched",
    "count": 1,
    "first_at": "2026-11-01T00:00:00Z",
    "last_at": "2026-11-01T00:00:00Z",
    "signal": "pdq",
}
_SHAPE: TypeAdapter[Any] = TypeAdapter(RecordBody)
_WRONG = [None, True, -1, 2**53, 1.5, "", "A b", "x" * 5000, [], [1], {}, {"a": 1}]


def _is_record(value: object) -> bool:
    try:
        parsed = parse_record(json.dumps(value).encode())
    except ProtocolError:
        return False
    return not isinstance(parsed, UnknownRecord)


def _fits_shape(value: object) -> bool:
    try:
        _SHAPE.validate_json(json.dumps(value), strict=True)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("record", [INDICATOR, OPINION, SIGHTING], ids=str)
def test_the_shape_of_a_record_takes_what_the_protocol_takes(
    record: dict[str, Any],
) -> None:
    assert _is_record(record)
    assert _fits_shape(record)
    for member in record:
        less = {key: value for key, value in record.items() if key != member}
        assert _fits_shape(less) == _is_record(less), member


@given(
    record=st.sampled_from([INDICATOR, OPINION, SIGHTING]),
    place=st.integers(0, 20),
    value=st.sampled_from(_WRONG),
)
def test_the_shape_of_a_record_never_refuses_what_the_protocol_takes(
    record: dict[str, Any], place: int, value: object
) -> None:
    member = list(record)[place % len(record)]
    changed = {**record, member: value, "x-more": value}
    if _is_record(changed):
        assert _fits_shape(changed)


def test_the_guide_lists_every_operation_with_its_scope() -> None:
    guide = (Path(__file__).resolve().parents[4] / "docs" / "local-api.md").read_text()
    rows = re.findall(
        r"^\| ([A-Z]+) \| `(/[^`]+)` \| `([a-z]+)` \|$", guide, re.MULTILINE
    )
    assert rows == [(it.method, it.path, it.scope.value) for it in OPERATIONS]
