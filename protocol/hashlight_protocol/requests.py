"""Requests that prove which node sent them: a narrow profile of RFC 9421.

The profile leaves the sender no choice of what is covered: method, authority and path
always, digest and type of the content if there is any. Everything that follows from the
profile is compared as text instead of being parsed, so there is little to get wrong.

Callers give the current time and the authority under which they are reached. The Host
field is not trusted for that: a request signed for one node must not work at another.

Source: RFC 9421 and RFC 9530; SPEC.md#requests.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hashlight_protocol._text import encode_base64, parse_base64
from hashlight_protocol.errors import (
    AuthInvalidError,
    AuthMissingError,
    ClockSkewError,
    MalformedError,
)
from hashlight_protocol.origins import is_node_name

LABEL: Final = "hsf"
TAG: Final = "hsf-v1"

MAX_AGE_SECONDS: Final = 300
"""Oldest signature that counts. Source: SPEC.md#limits."""

MAX_AHEAD_SECONDS: Final = 60
"""How far a sender's clock may run ahead. Source: SPEC.md#limits."""

MAX_PATH: Final = 1_024
"""Longest path of a request in characters. Source: SPEC.md#limits."""

_METHOD: Final = re.compile(r"[A-Z]{1,16}")
_AUTHORITY: Final = re.compile(
    r"(?:[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::[1-9][0-9]{0,4})?"
)
_BASE: Final = re.compile(r"(https?)://([^/?#@]+)(?:/[^?#]*)?", re.IGNORECASE)
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
# No percent-encoding, no empty segment, no `.` or `..`: two texts for one resource
# would be two signatures for one request, and proxies rewrite some of them.
_PATH: Final = re.compile(r"/|(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+")
_HTTP_KEY_ID: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_CONTENT_DIGEST: Final = re.compile(r"sha-256=:[A-Za-z0-9+/]{43}=:")
_CONTENT_TYPE: Final = re.compile(r"[!-~](?:[ -~]{0,254}[!-~])?")

_PARAMETER: Final = re.compile(
    r';(?:(created)=([0-9]{1,15})|(keyid|tag|alg|nonce)="([ !#-\[\]-~]{0,320})")'
)
_SIGNATURE_INPUT: Final = re.compile(
    rf'{LABEL}=(\((?:"[@a-z-]{{1,32}}" ?){{0,8}}\))'
    rf"((?:{_PARAMETER.pattern.replace('(created)', 'created')}){{1,5}})"
)
_SIGNATURE: Final = re.compile(rf"{LABEL}=:([A-Za-z0-9+/=]{{88}}):")

_FIELDS: Final = frozenset(
    {"signature-input", "signature", "content-digest", "content-type"}
)


class RequestSigner(Protocol):
    """Whoever holds a node's HTTP key; `Signer` is one."""

    def sign(self, message: bytes) -> bytes:
        """Make the raw Ed25519 signature, 64 bytes, over exactly these bytes."""
        ...


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """The part of a request that a signature speaks for.

    Attributes:
        method: In capitals.
        authority: Host in lower case, with the port unless it is the scheme's default.
            A sender takes it from the peer's base URL, a receiver from its own.
        path: As sent; at most 1,024 characters, none of them percent-encoded.
        body: The content as transferred, empty if there is none.

    Raises:
        MalformedError: One of the first three has another form; above all, `path`
            has a query.

    Source: SPEC.md#requests.
    """

    method: str
    authority: str
    path: str
    body: bytes = b""

    def __post_init__(self) -> None:
        if _METHOD.fullmatch(self.method) is None:
            raise MalformedError("request", "the method is not in capitals")
        if _AUTHORITY.fullmatch(self.authority) is None:
            raise MalformedError("request", "the authority is not host or host:port")
        if len(self.path) > MAX_PATH or _PATH.fullmatch(self.path) is None:
            raise MalformedError("request", "the target is not a plain path")


def authority_of(base: str) -> str:
    """Give the authority that requests to a node are signed for.

    Args:
        base: Base URL of the node, from its descriptor or from its own settings.

    Returns:
        Host in lower case, with the port unless it is the scheme's default.

    Raises:
        MalformedError: `base` is not an http or https URL without user and query.

    Source: RFC 9421, section 2.2.3; SPEC.md#requests.
    """
    match = _BASE.fullmatch(base)
    if match is None:
        raise MalformedError("base URL", "it is not http://host or https://host")
    authority = match[2].lower().removesuffix(_DEFAULT_PORTS[match[1].lower()])
    if _AUTHORITY.fullmatch(authority) is None:
        raise MalformedError("base URL", "its authority is not host or host:port")
    return authority


def encode_content_digest(body: bytes) -> str:
    """Write the Content-Digest field of a body.

    Source: RFC 9530, section 2; SPEC.md#requests.
    """
    return _encode_digest(hashlib.sha256(body).digest())


def _encode_digest(digest: bytes) -> str:
    return f"sha-256=:{encode_base64(digest)}:"


