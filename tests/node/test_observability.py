from __future__ import annotations

import ast
import io
import json
import logging
import secrets
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

import hashlight_node
from hashlight_node.metrics import Metrics, render_metrics
from hashlight_node.observability import (
    _FIELDS,
    REQUEST_ID,
    configure_logging,
    keep_allowed,
)
from hashlight_protocol import MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterator

ORIGIN = "shield.example/hsf/v1/log/ncii/1"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("info", stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:], level = before
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_time_level_and_facts(
    stream: io.StringIO,
) -> None:
    structlog.get_logger().info(
        "checkpoint cosigned", peer="shield.example", origin=ORIGIN, size=7
    )
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "checkpoint cosigned",
        "level": "info",
        "peer": "shield.example",
        "origin": ORIGIN,
        "size": 7,
    }


@contextmanager
def request(request_id: str) -> Iterator[None]:
    token = REQUEST_ID.set(request_id)
    yield
    REQUEST_ID.reset(token)


def test_lines_of_one_request_have_its_id(stream: io.StringIO) -> None:
    with request("0123456789abcdef"):
        structlog.get_logger().info("request answered", status=200)
    structlog.get_logger().info("node ready")
    first, second = lines(stream)
    assert first["request_id"] == "0123456789abcdef"
    assert "request_id" not in second


def test_a_fact_that_is_not_known_is_left_out_and_not_counted(
    stream: io.StringIO,
) -> None:
    structlog.get_logger().info("request answered", status=200, code=None)
    (line,) = lines(stream)
    assert line.keys() == {"event", "level", "timestamp", "status"}


def test_lines_below_the_level_are_not_written(stream: io.StringIO) -> None:
    structlog.get_logger().debug("something small")
    assert lines(stream) == []


def refuse(value: str) -> None:
    raise ValueError(value)


SECRETS = {
    "a PDQ hash": secrets.token_hex(32),
    "an MD5": secrets.token_hex(16),
    "base64": "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=",
    "a token": f"hlt_{secrets.token_urlsafe(32)}",
    "a key": "shield.example+0ab1cd2e+AVl0KzM1bE1vUWJ6T0hqYg==",
    "an address": "person@mail.example",
    "a URL": "https://site.example/photo.jpg",
    "a reference": f"{ORIGIN}#12",
    "bytes": b"\x00" * 32,
    "a number": int.from_bytes(secrets.token_bytes(32), "big") | 1 << 255,
    "a list": ["a", "b"],
    "a mapping": {"pdq": "00"},
}


@pytest.mark.parametrize("what", SECRETS)
@pytest.mark.parametrize(
    "key",
    ["value", "signal", "peer", "origin", "code", "event", "size", "route", "list"],
)
def test_no_value_passes_as_something_else(
    stream: io.StringIO, what: str, key: str
) -> None:
    secret = SECRETS[what]
    log = structlog.get_logger()
    if key == "event":
        log.info(secret)
    else:
        log.info("something happened", **{key: secret})
    (line,) = lines(stream)
    assert str(secret) not in stream.getvalue()
    assert line.get("withheld", 0) == (0 if key == "event" else 1)


@pytest.mark.parametrize(
    "sentence",
    [
        f"looked up {'0f' * 32} again",
        "found abcdefabcdefabcdefabcdefabcdefab",
        "",
        "x" * 200,
        "two\nlines",
    ],
)
def test_a_value_inside_the_sentence_takes_the_sentence_with_it(
    stream: io.StringIO, sentence: str
) -> None:
    structlog.get_logger().info(sentence)
    (line,) = lines(stream)
    assert line["event"] == "event withheld"


@given(
    st.dictionaries(
        st.text(max_size=12),
        st.one_of(st.text(), st.integers(), st.binary(), st.none(), st.floats()),
    )
)
def test_what_passes_is_of_a_known_form(event: dict[str, object]) -> None:
    kept = keep_allowed(None, "info", dict(event))
    passed = set(kept) - {"event", "withheld"}
    said = {key for key, value in event.items() if value is not None} - {"event"}
    assert passed <= said
    assert kept.get("withheld", 0) == len(said) - len(passed)


def test_an_exception_leaves_its_type_and_place_and_nothing_it_says(
    stream: io.StringIO,
) -> None:
    secret = secrets.token_hex(32)

    def fail() -> None:
        try:
            refuse(secret)
        except ValueError as error:
            raise MalformedError("record", f"value {secret}") from error

    try:
        fail()
    except MalformedError:
        structlog.get_logger().exception("request failed")
    (line,) = lines(stream)
    assert secret not in stream.getvalue()
    assert line["error_type"] == "MalformedError"
    assert line["cause_type"] == "ValueError"
    assert line["code"] == "malformed"
    assert line["stack"][-1].startswith("node/test_observability.py:")
    assert line["stack"][-1].endswith(" fail")


def test_an_exception_without_a_traceback_is_described_too(
    stream: io.StringIO,
) -> None:
    structlog.get_logger().error("job failed", exc_info=KeyError(secrets.token_hex(9)))
    structlog.get_logger().error("job failed", exc_info=True)
    first, second = lines(stream)
    assert first["error_type"] == "KeyError"
    assert first["stack"] == []
    assert "error_type" not in second


