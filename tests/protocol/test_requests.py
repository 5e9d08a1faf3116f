"""Signed requests, held against the RFC's own example and an independent library."""

import base64
import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from http.client import HTTPMessage
from itertools import count
from typing import cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    MappingKeyResolver,
    algorithms,
)
from http_message_signatures import InvalidSignature as LibraryError
from hypothesis import given
from hypothesis import strategies as st

from hashlight_protocol.errors import (
    AuthInvalidError,
    AuthMissingError,
    ClockSkewError,
    MalformedError,
    ProtocolError,
)
from hashlight_protocol.requests import (
    HttpRequest,
    authority_of,
    encode_content_digest,
    parse_key_id,
    sign_request,
    signature_base,
    verify_body,
    verify_body_digest,
    verify_request,
    verify_request_head,
)

# In the past for the library too, which reads the clock itself.
NOW = 1_700_000_000
KEY_ID = "beta.example#h1"
KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"test http key").digest())
PUBLIC_KEY = KEY.public_key().public_bytes_raw()
JSON = "application/json"

GET = HttpRequest("GET", "alpha.example", "/hsf/v1/grants")
POST = replace(GET, method="POST", path="/hsf/v1/evidence", body=b'{"older":""}')


def signed(request: HttpRequest, *, now: int = NOW) -> dict[str, str]:
    content_type = JSON if request.body else None
    return sign_request(
        request, content_type=content_type, key_id=KEY_ID, signer=KEY, now=now
    )


def verify_in_parts(
    request: HttpRequest, headers: Mapping[str, str], *, now: int
) -> None:
    head = replace(request, body=b"")
    if request.body:
        verify_request_head(head, headers, public_key=PUBLIC_KEY, now=now)
        verify_body(headers, request.body)
    else:
        verify_request(head, headers, public_key=PUBLIC_KEY, now=now)


def verify(request: HttpRequest, headers: Mapping[str, str], *, now: int = NOW) -> None:
    """Verify at once, and see that a body which comes later makes no difference."""
    try:
        verify_request(request, headers, public_key=PUBLIC_KEY, now=now)
    except ProtocolError as error:
        with pytest.raises(type(error)):
            verify_in_parts(request, headers, now=now)
        raise
    verify_in_parts(request, headers, now=now)


def resigned(request: HttpRequest, params: str, *names: str) -> dict[str, str]:
    """Sign correctly what the profile does not allow."""
    values = {
        "@method": request.method,
        "@authority": request.authority,
        "@path": request.path,
        "content-digest": encode_content_digest(request.body),
        "content-type": JSON,
    }
    names = names or ("@method", "@authority", "@path")
    listed = "(" + " ".join(f'"{name}"' for name in names) + ")"
    base = signature_base([(name, values[name]) for name in names], listed + params)
    return {
        "Content-Digest": values["content-digest"],
        "Content-Type": JSON,
        "Signature-Input": f"hsf={listed}{params}",
        "Signature": f"hsf=:{base64.b64encode(KEY.sign(base)).decode()}:",
    }


def repeating(*fields: tuple[str, str]) -> Mapping[str, str]:
    """Header fields as servers show them: `items` repeats names."""
    message = HTTPMessage()
    for name, value in fields:
        message.add_header(name, value)
    return cast("Mapping[str, str]", message)


class Message:
    """A request as the library wants it."""

    def __init__(self, request: HttpRequest, headers: dict[str, str]) -> None:
        self.method = request.method
        self.url = f"https://{request.authority}{request.path}"
        self.headers = headers


RESOLVER = MappingKeyResolver(
    public_keys={KEY_ID: KEY.public_key()}, private_keys={KEY_ID: KEY}
)
LIBRARY_VERIFIER = HTTPMessageVerifier(
    signature_algorithm=algorithms.ED25519, key_resolver=RESOLVER
)
REQUIRED = ("@method", "@authority", "@path")

