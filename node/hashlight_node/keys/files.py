"""Key files: one small text each, that says what the key is for and whose it is.

    hashlight-key/v1
    use log
    name shield.example/hsf/v1/log/ncii/1
    seed <base64 of the 32 bytes of an Ed25519 seed>

In version 2 the last line is one of

    sealed <base64 of salt[16], nonce[12], AES-256-GCM of the seed>
    agent ssh-ed25519 <base64>

A sealed seed is encrypted under scrypt (N = 2^15, r = 8, p = 1) of the passphrase, and
the lines before are authenticated with it, so that no sealed key can be passed off as
another. A key of an agent is only named here; the agent signs.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from hashlight_protocol import (
    COSIGNATURE,
    ED25519,
    BadKeyError,
    Ed25519Signer,
    VerifierKey,
)

from .agent import AgentSigner, encode_ssh_key, parse_ssh_key
from .errors import KeyFileError

if TYPE_CHECKING:
    from pathlib import Path

    from hashlight_protocol import Signer

KeyUse = Literal["identity", "http", "witness", "mirror", "log"]

TYPES: Final[dict[KeyUse, int]] = {
    "identity": ED25519,
    "http": ED25519,
    "witness": COSIGNATURE,
    "mirror": COSIGNATURE,
    "log": ED25519,
}

SEED_BYTES: Final = 32

_PLAIN: Final = "hashlight-key/v1"
_SECOND: Final = "hashlight-key/v2"
_WRONG: Final = "is not a key file of this version"
_MAX_FILE_BYTES: Final = 4096
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_SEALED_BYTES: Final = _SALT_BYTES + _NONCE_BYTES + SEED_BYTES + 16
_MAX_PASSPHRASE_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class KeyAccess:
    """What it takes to use keys that are not plain files.

    Attributes:
        passphrase: Opens sealed keys, and seals new ones; None: new keys are plain.
        agent: Unix socket of the agent that holds other keys.
    """

    passphrase: bytes | None = field(default=None, repr=False)
    agent: Path | None = None


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as its file has it.

    Attributes:
        path: The file.
        use: What the key is for.
        signer: Its holder; for an agent's key, the agent.
        storage: How the file keeps it.
    """

    path: Path
    use: KeyUse
    signer: Ed25519Signer | AgentSigner
    storage: Literal["plain", "sealed", "agent"]

    @property
    def key(self) -> VerifierKey:
        """The public half."""
        return self.signer.key

    @property
    def name(self) -> str:
        """Name of the key."""
        return self.key.name


def new_signer(use: KeyUse, name: str) -> Ed25519Signer:
    """Make a key."""
    return Ed25519Signer(name, TYPES[use], os.urandom(SEED_BYTES))


def agent_signer(use: KeyUse, name: str, ssh_key: str, access: KeyAccess) -> Signer:
    """Take an agent's key for a use.

    Args:
        use: What it is for.
        name: What it is called there.
        ssh_key: The public key as OpenSSH writes it.
        access: Knows where the agent is.

    Raises:
        BadKeyError: It is not an Ed25519 key that proves anything.
    """
    key = VerifierKey(name, TYPES[use], parse_ssh_key(ssh_key))
    return AgentSigner(key, access.agent)


def check_directory(directory: Path) -> None:
    """Refuse a directory of keys that others can look into.

    Raises:
        KeyFileError: They can, or it is none.
    """
    try:
        mode = directory.stat().st_mode
    except OSError as error:
        raise KeyFileError(directory, error.strerror or "cannot be read") from error
    if not stat.S_ISDIR(mode):
        raise KeyFileError(directory, "is not a directory")
    if mode & _OTHERS:
        raise KeyFileError(directory, "is open to other users; run chmod 700 on it")


def read_passphrase(path: Path) -> bytes:
    """Read the passphrase that seals keys; a newline at its end does not count.

    Raises:
        KeyFileError: It cannot be read, can be read by others, or is empty.
    """
    passphrase = _read_private(path, _MAX_PASSPHRASE_BYTES + 2).rstrip(b"\r\n")
    if not 0 < len(passphrase) <= _MAX_PASSPHRASE_BYTES:
        raise KeyFileError(path, "holds no passphrase, or a very long one")
    return passphrase


