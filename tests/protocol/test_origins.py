"""Names of nodes, lists, logs and entries."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_protocol import (
    LogName,
    MalformedError,
    Ref,
    encode_ref,
    is_list_name,
    is_node_name,
    list_id,
    log_origin,
    origin_hash,
    parse_origin,
    parse_ref,
)

ORIGIN = "node.acme.example/hsf/v1/log/csam-images/3"


@pytest.mark.parametrize(
    "name", ["node.acme.example", "localhost", "a", "1.2.3.x4", "xn--bcher-kva.example"]
)
def test_dns_names_in_lower_case_are_node_names(name: str) -> None:
    assert is_node_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Node.acme.example",
        "node..example",
        ".example",
        "example.",
        "-a.example",
        "a-.example",
        "a_b.example",
        "node.acme.example:8440",
        "10.0.0.1",
        "bücher.example",
        "a" * 64 + ".example",
        ".".join(["a" * 60] * 5),
        "node.example\n",
    ],
)
def test_nothing_else_is_a_node_name(name: str) -> None:
    assert not is_node_name(name)


@pytest.mark.parametrize("name", ["a", "csam-images", "0", "a" * 64, "a-"])
def test_short_plain_words_are_list_names(name: str) -> None:
    assert is_list_name(name)


@pytest.mark.parametrize("name", ["", "-a", "A", "a/b", "a b", "a" * 65, "ä", "a\n"])
def test_nothing_else_is_a_list_name(name: str) -> None:
    assert not is_list_name(name)


def test_an_origin_names_node_list_and_epoch() -> None:
    name = parse_origin(ORIGIN)
    assert name == LogName("node.acme.example", "csam-images", 3)
    assert name.origin == ORIGIN
    assert name.list_id == "node.acme.example/hsf/v1/log/csam-images"


@given(
    st.from_regex(r"[a-z]{1,9}(\.[a-z]{1,9}){0,3}", fullmatch=True),
    st.from_regex(r"[a-z0-9][a-z0-9-]{0,63}", fullmatch=True),
    st.integers(1, 2**31 - 1),
)
def test_every_origin_comes_back_as_it_was(node: str, name: str, epoch: int) -> None:
    assert parse_origin(log_origin(node, name, epoch)) == LogName(node, name, epoch)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "node.acme.example/hsf/v1/log/csam-images",
        "node.acme.example/hsf/v1/log/csam-images/0",
        "node.acme.example/hsf/v1/log/csam-images/03",
        "node.acme.example/hsf/v1/log/csam-images/3/",
        "node.acme.example/hsf/v1/log/csam-images/-3",
        "node.acme.example/hsf/v1/log/csam-images/\u0663",
        "node.acme.example/hsf/v1/log/csam-images/2147483648",
        "node.acme.example/hsf/v2/log/csam-images/3",
        "https://node.acme.example/hsf/v1/log/csam-images/3",
        "node.acme.example/hsf/v1/log/CSAM/3",
        "10.0.0.1/hsf/v1/log/csam-images/3",
    ],
)
def test_nothing_else_is_an_origin(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_origin(text)


@pytest.mark.parametrize("epoch", [0, -1, 2**31])
def test_no_origin_is_made_for_an_epoch_out_of_range(epoch: int) -> None:
    with pytest.raises(MalformedError, match="epoch"):
        log_origin("node.acme.example", "images", epoch)


@pytest.mark.parametrize(("node", "name"), [("No.example", "a"), ("n.example", "A")])
def test_no_list_id_is_made_of_what_is_no_name(node: str, name: str) -> None:
    with pytest.raises(MalformedError, match="name"):
        list_id(node, name)


@given(st.integers(0, 2**63 - 1))
def test_every_ref_comes_back_as_it_was(index: int) -> None:
    ref = Ref(ORIGIN, index)
    assert encode_ref(ref) == f"{ORIGIN}#{index}"
    assert parse_ref(encode_ref(ref)) == ref


@pytest.mark.parametrize(
    "text",
    [
        ORIGIN,
        f"{ORIGIN}#",
        f"{ORIGIN}#01",
        f"{ORIGIN}#-1",
        f"{ORIGIN}#1#2",
        f"{ORIGIN}#9223372036854775808",
        f"{ORIGIN}#{'9' * 5000}",
        "#1",
    ],
)
def test_nothing_else_is_a_ref(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_ref(text)


@pytest.mark.parametrize("ref", [Ref(ORIGIN, -1), Ref("origin", 1), Ref(ORIGIN, 2**63)])
def test_no_ref_is_written_that_could_not_be_read(ref: Ref) -> None:
    with pytest.raises(MalformedError):
        encode_ref(ref)


def test_a_log_is_named_in_paths_by_the_hash_of_its_origin() -> None:
    assert origin_hash(ORIGIN) == hashlib.sha256(ORIGIN.encode()).hexdigest()