requests = st.builds(
    HttpRequest,
    st.sampled_from(["GET", "POST"]),
    st.sampled_from(["alpha.example", "127.0.0.1:8440", "[::1]:8440"]),
    st.from_regex(r"/|(/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,9}){1,5}", fullmatch=True),
    st.binary(max_size=40),
)


def test_the_rfcs_own_example_is_reproduced_byte_for_byte() -> None:
    # RFC 9421, appendix B.2.6; the key is test-key-ed25519 of B.1.4.
    key = Ed25519PrivateKey.from_private_bytes(
        base64.urlsafe_b64decode("n4Ni-HpISpVObnQMW0wOhCKROaIKqKtW_2ZYb2p9KcU=")
    )
    components = [
        ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("@method", "POST"),
        ("@path", "/foo"),
        ("@authority", "example.com"),
        ("content-type", "application/json"),
        ("content-length", "18"),
    ]
    params = (
        '("date" "@method" "@path" "@authority" "content-type" "content-length")'
        ';created=1618884473;keyid="test-key-ed25519"'
    )
    signature = key.sign(signature_base(components, params))
    assert base64.b64encode(signature).decode() == (
        "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5"
        "lIp5WPpBKRCw=="
    )


def test_the_digest_of_the_rfcs_own_example_is_reproduced() -> None:
    # RFC 9530, appendix D: the digest of {"hello": "world"} and a newline.
    assert encode_content_digest(b'{"hello": "world"}\n') == (
        "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    )


@given(requests)
def test_what_is_signed_verifies(request: HttpRequest) -> None:
    headers = signed(request)
    assert parse_key_id(headers) == ("beta.example", "h1")
    verify(request, headers)


@given(requests)
def test_the_library_accepts_what_we_sign(request: HttpRequest) -> None:
    required = (
        (*REQUIRED, "content-digest", "content-type") if request.body else REQUIRED
    )
    results = LIBRARY_VERIFIER.verify(
        Message(request, signed(request)),
        max_age=None,
        expect_tag="hsf-v1",
        expect_label="hsf",
        require_components=required,
        body=request.body,
    )
    assert results[0].parameters == {"created": NOW, "keyid": KEY_ID, "tag": "hsf-v1"}


@given(
    requests,
    st.booleans(),
    st.none() | st.from_regex(r"[!#-\[\]-~]{1,32}", fullmatch=True),
)
def test_we_accept_what_the_library_signs(
    request: HttpRequest, include_alg: bool, nonce: str | None
) -> None:
    message = Message(request, {"content-type": JSON} if request.body else {})
    HTTPMessageSigner(
        signature_algorithm=algorithms.ED25519, key_resolver=RESOLVER
    ).sign(
        message,
        key_id=KEY_ID,
        created=dt.datetime.fromtimestamp(NOW, dt.UTC),
        label="hsf",
        tag="hsf-v1",
        nonce=nonce,
        include_alg=include_alg,
        covered_component_ids=(
            (*REQUIRED, "content-digest", "content-type") if request.body else REQUIRED
        ),
        body=request.body or None,
    )
    verify(request, message.headers)


@given(
    st.dictionaries(
        st.sampled_from(
            ["Signature-Input", "Signature", "Content-Digest", "content-type", "X"]
        ),
        st.text(max_size=40)
        | st.text('hsf=();:"@a-z0123456789 ', max_size=60)
        | st.sampled_from(list(signed(POST).values())),
    )
)
def test_arbitrary_headers_only_ever_raise_protocol_errors(
    headers: dict[str, str],
) -> None:
    for request in (GET, POST):
        try:
            verify(request, headers)
        except ProtocolError:
            continue
        assert set(signed(request).values()) <= set(headers.values())


def test_header_names_come_in_any_case_and_values_with_spaces_around() -> None:
    headers = {name.upper(): f" {value}\t" for name, value in signed(POST).items()}
    verify(POST, headers)


@pytest.mark.parametrize(
    "other",
    [
        replace(POST, method="PUT"),
        replace(POST, authority="gamma.example"),
        replace(POST, authority="alpha.example:8443"),
        replace(POST, path="/hsf/v1/grants"),
        replace(POST, path="/hsf/v1/evidence/x"),
        replace(POST, body=POST.body + b" "),
        replace(POST, body=b""),
    ],
    ids=count(),
)
def test_a_signature_holds_for_one_request_only(other: HttpRequest) -> None:
    with pytest.raises(AuthInvalidError):
        verify(other, signed(POST))


def test_a_body_cannot_be_added_to_a_request_without_one() -> None:
    with pytest.raises(AuthInvalidError, match="Content-Digest"):
        verify(replace(GET, body=b"{}"), signed(GET))
    headers = signed(GET) | {
        "Content-Digest": encode_content_digest(b"{}"),
        "Content-Type": JSON,
    }
    with pytest.raises(AuthInvalidError, match="components"):
        verify(replace(GET, body=b"{}"), headers)


@pytest.mark.parametrize("field", ["Signature-Input", "Signature", "Content-Digest"])
def test_every_changed_character_is_noticed(field: str) -> None:
    headers = signed(POST)
    value = headers[field]
    for place in range(len(value)):
        for character in "A0=":
            changed = value[:place] + character + value[place + 1 :]
            if changed != value:
                with pytest.raises(ProtocolError):
                    verify(POST, headers | {field: changed})


def test_the_content_type_is_covered() -> None:
    with pytest.raises(AuthInvalidError, match="match the request"):
        verify(POST, signed(POST) | {"Content-Type": "text/plain"})
    for content_type in ("", "é", "text/plain\nx"):
        with pytest.raises(AuthInvalidError, match="content type"):
            verify(POST, signed(POST) | {"Content-Type": content_type})


@pytest.mark.parametrize("age", [-60, -1, 0, 1, 300])
def test_a_signature_counts_for_five_minutes(age: int) -> None:
    verify(GET, signed(GET), now=NOW + age)


@pytest.mark.parametrize("age", [-(10**9), -61, 301, 10**9])
def test_a_replayed_or_postdated_request_is_refused(age: int) -> None:
    with pytest.raises(ClockSkewError) as caught:
        verify(GET, signed(GET), now=NOW + age)
    assert (caught.value.created, caught.value.now) == (NOW, NOW + age)


def test_a_key_of_another_node_does_not_pass() -> None:
    other = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"other").digest())
    with pytest.raises(AuthInvalidError, match="match the request"):
        verify_request(
            GET,
            signed(GET),
            public_key=other.public_key().public_bytes_raw(),
            now=NOW,
        )


