"""The descriptor of this node: what it says, and that it never goes back.

The newest signed descriptor lies beside the keys and not in the database: peers refuse
a version that goes back, and the database may be restored from a backup.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from hashlight_protocol import (
    HttpKey,
    ProtocolError,
    open_descriptor,
    sign_descriptor,
)

from .errors import KeyFileError
from .files import replace_file
from .keyring import http_key_id

if TYPE_CHECKING:
    from pathlib import Path

    from hashlight_protocol import Descriptor, VerifierKey

    from .keyring import Keyring

_DESCRIPTOR_FILE: Final = "descriptor.note"


def publish_descriptor(keyring: Keyring, draft: Descriptor) -> bytes:
    """Sign what this node says about itself, or give what it has signed before.

    Args:
        keyring: Holds the identity key.
        draft: What to say; its version is not looked at.

    Returns:
        The signed note. Its version is one higher than the last if it says something
        new.

    Raises:
        KeyFileError: The kept descriptor is damaged.
        IdentityOfflineError: It has to be signed elsewhere.
    """
    last = _read_last(keyring)
    if last is not None and replace(draft, version=last[1].version) == last[1]:
        return last[0]
    version = 1 if last is None else last[1].version + 1
    raw = sign_descriptor(replace(draft, version=version), keyring.identity)
    replace_file(keyring.directory / _DESCRIPTOR_FILE, raw)
    return raw


class OwnDescriptor:
    """What this node tells everybody about itself, as its keys change.

    Args:
        keyring: Its keys.
    """

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._draft: Descriptor | None = None
        self._raw: bytes | None = None

    def read(self) -> bytes | None:
        """Give the signed note; None until the first one was signed."""
        return self._raw

    def describe(self, draft: Descriptor) -> None:
        """Set what is said, and say it unless it has to be signed elsewhere first.

        Args:
            draft: Everything; its version and keys are not looked at.

        Raises:
            KeyFileError: The kept descriptor is damaged.
        """
        self._draft = draft
        last = _read_last(self._keyring)
        self._raw = None if last is None else last[0]

    def renew(self, http_keys: tuple[VerifierKey, ...]) -> Descriptor | None:
        """Say which keys count now.

        Args:
            http_keys: Those that sign requests; as witness and mirror the newest.

        Returns:
            What is said now; None before `describe`.

        Raises:
            KeyFileError: The kept descriptor is damaged.
            IdentityOfflineError: It has to be signed elsewhere; until then the last
                one stands.
        """
        if self._draft is None:
            return None
        keyring = self._keyring
        draft = replace(
            self._draft,
            http_keys=tuple(
                HttpKey(http_key_id(key), key.public_key) for key in http_keys
            ),
            witness=keyring.witness.key,
            mirror=keyring.mirror.key,
        )
        self._raw = publish_descriptor(keyring, draft)
        return open_descriptor(self._raw, keyring.identity.key)


def read_published_descriptor(directory: Path) -> bytes | None:
    """Read the newest descriptor that was signed; None if there never was one."""
    path = directory / _DESCRIPTOR_FILE
    return path.read_bytes() if path.exists() else None


def _read_last(keyring: Keyring) -> tuple[bytes, Descriptor] | None:
    raw = read_published_descriptor(keyring.directory)
    if raw is None:
        return None
    try:
        return raw, open_descriptor(raw, keyring.identity.key)
    except ProtocolError as error:
        path = keyring.directory / _DESCRIPTOR_FILE
        raise KeyFileError(path, f"is damaged ({error})") from error