def signature_base(components: Sequence[tuple[str, str]], params: str) -> bytes:
    """Build the bytes that a message signature covers.

    Args:
        components: Names and values of the covered components, in order.
        params: Value of `@signature-params`: the list of names and the parameters.

    Source: RFC 9421, section 2.5.
    """
    lines = [*components, ("@signature-params", params)]
    return "\n".join(f'"{name}": {value}' for name, value in lines).encode("ascii")


def sign_request(
    request: HttpRequest,
    *,
    content_type: str | None,
    key_id: str,
    signer: RequestSigner,
    now: int,
) -> dict[str, str]:
    """Make the header fields that authenticate a request.

    Args:
        request: What will be sent, byte for byte.
        content_type: Media type of the body; None exactly if there is no body.
        key_id: `<node>#<http key id>`, the sender and one of its published keys.
        signer: Holds the private half of that key.
        now: Unix seconds.

    Returns:
        `Signature-Input` and `Signature`; with a body, `Content-Digest` and
        `Content-Type` too.

    Raises:
        MalformedError: `key_id` or `content_type` has another form.

    Source: RFC 9421, section 3.1; SPEC.md#requests.
    """
    _split_key_id(key_id)
    headers: dict[str, str] = {}
    if request.body:
        if content_type is None or _CONTENT_TYPE.fullmatch(content_type) is None:
            raise MalformedError("request", "a body needs a content type")
        headers["Content-Digest"] = encode_content_digest(request.body)
        headers["Content-Type"] = content_type
    elif content_type is not None:
        raise MalformedError("request", "there is a content type but no body")
    components = _components(request, headers)
    names = _component_names(components)
    params = f'{names};created={now};keyid="{key_id}";tag="{TAG}"'
    signature = signer.sign(signature_base(components, params))
    return headers | {
        "Signature-Input": f"{LABEL}={params}",
        "Signature": f"{LABEL}=:{encode_base64(signature)}:",
    }


def parse_key_id(headers: Mapping[str, str]) -> tuple[str, str]:
    """Read who a request says it is from, to find the key that can tell.

    Nothing is verified: `verify_request` has to follow.

    Args:
        headers: Header fields, names in any case. A mapping whose `items()` repeats
            a name, as multidicts do, shows repeated fields.

    Returns:
        Node name and id of its HTTP key.

    Raises:
        AuthMissingError: The request is not signed.
        AuthInvalidError: The signature's description is not of the profile.

    Source: SPEC.md#requests.
    """
    return _parse_signature_input(_signature_fields(headers)).key_id


def verify_request(
    request: HttpRequest, headers: Mapping[str, str], *, public_key: bytes, now: int
) -> None:
    """Check that the owner of a key sent exactly this request, recently.

    Args:
        request: What arrived; `authority` is the receiver's own, from its settings.
        headers: As for `parse_key_id`.
        public_key: The key that `parse_key_id` led to, 32 bytes, checked when its
            node's descriptor was opened.
        now: Unix seconds.

    Raises:
        AuthMissingError: The request is not signed.
        AuthInvalidError: The signature is not of the profile, covers something else,
            or was not made with this key over this request (`is_mismatch`).
        ClockSkewError: It was made more than 300 s ago or lies more than 60 s ahead.

    Source: RFC 9421, section 3.2; SPEC.md#requests.
    """
    fields = _signature_fields(headers)
    description = _parse_recent(fields, now)
    if request.body:
        _verify_digest(fields, request.body)
        _verify_content_type(fields)
    covered = _components(request, fields)
    _verify_signature(fields, description, covered, public_key)


def verify_request_head(
    request: HttpRequest, headers: Mapping[str, str], *, public_key: bytes, now: int
) -> None:
    """Check who sent a request whose body has not arrived yet.

    The signature covers the body's digest, so that is possible. `verify_body` has to
    follow when the body is there.

    Args:
        request: What arrived so far; its `body` is not looked at.
        headers: As for `parse_key_id`.
        public_key: As for `verify_request`.
        now: Unix seconds.

    Raises:
        AuthMissingError: The request is not signed.
        AuthInvalidError: The signature is not of the profile, covers something else,
            or was not made with this key over this head (`is_mismatch`); or the
            body's digest or type is missing.
        ClockSkewError: It was made more than 300 s ago or lies more than 60 s ahead.

    Source: RFC 9421, section 3.2; SPEC.md#requests.
    """
    fields = _signature_fields(headers)
    description = _parse_recent(fields, now)
    if _CONTENT_DIGEST.fullmatch(fields.get("content-digest", "")) is None:
        raise AuthInvalidError("Content-Digest is not of the profile")
    _verify_content_type(fields)
    covered = [*_target(request), *_content(fields)]
    _verify_signature(fields, description, covered, public_key)


def verify_body(headers: Mapping[str, str], body: bytes) -> None:
    """Check that a body is the one that a verified head announced.

    Args:
        headers: Those that `verify_request_head` let pass.
        body: The content as transferred.

    Raises:
        AuthInvalidError: It is another, or empty.

    Source: RFC 9530, section 2; SPEC.md#requests.
    """
    if not body:
        raise AuthInvalidError("it announces a body and there is none")
    _verify_digest(_signature_fields(headers), body)


