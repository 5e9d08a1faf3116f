"""What travels to the machine with the identity key and back: text for people.

    hashlight-request/v1
    node shield.example
    identity shield.example+e7256874+AU...

    # to be signed: descriptor
    hsf-node/v1
    {"name":"shield.example", ...}

Lines that begin with `#` are for the reader and mean nothing: whoever signs says what
it signs in its own words. What comes back is `hashlight-signed/v1` and the notes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hashlight_protocol import (
    MAX_DESCRIPTOR_BYTES,
    Descriptor,
    MalformedError,
    StaleVersionError,
    encode_vkey,
    is_list_name,
    open_descriptor,
    open_list_note,
    parse_vkey,
    sign_note,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from hashlight_protocol import ListNote, Signer, VerifierKey

_REQUEST: Final = "hashlight-request/v1"
_SIGNED: Final = "hashlight-signed/v1"
_DESCRIPTOR: Final = b"hsf-node/v1\n"
_LIST: Final = b"hsf-list/v1\n"
_WHAT: Final = "request"
_LINES_OF_A_NOTE: Final = 3
_VERSION_DIGITS: Final = 19
MAX_CEREMONY_BYTES: Final = 16 * 1024 * 1024
"""Largest request, and largest answer to one."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a node wants to have signed.

    Attributes:
        identity: Whose signature it needs.
        texts: The documents' texts.
    """

    identity: VerifierKey
    texts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """One document that is signed now.

    Attributes:
        subject: What it is about.
        version: Its version.
        digest: SHA-256 of its text in hex, to compare with what was signed before.
        note: The signed note.
        lines: What it says, for a person.
    """

    subject: str
    version: int
    digest: str
    note: bytes
    lines: tuple[str, ...]


Signed = dict[str, tuple[int, str]]
"""By subject of a document, the version that was signed last and its text's digest."""


def subject_of(text: bytes) -> str:
    """Name what a document is about: `descriptor`, or `list-` and the list's name.

    Raises:
        MalformedError: It is neither a descriptor nor a list note.
    """
    if text.startswith(_DESCRIPTOR):
        return "descriptor"
    if not text.startswith(_LIST):
        raise MalformedError(_WHAT, "a text is no document of a node")
    try:
        identifier = json.loads(text.removeprefix(_LIST))["id"]
        name = str(identifier).rpartition("/")[2]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise MalformedError(_WHAT, "a text is no document of a node") from None
    if not is_list_name(name):
        raise MalformedError(_WHAT, "a text is no document of a node")
    return f"list-{name}"


def version_of(document: bytes) -> int:
    """Read the version of a document that was verified before; a note or its text."""
    return int(json.loads(document.split(b"\n")[1])["version"])


def encode_request(identity: VerifierKey, texts: Sequence[bytes]) -> bytes:
    """Write a request; its documents stay as they are, to the byte."""
    lines = [_REQUEST, f"node {identity.name}", f"identity {encode_vkey(identity)}"]
    for text in texts:
        lines += ["", f"# to be signed: {subject_of(text)}"]
        lines += text.decode().removesuffix("\n").split("\n")
    return ("\n".join(lines) + "\n").encode()


def parse_request(raw: bytes) -> Request:
    """Read a request; nothing in it is verified but its form.

    Raises:
        MalformedError: It is none.
        BadKeyError: The identity is not a verifier key.
    """
    lines = [line for line in _lines(raw) if line and not line.startswith("#")]
    head, documents = lines[:3], lines[3:]
    if len(head) < 3 or head[0] != _REQUEST or len(documents) % 2:  # noqa: PLR2004
        raise MalformedError(_WHAT, "it is not one of this version")
    identity = parse_vkey(head[2].removeprefix("identity "))
    if head[1] != f"node {identity.name}":
        raise MalformedError(_WHAT, "it names another node than its key")
    pairs = zip(documents[::2], documents[1::2], strict=True)
    texts = tuple(f"{first}\n{second}\n".encode() for first, second in pairs)
    return Request(identity, texts)


