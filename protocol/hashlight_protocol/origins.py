"""How nodes, lists, logs and single records are named.

A log's origin is `<node>/hsf/v1/log/<list>/<epoch>`. The part before the epoch is the
list id: it stays when a list starts again in a new log.

Source: SPEC.md#names.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache

from hashlight_protocol._text import parse_decimal
from hashlight_protocol.errors import MalformedError

MAX_NODE_NAME = 253
"""Longest node name in characters, the limit of DNS. Source: RFC 1035 section 2.3.4."""

MAX_EPOCH = 2**31 - 1
"""Largest epoch; every database stores it as a plain integer."""

MAX_ORIGIN = MAX_NODE_NAME + len("/hsf/v1/log/") + 64 + len(f"/{MAX_EPOCH}")
"""Longest origin in characters, all of them ASCII."""

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# The last label holds a letter, so that an IP address is never a node name.
_NODE = re.compile(rf"(?:{_LABEL}\.)*(?=[a-z0-9-]*[a-z]){_LABEL}", re.ASCII)
_LIST = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)
_LIST_ID = "{node}/hsf/v1/log/{list_name}"
_ORIGIN_PARTS = 6


@dataclass(frozen=True, slots=True)
class LogName:
    """What an origin says: whose list it is, and which log of that list.

    Attributes:
        node: Node name, a DNS name in lower case.
        list_name: Name of the list within the node.
        epoch: 1 for the first log of a list, counted up for each that replaces it.

    Source: SPEC.md#names.
    """

    node: str
    list_name: str
    epoch: int

    @property
    def list_id(self) -> str:
        """Id of the list, the same in every epoch."""
        return list_id(self.node, self.list_name)

    @property
    def origin(self) -> str:
        """The origin, as it stands in a checkpoint."""
        return log_origin(self.node, self.list_name, self.epoch)


@dataclass(frozen=True, slots=True)
class Ref:
    """The name of one entry: a log and a position in it.

    Attributes:
        origin: Origin of the log.
        leaf_index: Position of the entry, from 0.

    Source: SPEC.md#names.
    """

    origin: str
    leaf_index: int


def is_node_name(name: str) -> bool:
    """Tell whether a text is a node name: a DNS name in lower case, no IP address.

    Source: SPEC.md#names.
    """
    return len(name) <= MAX_NODE_NAME and _NODE.fullmatch(name) is not None


def is_list_name(name: str) -> bool:
    """Tell whether a text is a list name: 1 to 64 of `a-z 0-9 -`, no hyphen first.

    Source: SPEC.md#names.
    """
    return _LIST.fullmatch(name) is not None


def list_id(node: str, list_name: str) -> str:
    """Name a list for ever; commitments bind this.

    Raises:
        MalformedError: One of the two is not a name.

    Source: SPEC.md#names.
    """
    if not is_node_name(node):
        raise MalformedError("node name", "it is not a DNS name in lower case")
    if not is_list_name(list_name):
        raise MalformedError("list name", "it is not 1 to 64 of a-z, 0-9 and hyphen")
    return _LIST_ID.format(node=node, list_name=list_name)


def log_origin(node: str, list_name: str, epoch: int) -> str:
    """Name one log of a list.

    Raises:
        MalformedError: One of the three is out of its range.

    Source: SPEC.md#names.
    """
    if not 0 < epoch <= MAX_EPOCH:
        raise MalformedError("epoch", f"it is not within 1 to {MAX_EPOCH}")
    return f"{list_id(node, list_name)}/{epoch}"


@lru_cache(maxsize=256)
def parse_origin(text: str) -> LogName:
    """Take an origin apart.

    Raises:
        MalformedError: The text is not an origin of this protocol.

    Source: SPEC.md#names.
    """
    parts = text.split("/", _ORIGIN_PARTS)
    if len(parts) != _ORIGIN_PARTS:
        raise MalformedError("origin", "it does not have six parts")
    name = LogName(parts[0], parts[4], parse_decimal(parts[5], "origin"))
    if name.origin != text:
        raise MalformedError("origin", "it is not <node>/hsf/v1/log/<list>/<epoch>")
    return name


def parse_ref(text: str) -> Ref:
    """Take `<origin>#<index>` apart.

    Raises:
        MalformedError: The text does not name an entry.

    Source: SPEC.md#names.
    """
    origin, separator, index = text.partition("#")
    if not separator:
        raise MalformedError("ref", "it has no #")
    parse_origin(origin)
    return Ref(origin, parse_decimal(index, "ref"))


def encode_ref(ref: Ref) -> str:
    """Write `<origin>#<index>`.

    Raises:
        MalformedError: The value does not name an entry.

    Source: SPEC.md#names.
    """
    text = f"{ref.origin}#{ref.leaf_index}"
    parse_ref(text)
    return text


def origin_hash(origin: str) -> str:
    """Name a log in a URL path: the SHA-256 of its origin, 64 hexadecimal digits.

    A list is named likewise, by the SHA-256 of its id.

    Source: C2SP tlog-mirror; SPEC.md#witnessing and SPEC.md#relays.
    """
    return hashlib.sha256(origin.encode()).hexdigest()