def test_a_request_without_a_signature_says_so() -> None:
    headers = signed(GET)
    with pytest.raises(AuthMissingError):
        verify(GET, {})
    with pytest.raises(AuthMissingError):
        parse_key_id({"Signature": headers["Signature"]})
    with pytest.raises(AuthInvalidError, match="Signature is not"):
        verify(GET, {"Signature-Input": headers["Signature-Input"]})


@pytest.mark.parametrize("repeated", ["signature", "SIGNATURE-INPUT", "Content-Type"])
def test_a_repeated_field_is_refused(repeated: str) -> None:
    headers = signed(POST)
    lower = {name.lower(): value for name, value in headers.items()}
    fields = (*headers.items(), (repeated, lower[repeated.lower()]))
    with pytest.raises(AuthInvalidError, match="repeated"):
        verify(POST, repeating(*fields))
    verify(POST, repeating(*headers.items(), ("x", "1"), ("X", "2")))


AUTHENTIC = f';created={NOW};keyid="{KEY_ID}";tag="hsf-v1"'


@pytest.mark.parametrize(
    "params",
    [
        AUTHENTIC,
        f';tag="hsf-v1";keyid="{KEY_ID}";created={NOW}',
        AUTHENTIC + ';alg="ed25519"',
        AUTHENTIC + ';nonce="n-1 "',
    ],
)
def test_parameters_come_in_any_order_and_may_name_algorithm_and_nonce(
    params: str,
) -> None:
    verify(GET, resigned(GET, params))