def read_key(path: Path, access: KeyAccess) -> StoredKey:
    """Read a key file.

    Raises:
        KeyFileError: It cannot be read, can be read by others, is damaged, or does not
            open with the passphrase.
    """
    raw = _read_private(path, _MAX_FILE_BYTES)
    try:
        header, use_line, name_line, secret, end = raw.decode("ascii").split("\n")
    except ValueError:
        # Without its cause: a traceback of it would show the seed's text.
        raise KeyFileError(path, _WRONG) from None
    use = next((u for u in TYPES if use_line == f"use {u}"), None)
    if use is None or end or not name_line.startswith("name "):
        raise KeyFileError(path, _WRONG)
    name = name_line.removeprefix("name ")
    kind, _, text = secret.partition(" ")
    try:
        match header, kind:
            case ("hashlight-key/v1", "seed"):
                seed = _decode(path, text, SEED_BYTES)
                return StoredKey(path, use, _signer(use, name, seed), "plain")
            case ("hashlight-key/v2", "sealed"):
                seed = _open(
                    path, use, name, _decode(path, text, _SEALED_BYTES), access
                )
                return StoredKey(path, use, _signer(use, name, seed), "sealed")
            case ("hashlight-key/v2", "agent"):
                key = VerifierKey(name, TYPES[use], parse_ssh_key(text))
                return StoredKey(path, use, AgentSigner(key, access.agent), "agent")
            case _:
                raise KeyFileError(path, _WRONG)
    except BadKeyError:
        raise KeyFileError(path, _WRONG) from None


def encode_key(use: KeyUse, signer: Signer, passphrase: bytes | None) -> bytes:
    """Write a key file: sealed if there is a passphrase.

    Raises:
        TypeError: The key is of a kind that has no file.
    """
    match signer:
        case Ed25519Signer(name=name, seed=seed) if passphrase is None:
            lines = (*_head(_PLAIN, use, name), f"seed {_encode(seed)}", "")
        case Ed25519Signer(name=name, seed=seed):
            salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
            sealed = _cipher(passphrase or b"", salt).encrypt(
                nonce, seed, _associated(use, name)
            )
            text = _encode(salt + nonce + sealed)
            lines = (*_head(_SECOND, use, name), f"sealed {text}", "")
        case AgentSigner(key=key):
            agent = f"agent {encode_ssh_key(key.public_key)}"
            lines = (*_head(_SECOND, use, key.name), agent, "")
        case _:
            message = "only seeds and agents' keys have files"
            raise TypeError(message)
    return "\n".join(lines).encode("ascii")


def write_key(path: Path, content: bytes) -> None:
    """Write a new key so that its file is absent or whole, also after a crash.

    Raises:
        FileExistsError: There is a file; a key is never overwritten.
    """
    draft = path.with_suffix(".draft")
    write_new(draft, content)
    try:
        # A hard link never replaces: an existing key is never overwritten.
        os.link(draft, path)
    finally:
        draft.unlink()
    sync_directory(path.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that it is the old or the new one, also after a crash."""
    draft = path.with_suffix(".draft")
    write_new(draft, content)
    draft.replace(path)
    sync_directory(path.parent)


def write_new(path: Path, content: bytes) -> None:
    """Write a file that only we can read, through to the disk."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Make what was linked, renamed and removed in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_private(path: Path, most_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            # Of the open file, so that it is the file that is read.
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(most_bytes)
    except OSError as error:
        raise KeyFileError(path, error.strerror or "cannot be read") from error
    if mode & _OTHERS:
        raise KeyFileError(path, "is open to other users; run chmod 600 on it")
    return raw


def _head(version: str, use: KeyUse, name: str) -> tuple[str, str, str]:
    return version, f"use {use}", f"name {name}"


def _associated(use: KeyUse, name: str) -> bytes:
    return "\n".join(_head(_SECOND, use, name)).encode()


def _signer(use: KeyUse, name: str, seed: bytes) -> Ed25519Signer:
    return Ed25519Signer(name, TYPES[use], seed)


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _decode(path: Path, text: str, length: int) -> bytes:
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise KeyFileError(path, _WRONG) from None
    if len(content) != length or _encode(content) != text:
        raise KeyFileError(path, _WRONG)
    return content


def _cipher(passphrase: bytes, salt: bytes) -> AESGCM:
    return AESGCM(Scrypt(salt=salt, length=32, n=2**15, r=8, p=1).derive(passphrase))


def _open(
    path: Path, use: KeyUse, name: str, sealed: bytes, access: KeyAccess
) -> bytes:
    if access.passphrase is None:
        raise KeyFileError(path, "is encrypted; name the passphrase's file in [keys]")
    salt, rest = sealed[:_SALT_BYTES], sealed[_SALT_BYTES:]
    nonce, content = rest[:_NONCE_BYTES], rest[_NONCE_BYTES:]
    try:
        return _cipher(access.passphrase, salt).decrypt(
            nonce, content, _associated(use, name)
        )
    except InvalidTag:
        raise KeyFileError(path, "does not open with this passphrase") from None
