"""The error tree: codes are unique and sentences keep secrets."""

import re
from collections.abc import Iterator

import hashlight_protocol
from hashlight_protocol import ProtocolError


def subclasses(cls: type[ProtocolError]) -> Iterator[type[ProtocolError]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [error.code for error in subclasses(ProtocolError)]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)


def test_every_error_is_public_and_listed_in_the_tree() -> None:
    for error in subclasses(ProtocolError):
        assert error.__name__ in hashlight_protocol.__all__
        assert error.__name__ in (hashlight_protocol.errors.__doc__ or "")


def test_everything_public_exists_once() -> None:
    names = hashlight_protocol.__all__
    assert len(set(names)) == len(names)
    assert all(hasattr(hashlight_protocol, name) for name in names)