def verify_body_digest(headers: Mapping[str, str], digest: bytes) -> None:
    """Check a body that was read in pieces, as `verify_body` checks one that is whole.

    Args:
        headers: Those that `verify_request_head` let pass.
        digest: SHA-256 of the content as transferred, 32 bytes.

    Raises:
        AuthInvalidError: The content is another.

    Source: RFC 9530, section 2; SPEC.md#uploads.
    """
    _compare_digests(_signature_fields(headers), digest)


@dataclass(frozen=True, slots=True)
class _Description:
    """What a Signature-Input field says.

    Attributes:
        params: The member's value as it came, the last line of the signature base.
        names: The part of `params` that lists the covered components.
        created: Unix seconds.
        key_id: Node name and id of its HTTP key.
    """

    params: str
    names: str
    created: int
    key_id: tuple[str, str]


def _signature_fields(headers: Mapping[str, str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, value in headers.items():
        field = name.lower()
        if field in _FIELDS:
            if field in fields:
                raise AuthInvalidError(f"the field {field} is repeated")
            fields[field] = value.strip(" \t")
    return fields


def _parse_signature_input(fields: Mapping[str, str]) -> _Description:
    value = fields.get("signature-input")
    if value is None:
        raise AuthMissingError
    match = _SIGNATURE_INPUT.fullmatch(value)
    if match is None:
        raise AuthInvalidError("Signature-Input is not of the profile")
    found = [
        (created or name, seconds or text)
        for created, seconds, name, text in _PARAMETER.findall(match[2])
    ]
    parameters = dict(found)
    if len(parameters) != len(found) or not {"created", "keyid"} <= parameters.keys():
        raise AuthInvalidError("a parameter is repeated or missing")
    if parameters.get("tag") != TAG or parameters.get("alg", "ed25519") != "ed25519":
        raise AuthInvalidError("tag or alg is not that of the profile")
    try:
        key_id = _split_key_id(parameters["keyid"])
    except MalformedError as error:
        raise AuthInvalidError(error.reason) from error
    return _Description(
        params=match[1] + match[2],
        names=match[1],
        created=int(parameters["created"]),
        key_id=key_id,
    )


def _split_key_id(key_id: str) -> tuple[str, str]:
    node, _, http_key_id = key_id.partition("#")
    if not is_node_name(node) or _HTTP_KEY_ID.fullmatch(http_key_id) is None:
        raise MalformedError("key id", "keyid is not <node>#<http key id>")
    return node, http_key_id


def _parse_signature(fields: Mapping[str, str]) -> bytes:
    match = _SIGNATURE.fullmatch(fields.get("signature", ""))
    if match is None:
        raise AuthInvalidError("Signature is not of the profile")
    try:
        return parse_base64(match[1], "signature")
    except MalformedError as error:
        raise AuthInvalidError(error.reason) from error


def _parse_recent(fields: Mapping[str, str], now: int) -> _Description:
    description = _parse_signature_input(fields)
    if not -MAX_AHEAD_SECONDS <= now - description.created <= MAX_AGE_SECONDS:
        raise ClockSkewError(description.created, now)
    return description


def _verify_digest(fields: Mapping[str, str], body: bytes) -> None:
    _compare_digests(fields, hashlib.sha256(body).digest())


def _compare_digests(fields: Mapping[str, str], digest: bytes) -> None:
    if fields.get("content-digest") != _encode_digest(digest):
        raise AuthInvalidError("Content-Digest does not match the body")


def _verify_content_type(fields: Mapping[str, str]) -> None:
    if _CONTENT_TYPE.fullmatch(fields.get("content-type", "")) is None:
        raise AuthInvalidError("the body has no content type")


def _verify_signature(
    fields: Mapping[str, str],
    description: _Description,
    covered: Sequence[tuple[str, str]],
    public_key: bytes,
) -> None:
    if description.names != _component_names(covered):
        raise AuthInvalidError("it does not cover exactly the required components")
    signature = _parse_signature(fields)
    base = signature_base(covered, description.params)
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, base)
    except InvalidSignature:
        reason = "it does not match the request"
        raise AuthInvalidError(reason, is_mismatch=True) from None


def _components(
    request: HttpRequest, headers: Mapping[str, str]
) -> list[tuple[str, str]]:
    fields = {name.lower(): value for name, value in headers.items()}
    return [*_target(request), *(_content(fields) if request.body else ())]


def _target(request: HttpRequest) -> list[tuple[str, str]]:
    return [
        ("@method", request.method),
        ("@authority", request.authority),
        ("@path", request.path),
    ]


def _content(fields: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, fields[name]) for name in ("content-digest", "content-type")]


def _component_names(components: Sequence[tuple[str, str]]) -> str:
    return "(" + " ".join(f'"{name}"' for name, _ in components) + ")"
