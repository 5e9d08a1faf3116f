"""Why a key cannot be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pathlib import Path


class KeyFileError(Exception):
    """The keys on disk cannot be used as they are.

    Attributes:
        path: The file or directory.
        reason: What the operator has to mend.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class KeyExistsError(KeyFileError):
    """A log to be created has a key already, so it has existed before."""

    def __init__(self, path: Path, origin: str) -> None:
        super().__init__(path, f"there is a key for log {origin} already")
        self.origin = origin


class SignerUnavailableError(Exception):
    """Whoever holds a private key did not sign in time. Nothing was signed.

    Attributes:
        key_name: Name of the key.
        reason: What went wrong.
    """

    code: ClassVar[str] = "signer-unavailable"

    def __init__(self, key_name: str, reason: str) -> None:
        super().__init__(f"key {key_name} cannot sign now: {reason}")
        self.key_name = key_name
        self.reason = reason


class IdentityOfflineError(Exception):
    """A document has to be signed on the machine where the identity key is.

    Attributes:
        subject: `descriptor`, or `list-` and the name of a list.
    """

    code: ClassVar[str] = "identity-offline"

    def __init__(self, subject: str) -> None:
        super().__init__(
            f"{subject} waits to be signed there: hashlight key export-request here, "
            "hashlight key sign there, hashlight key import here"
        )
        self.subject = subject
