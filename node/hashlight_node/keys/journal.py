"""When each key was first named in a signed document; every key there ever was.

A key can be retired when peers had time to see its successor, and what a retired key of
a log has signed must still be recognised when a peer shows it to us. Neither may depend
on the database, which can be restored from a backup.

One line for each key: Unix seconds and the vkey.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hashlight_protocol import BadKeyError, VerifierKey, encode_vkey, parse_vkey

from .errors import KeyFileError
from .files import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

JOURNAL_FILE: Final = "published.txt"


class Journal:
    """Remembers which keys were published, and when.

    Args:
        directory: Where the keys are.

    Raises:
        KeyFileError: The file is damaged.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / JOURNAL_FILE
        self._published = _read(self._path)

    def published_at(self, key: VerifierKey) -> int | None:
        """Tell when a key was first in a signed document, Unix seconds."""
        return self._published.get(key)

    def named(self, name: str) -> tuple[VerifierKey, ...]:
        """List the keys that were ever published under a name, oldest first."""
        return tuple(key for key in self._published if key.name == name)

    def names(self) -> tuple[str, ...]:
        """List the names of all keys that were ever published."""
        return tuple(key.name for key in self._published)

    def publish(self, keys: Iterable[VerifierKey], now: int) -> None:
        """Write down that keys are in a signed document; the first time counts."""
        new = dict.fromkeys((key for key in keys if key not in self._published), now)
        if new:
            self._save({**self._published, **new})

    def age(self, key: VerifierKey) -> None:
        """Let a key count as published long ago, so that it replaces others at once."""
        self._save({**self._published, key: 0})

    def _save(self, published: dict[VerifierKey, int]) -> None:
        lines = (f"{at} {encode_vkey(key)}\n" for key, at in published.items())
        replace_file(self._path, "".join(lines).encode())
        self._published = published


def _read(path: Path) -> dict[VerifierKey, int]:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(path, "cannot be read") from error
    published: dict[VerifierKey, int] = {}
    try:
        for line in lines:
            at, _, vkey = line.partition(" ")
            published[parse_vkey(vkey)] = int(at)
    except (BadKeyError, ValueError) as error:
        raise KeyFileError(path, f"is damaged ({error})") from error
    return published