@pytest.mark.parametrize(
    "params",
    [
        "",
        f';created={NOW};tag="hsf-v1"',
        f';keyid="{KEY_ID}";tag="hsf-v1"',
        f';created={NOW};keyid="{KEY_ID}"',
        f';created={NOW};keyid="{KEY_ID}";tag="other"',
        AUTHENTIC + ';alg="hmac-sha256"',
        AUTHENTIC + ';alg="rsa-v1_5-sha256"',
        AUTHENTIC + f";expires={NOW + 60}",
        AUTHENTIC + ";x",
        AUTHENTIC + ';tag="hsf-v1"',
        f';created={NOW};created={NOW};keyid="{KEY_ID}"',
        f';created="{NOW}";keyid="{KEY_ID}";tag="hsf-v1"',
        f';created={NOW}.0;keyid="{KEY_ID}";tag="hsf-v1"',
        f';created=-{NOW};keyid="{KEY_ID}";tag="hsf-v1"',
        f'; created={NOW};keyid="{KEY_ID}";tag="hsf-v1"',
        f';created={NOW};keyid="beta.example";tag="hsf-v1"',
        f';created={NOW};keyid="beta.example#";tag="hsf-v1"',
        f';created={NOW};keyid="Beta.example#h1";tag="hsf-v1"',
        f';created={NOW};keyid="10.0.0.1#h1";tag="hsf-v1"',
        f';created={NOW};keyid="beta.example#h1#h2";tag="hsf-v1"',
        f';created={"9" * 16};keyid="{KEY_ID}";tag="hsf-v1"',
    ],
    ids=count(),
)
def test_other_parameters_are_refused_even_if_signed(params: str) -> None:
    with pytest.raises(AuthInvalidError):
        verify(GET, resigned(GET, params))


@pytest.mark.parametrize(
    "names",
    [
        ("@method",),
        ("@method", "@authority"),
        ("@authority", "@method", "@path"),
        ("@method", "@authority", "@path", "content-type"),
        ("@method", "@authority", "@path", "content-type", "content-digest"),
        ("@method", "@authority", "@path", "content-digest", "content-type"),
    ],
    ids=count(),
)
def test_other_components_are_refused_even_if_signed(names: tuple[str, ...]) -> None:
    with pytest.raises(AuthInvalidError, match="components"):
        verify(GET, resigned(GET, AUTHENTIC, *names))


@pytest.mark.parametrize(
    "change",
    [
        {"Signature-Input": 'sig1=("@method")'},
        {"Signature": "hsf=:AAAA:"},
        {"Signature": "hsf=:" + "A" * 85 + "B==:"},
        {"Signature": "hsf=:" + "=" * 88 + ":"},
        {"Signature": "hsf=?1"},
        {"Signature": signed(GET)["Signature"] + ", other=:AAAA:"},
        {"Signature-Input": signed(GET)["Signature-Input"] + ', other=("@path")'},
        {"Signature-Input": "hsf=(" + '"@method" ' * 1000 + ")" + AUTHENTIC},
    ],
    ids=count(),
)
def test_other_labels_and_spellings_are_refused(change: dict[str, str]) -> None:
    with pytest.raises(AuthInvalidError):
        verify(GET, signed(GET) | change)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("method", "get"),
        ("method", ""),
        ("method", "GET /x"),
        ("authority", ""),
        ("authority", "Alpha.example"),
        ("authority", "user@alpha.example"),
        ("authority", "alpha.example:"),
        ("authority", "alpha.example:080"),
        ("authority", "alpha.example/x"),
        ("path", ""),
        ("path", "*"),
        ("path", "hsf"),
        ("path", "/x?"),
        ("path", "/x?y=1"),
        ("path", "/x#y"),
        ("path", "/x/"),
        ("path", "//x"),
        ("path", "/x//y"),
        ("path", "/x/../y"),
        ("path", "/./x"),
        ("path", "/x/.."),
        ("path", "/%78"),
        ("path", "/x;y"),
        ("path", "/é"),
        ("path", "/x\n"),
        ("path", "/x y"),
        ("path", "/" + "x" * 1024),
        ("path", "https://alpha.example/x"),
    ],
    ids=count(),
)
def test_a_request_with_a_query_or_another_oddity_is_refused(
    member: str, value: str
) -> None:
    parts = {"method": "GET", "authority": "alpha.example", "path": "/"}
    HttpRequest(**parts, body=b"")
    HttpRequest(**parts | {"path": "/..x/tile/entries/x001/067.p/3"}, body=b"")
    with pytest.raises(MalformedError):
        HttpRequest(**(parts | {member: value}), body=b"")


