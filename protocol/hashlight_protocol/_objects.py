"""JSON documents of the protocol: members read one by one, text written compactly.

Members that are not asked for are ignored, so that later versions can add some.
"""

import json
from collections.abc import Mapping

from hashlight_protocol.errors import MalformedError
from hashlight_protocol.ijson import JsonValue, parse_ijson


def encode_json(value: Mapping[str, object]) -> bytes:
    """Write JSON without spaces, members in the order of the mapping.

    Raises:
        MalformedError: A string is not Unicode text.
    """
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise MalformedError("JSON", "a string is not Unicode text") from None


class JsonObject:
    """An object of a document, with the document's name for errors."""

    def __init__(self, value: JsonValue, what: str) -> None:
        if not isinstance(value, dict):
            raise MalformedError(what, "it is not an object where one is needed")
        self.members: dict[str, JsonValue] = value
        self.what = what

    @classmethod
    def parse(cls, raw: bytes, what: str, *, max_bytes: int) -> "JsonObject":
        """Read a document that is one object.

        Raises:
            MalformedError: The bytes are not I-JSON, or not an object.
            TooLargeError: They are too long.
        """
        return cls(parse_ijson(raw, max_bytes=max_bytes, what=what), what)

    def string(self, name: str) -> str:
        """Give a string member."""
        value = self.members.get(name)
        if not isinstance(value, str):
            raise MalformedError(self.what, f"{name} is not a string")
        return value

    def number(self, name: str) -> int:
        """Give a member that is a whole number from 0."""
        value = self.members.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise MalformedError(self.what, f"{name} is not a whole number from 0")
        return value

    def child(self, name: str) -> "JsonObject":
        """Give a member that is an object."""
        return JsonObject(self.members.get(name), self.what)

    def optional_child(self, name: str) -> "JsonObject | None":
        """Give a member that is an object, or None if it is missing."""
        return self.child(name) if name in self.members else None

    def nullable_child(self, name: str) -> "JsonObject | None":
        """Give a member that is an object or null, and is not missing."""
        is_null = name in self.members and self.members[name] is None
        return None if is_null else self.child(name)

    def children(self, name: str, *, most: int) -> "list[JsonObject]":
        """Give a member that is an array of objects, at most `most` of them."""
        return [JsonObject(value, self.what) for value in self._array(name, most)]

    def strings(self, name: str, *, most: int) -> tuple[str, ...]:
        """Give a member that is an array of strings, at most `most` of them."""
        values = self._array(name, most)
        if not all(isinstance(value, str) for value in values):
            raise MalformedError(self.what, f"{name} has something but strings in it")
        return tuple(map(str, values))

    def _array(self, name: str, most: int) -> list[JsonValue]:
        value = self.members.get(name)
        if not isinstance(value, list) or len(value) > most:
            raise MalformedError(
                self.what, f"{name} is not an array of {most} or fewer"
            )
        return value
