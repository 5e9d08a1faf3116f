"""Documents: notes by a node's identity key whose text is a header and one JSON object.

Source: SPEC.md#descriptor and SPEC.md#list-note.
"""

from collections.abc import Mapping

from hashlight_protocol._objects import JsonObject, encode_json
from hashlight_protocol.errors import BadKeyError, MalformedError
from hashlight_protocol.keys import ED25519, Signer, VerifierKey
from hashlight_protocol.notes import open_note, sign_note
from hashlight_protocol.origins import is_node_name

MAX_DESCRIPTOR_BYTES = 256 * 1024
"""Largest descriptor or list note. Source: SPEC.md#limits."""


def sign_document(
    header: bytes, document: Mapping[str, object], signer: Signer
) -> bytes:
    """Sign a document.

    Args:
        header: First line, with its newline.
        document: What the JSON says.
        signer: Holder of the identity key.

    Returns:
        The note.

    Raises:
        MalformedError: A string is not Unicode text.
        TooLargeError: The note would be too large.
    """
    text = b"%s%s\n" % (header, encode_json(document))
    return sign_note(text, [signer], max_bytes=MAX_DESCRIPTOR_BYTES)


def open_document(
    raw: bytes, identity: VerifierKey, *, header: bytes, what: str
) -> JsonObject:
    """Read a document that a node's identity key must have signed.

    Args:
        raw: The note.
        identity: Identity key, pinned out of band.
        header: First line, with its newline.
        what: Name of the document in errors.

    Raises:
        MalformedError: The bytes are not such a document.
        TooLargeError: They are too many.
        BadKeyError: The key is not one that a node has as its identity.
        BadSignatureError: The signature does not hold.
        UnknownKeyError: The identity key did not sign.
    """
    if identity.key_type != ED25519 or not is_node_name(identity.name):
        raise BadKeyError("an identity key has type 0x01 and the name of its node")
    opened = open_note(raw, [identity], max_bytes=MAX_DESCRIPTOR_BYTES, what=what)
    first, _, rest = opened.note.text.partition(b"\n")
    line, newline, more = rest.partition(b"\n")
    if first + b"\n" != header or not newline or more:
        raise MalformedError(what, "it is not its header and one line of JSON")
    return JsonObject.parse(line, what, max_bytes=MAX_DESCRIPTOR_BYTES)