def test_a_request_that_cannot_be_verified_is_not_signed() -> None:
    for request, content_type, key_id in (
        (POST, None, KEY_ID),
        (POST, "", KEY_ID),
        (POST, "text/plain\nx: y", KEY_ID),
        (GET, JSON, KEY_ID),
        (GET, None, "beta.example"),
        (GET, None, 'beta.example#h"1'),
    ):
        with pytest.raises(MalformedError):
            sign_request(
                request, content_type=content_type, key_id=key_id, signer=KEY, now=NOW
            )


@pytest.mark.parametrize(
    ("base", "authority"),
    [
        ("https://Alpha.Example", "alpha.example"),
        ("https://alpha.example:443/x/y", "alpha.example"),
        ("HTTPS://alpha.example:443", "alpha.example"),
        ("https://alpha.example:80", "alpha.example:80"),
        ("http://127.0.0.1:8440", "127.0.0.1:8440"),
        ("http://[::1]:80/", "[::1]"),
    ],
)
def test_the_authority_follows_from_the_base_url(base: str, authority: str) -> None:
    assert authority_of(base) == authority


@pytest.mark.parametrize(
    "base",
    [
        "",
        "alpha.example",
        "ftp://alpha.example",
        "https://",
        "https:///x",
        "https://user@alpha.example",
        "https://alpha.example?x",
        "https://alpha.example#x",
        "https://alpha.example:",
        "https://alpha example",
    ],
)
def test_other_base_urls_have_no_authority(base: str) -> None:
    with pytest.raises(MalformedError, match="base URL"):
        authority_of(base)


def test_the_library_refuses_what_we_refuse() -> None:
    changed = Message(replace(GET, path="/x"), signed(GET))
    with pytest.raises(LibraryError):
        LIBRARY_VERIFIER.verify(changed, max_age=None, expect_tag="hsf-v1")


def test_only_a_signature_that_does_not_match_says_so() -> None:
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    for request, check in ((GET, verify_request), (POST, verify_request_head)):
        with pytest.raises(AuthInvalidError) as caught:
            check(request, signed(request), public_key=other, now=NOW)
        assert caught.value.is_mismatch
        wrong = signed(request) | {"Signature": "hsf=:AA==:"}
        with pytest.raises(AuthInvalidError) as caught:
            check(request, wrong, public_key=other, now=NOW)
        assert not caught.value.is_mismatch


@pytest.mark.parametrize("missing", ["Content-Digest", "Content-Type"])
def test_a_head_without_its_bodys_fields_is_refused(missing: str) -> None:
    headers = signed(POST)
    del headers[missing]
    with pytest.raises(AuthInvalidError):
        verify_request_head(POST, headers, public_key=PUBLIC_KEY, now=NOW)


def test_an_announced_body_that_is_empty_is_refused() -> None:
    with pytest.raises(AuthInvalidError, match="there is none"):
        verify_body({"Content-Digest": encode_content_digest(b"")}, b"")


def test_a_body_read_in_pieces_is_compared_by_its_digest() -> None:
    headers = signed(POST)
    verify_body_digest(headers, hashlib.sha256(POST.body).digest())
    with pytest.raises(AuthInvalidError, match="does not match"):
        verify_body_digest(headers, hashlib.sha256(POST.body + b"x").digest())