def sign_request_of(
    request: Request, signer: Signer, signed_before: Signed
) -> tuple[Signature, ...]:
    """Sign what a node asked for; all of it or nothing.

    Args:
        request: What it asked for.
        signer: Holder of the identity key.
        signed_before: What this key signed last.

    Raises:
        MalformedError: The request is for another key, or a text is no document.
        BadKeyError: A document names a key that proves nothing, or one twice.
        StaleVersionError: A document goes back behind what was signed before, or says
            something else under the same version.
    """
    if request.identity != signer.key:
        raise MalformedError(_WHAT, "it is for another identity key")
    signatures = tuple(_sign(text, signer) for text in request.texts)
    for one in signatures:
        version, digest = signed_before.get(one.subject, (-1, ""))
        if one.version < version or (one.version == version and one.digest != digest):
            raise StaleVersionError(one.subject, version, one.version)
    return signatures


def encode_signed(signatures: Sequence[Signature]) -> bytes:
    """Write what goes back to the node."""
    notes = (b"\n" + one.note for one in signatures)
    return _SIGNED.encode() + b"\n" + b"".join(notes)


def parse_signed(raw: bytes) -> tuple[bytes, ...]:
    """Take the signed notes apart; nothing is verified.

    Raises:
        MalformedError: It is not what `encode_signed` writes.
    """
    head, *rest = [line for line in _lines(raw) if line] or [""]
    if head != _SIGNED or not rest or len(rest) % _LINES_OF_A_NOTE:
        raise MalformedError("signed documents", "they are not of this version")
    return tuple(
        f"{header}\n{document}\n\n{signature}\n".encode()
        for header, document, signature in zip(*[iter(rest)] * 3, strict=True)
    )


def encode_signed_before(signed: Signed) -> bytes:
    """Write down what a key signed last, a line for each document."""
    rows = ((name, *said) for name, said in signed.items())
    return "".join(
        f"{name} {version} {digest}\n" for name, version, digest in rows
    ).encode()


def parse_signed_before(raw: bytes) -> Signed:
    """Read what `encode_signed_before` wrote.

    Raises:
        MalformedError: It is something else.
    """
    signed: Signed = {}
    for line in _lines(raw):
        if line:
            name, version, digest = [*line.split(" "), "", ""][:3]
            if not version.isdecimal() or len(version) > _VERSION_DIGITS:
                raise MalformedError("record of what was signed", "it is damaged")
            signed[name] = (int(version), digest)
    return signed


def remember_signed(signed: Signed, signatures: Sequence[Signature]) -> Signed:
    """Add what is signed now to what was signed before."""
    return {**signed, **{one.subject: (one.version, one.digest) for one in signatures}}


def _sign(text: bytes, signer: Signer) -> Signature:
    note = sign_note(text, [signer], max_bytes=MAX_DESCRIPTOR_BYTES)
    subject = subject_of(text)
    # Read as a peer will read it: what a peer refuses is not signed.
    document: Descriptor | ListNote
    if subject == "descriptor":
        document = open_descriptor(note, signer.key)
    else:
        document = open_list_note(note, signer.key)
    lines = tuple(describe(document))
    digest = hashlib.sha256(text).hexdigest()
    return Signature(subject, document.version, digest, note, lines)


def describe(document: Descriptor | ListNote) -> Iterator[str]:
    """Say in lines for a person what a document says."""
    if isinstance(document, Descriptor):
        yield f"descriptor of {document.name}, version {document.version}"
        yield f"  base     {document.base}"
        for key in document.http_keys:
            yield f"  HTTP     {key.id} {base64.b64encode(key.public_key).decode()}"
        yield f"  witness  {encode_vkey(document.witness)}"
        yield f"  mirror   {encode_vkey(document.mirror)}"
        yield f"  limits   {_members(document.limits)}"
        yield f"  features {' '.join(document.features) or 'none'}"
        return
    yield f"list note {document.id}, version {document.version}"
    yield f"  meta     {_members(document.meta)}"
    for log in document.logs:
        end = "" if log.final is None else f", final size {log.final.tree_size}"
        yield f"  log      {log.origin} ({log.state}{end})"
        for vkey in log.vkeys:
            yield f"           signed by {encode_vkey(vkey)}"


def _members(members: Mapping[str, object]) -> str:
    # With escapes: what a terminal would obey must not come out of a request.
    return json.dumps(dict(members), ensure_ascii=True)


def _lines(raw: bytes) -> list[str]:
    if len(raw) > MAX_CEREMONY_BYTES:
        raise MalformedError(_WHAT, "it is too large")
    try:
        return raw.decode().split("\n") or [""]
    except UnicodeDecodeError:
        raise MalformedError(_WHAT, "it is not text") from None
