"""Notes that a node sends about itself, because nobody can fetch them from it.

A node that cannot be dialled sends its descriptor and its list notes to those that
mirror its lists. They are the notes that it would have given on request, signed by its
identity key, and are judged by the same rules.

Source: SPEC.md#uploads.
"""

from hashlight_protocol.descriptor import Descriptor, open_descriptor
from hashlight_protocol.keys import VerifierKey
from hashlight_protocol.list_note import ListNote, open_list_note

_LIST_HEADER = b"hsf-list/v1\n"


def open_added_note(raw: bytes, identity: VerifierKey) -> Descriptor | ListNote:
    """Read a note that a node sent about itself.

    Whether it follows the one seen before is for `verify_successor`.

    Args:
        raw: The note.
        identity: The sender's identity key, pinned out of band.

    Raises:
        MalformedError: It is neither a descriptor of the sender nor a note about one
            of its lists.
        TooLargeError: It is too long.
        BadKeyError: The key is not one that a node has as its identity.
        BadSignatureError: The signature does not hold.
        UnknownKeyError: The identity key did not sign.

    Source: SPEC.md#uploads.
    """
    if raw.startswith(_LIST_HEADER):
        return open_list_note(raw, identity)
    return open_descriptor(raw, identity)