def test_libraries_log_in_the_same_form_and_without_their_arguments(
    stream: io.StringIO,
) -> None:
    secret = secrets.token_hex(32)
    library = logging.getLogger("some.library")
    library.warning("Cannot decode %s", secret)
    library.warning("Cannot decode the rest")
    library.info("not severe")
    try:
        refuse(secret)
    except ValueError:
        library.exception("Unhandled exception")
    first, second, third = lines(stream)
    assert secret not in stream.getvalue()
    assert first["event"] == "event withheld"
    assert second["event"] == "Cannot decode the rest"
    assert (second["logger"], second["level"]) == ("some.library", "warning")
    assert third["error_type"] == "ValueError"
    assert "withheld" not in third


LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    """Find every line of code that writes to the log."""
    package = Path(hashlight_node.__file__).parent
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="_log" | "log"), attr=level)
                ) if level in LEVELS:
                    yield f"{path.relative_to(package)}:{node.lineno}", node


def test_no_line_that_our_code_writes_is_cut() -> None:
    found = 0
    for place, call in log_calls():
        (event,) = call.args
        assert isinstance(event, ast.Constant), f"{place}: the event is not constant"
        kept = keep_allowed(None, "", {"event": event.value})
        assert kept == {"event": event.value}, place
        unknown = {keyword.arg for keyword in call.keywords} - {*_FIELDS, "exc_info"}
        assert not unknown, f"{place}: {unknown} would be withheld"
        found += 1
    assert found > 10


def metrics() -> Metrics:
    return Metrics(version="0.1.0", spec_version="HSF/1")


def test_metrics_have_the_names_that_dashboards_rely_on() -> None:
    made = metrics()
    made.observe_request("local", "POST", "/v1/lookup", 200, 0.004)
    made.count_reject("federation", "auth-missing")
    made.count_records("shield.example", "ncii", "in", 256)
    made.count_failure("shield.example", "bad-bundle")
    made.count_unavailable("shield.example")
    made.observe_lookup(matched=1, unmatched=2, seconds=0.003)
    made.observe_sync("shield.example", 0.5)
    made.show_follow("shield.example", "ncii", synced_at=90, now=100)
    made.show_log(ORIGIN, "followed", 257)
    made.show_signals("pdq", 3)
    made.show_kernel("c")
    made.show_quarantined("list", 1)
    text = render_metrics(made).decode()
    for line in (
        'hashlight_build_info{protocol="HSF/1",version="0.1.0"} 1.0',
        'hashlight_rejects_total{listener="federation",reason="auth-missing"} 1.0',
        'hashlight_records_total{list="ncii",peer="shield.example",result="in"} 256.0',
        'hashlight_verify_failures_total{code="bad-bundle",peer="shield.example"} 1.0',
        'hashlight_peer_unavailable_total{peer="shield.example"} 1.0',
        'hashlight_lookups_total{outcome="matched"} 1.0',
        'hashlight_lookups_total{outcome="unmatched"} 2.0',
        "hashlight_lookup_seconds_count 1.0",
        'hashlight_sync_seconds_count{peer="shield.example"} 1.0',
        'hashlight_peer_lag_seconds{list="ncii",peer="shield.example"} 10.0',
        (
            "hashlight_peer_last_success_timestamp_seconds"
            '{list="ncii",peer="shield.example"} 90.0'
        ),
        f'hashlight_log_size{{origin="{ORIGIN}",role="followed"}} 257.0',
        'hashlight_index_kernel{kernel="c"} 1.0',
        'hashlight_signals{type="pdq"} 3.0',
        'hashlight_quarantined{kind="list"} 1.0',
    ):
        assert line in text.splitlines()
    assert (
        'hashlight_http_request_seconds_count{listener="local",method="POST",'
        'route="/v1/lookup",status="200"} 1.0'
    ) in text


def test_two_nodes_in_one_process_count_apart() -> None:
    first, second = metrics(), metrics()
    first.count_unavailable("shield.example")
    assert b"shield.example" in render_metrics(first)
    assert b"shield.example" not in render_metrics(second)


def test_a_list_that_was_never_synced_lags_since_ever() -> None:
    made = metrics()
    made.show_follow("a.example", "x", synced_at=None, now=1_000)
    assert 'hashlight_peer_lag_seconds{list="x",peer="a.example"} 1000.0' in (
        render_metrics(made).decode()
    )


def test_a_clock_that_went_back_is_no_negative_lag() -> None:
    made = metrics()
    made.show_follow("a.example", "x", synced_at=2_000, now=1_000)
    assert 'hashlight_peer_lag_seconds{list="x",peer="a.example"} 0.0' in (
        render_metrics(made).decode()
    )


def test_what_workers_counted_is_shown_beside_ours_and_not_added_up() -> None:
    ours, worker = (Metrics(version="1", spec_version="1") for _ in range(2))
    ours.observe_lookup(matched=1, unmatched=0, seconds=0.1)
    worker.observe_lookup(matched=2, unmatched=3, seconds=0.1)
    worker.show_signals("pdq", 7)
    text = render_metrics(ours, {"1": render_metrics(worker)}).decode()
    assert 'hashlight_lookups_total{outcome="matched"} 1.0' in text
    assert 'hashlight_lookups_total{outcome="matched",worker="1"} 2.0' in text
    assert 'hashlight_lookup_seconds_count{worker="1"} 1.0' in text
    assert text.count("# TYPE hashlight_lookups_total") == 1
    assert "hashlight_signals{" not in text
    assert text.count("hashlight_build_info{") == 1
