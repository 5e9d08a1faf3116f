"""The vectors for signals, records and requests hold, and are what the generator makes.

Other implementations rely on these files, so nothing here derives an expectation from
the code that it tests.
"""

import dataclasses
import json
import runpy
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hashlight_protocol.errors import BadRecordError, ProtocolError
from hashlight_protocol.origins import Ref, encode_ref
from hashlight_protocol.records import (
    Record,
    UnknownRecord,
    encode_record,
    parse_record,
)
from hashlight_protocol.requests import (
    HttpRequest,
    parse_key_id,
    signature_base,
    verify_request,
)
from hashlight_protocol.signals import Signal, parse_signal, signal_bytes

VECTORS = Path(__file__).resolve().parents[1] / "vectors"


def load(name: str) -> Any:  # noqa: ANN401 -- documents of any shape
    return json.loads((VECTORS / name).read_text("utf-8"))


def cases(name: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in load(name)["cases"]]


def view(record: Record) -> dict[str, Any]:
    """Show a record as the vectors do."""
    members: dict[str, Any] = {"type": record.type}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Ref):
            members[field.name] = encode_ref(value)
        elif field.name == "signals":
            members[field.name] = [
                dataclasses.asdict(claim.signal) | {"quality": claim.quality}
                for claim in value
            ]
        else:
            members[field.name] = plain(value)
    return members


def plain(value: Any) -> Any:  # noqa: ANN401 -- values of any shape
    if isinstance(value, tuple):
        return [plain(element) for element in value]
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]


def test_the_files_are_what_the_generator_makes() -> None:
    build = runpy.run_path(str(VECTORS / "generate_records.py"))["build"]
    for name, content in build().items():
        assert (VECTORS / name).read_text("utf-8") == content, name


@pytest.mark.parametrize("case", cases("signals.json"))
def test_signals(case: dict[str, Any]) -> None:
    if not case["valid"]:
        with pytest.raises(ProtocolError) as caught:
            parse_signal(case["type"], case["value"])
        assert caught.value.code == case["error"]
        return
    signal = parse_signal(case["type"], case["value"])
    assert signal == Signal(case["type"], case["canonical"])
    assert signal_bytes(signal).hex() == case["key_hex"]


@pytest.mark.parametrize("case", cases("records.json"))
def test_records(case: dict[str, Any]) -> None:
    body = case["body"].encode()
    if not case["valid"]:
        with pytest.raises(ProtocolError) as caught:
            parse_record(body)
        assert caught.value.code == case["error"]
        if isinstance(caught.value, BadRecordError):
            assert caught.value.pointer == case["pointer"]
        return
    record = parse_record(body)
    assert view(record) == case["read"]
    if not isinstance(record, UnknownRecord):
        assert parse_record(encode_record(record)) == record


@pytest.mark.parametrize("case", cases("requests.json"))
def test_requests(case: dict[str, Any]) -> None:
    document = load("requests.json")
    public_key = bytes.fromhex(document["public_key_hex"])

    def verify() -> None:
        request = HttpRequest(
            case["method"], case["authority"], case["path"], case["body"].encode()
        )
        assert "#".join(parse_key_id(case["fields"])) == document["key_id"]
        verify_request(request, case["fields"], public_key=public_key, now=case["now"])

    if case["valid"]:
        verify()
        return
    with pytest.raises(ProtocolError) as caught:
        verify()
    assert caught.value.code == case["error"]


def test_the_rfcs_own_example() -> None:
    example = load("requests.json")["rfc9421_b_2_6"]
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(example["seed_hex"]))
    assert key.public_key().public_bytes_raw().hex() == example["public_key_hex"]
    components = [(name, value) for name, value in example["components"]]
    signature = key.sign(signature_base(components, example["params"]))
    assert b64encode(signature).decode() == example["signature"]
