from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_node.api.local.multipart import read_field
from hashlight_protocol import MalformedError

TYPE = 'multipart/form-data; boundary="x"'


def _part(name: str, content: bytes, more: str = "") -> bytes:
    header = f'Content-Disposition: form-data; name="{name}"; filename="a.jpg"{more}'
    return b"--x\r\n" + header.encode() + b"\r\n\r\n" + content + b"\r\n"


@given(content=st.binary(max_size=200).filter(lambda data: b"\r\n--x" not in data))
def test_the_field_comes_out_as_it_was_sent(content: bytes) -> None:
    body = _part("note", b"1") + _part("image", content) + b"--x--\r\n"
    assert read_field(body, TYPE, "image") == content


@given(raw=st.binary(max_size=200), content_type=st.text(max_size=40))
def test_any_other_bytes_are_refused_and_nothing_else_happens(
    raw: bytes, content_type: str
) -> None:
    for media_type in (TYPE, content_type):
        with pytest.raises(MalformedError):
            read_field(raw, media_type, "image")


@pytest.mark.parametrize(
    "body",
    [
        _part("image", b"1"),
        _part("other", b"1") + b"--x--",
        _part("image", b"1") + _part("image", b"2") + b"--x--",
        _part("image", b"1", "\r\nContent-Transfer-Encoding: base64") + b"--x--",
        _part("image", b"1", "\r\nContent-Encoding: gzip") + b"--x--",
        _part("image", b"1", "\r\nX: " + "y" * 5000) + b"--x--",
        b"".join(_part(f"f{n}", b"") for n in range(16))
        + _part("image", b"")
        + b"--x--",
        b"--x--",
        b'--x\r\nContent-Type: image/png; name="image"\r\n\r\n1\r\n--x--',
        b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--",
        b"--xy\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--",
        b"--xy\r\n\r\n\r\n--x--",
    ],
    ids=range(12),
)
def test_an_ambiguous_or_unfinished_body_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedError):
        read_field(body, TYPE, "image")


@pytest.mark.parametrize(
    "media_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "x" * 71,
        "multipart/mixed; boundary=x",
    ],
)
def test_a_type_without_a_usable_boundary_is_refused(media_type: str) -> None:
    with pytest.raises(MalformedError):
        read_field(_part("image", b"1") + b"--x--", media_type, "image")


def test_the_boundary_may_be_bare_and_stand_after_other_parameters() -> None:
    body = _part("image", b"1") + b"--x--"
    media_type = "multipart/form-data; charset=utf-8; boundary=x"
    assert read_field(body, media_type, "image") == b"1"
