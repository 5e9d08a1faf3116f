"""The node's secret keys, one small file each.

A key file is five lines of text, so that an operator can see what a file is without
a tool and without its secret meaning anything to a log:

    hashlight-key/v1
    use log
    name shield.example/hsf/v1/log/ncii/1
    seed <base64 of the 32 bytes of an Ed25519 seed>
    <end of file>

Uses are `identity` (signs the descriptor and list notes), `http` (signs requests),
`witness` and `mirror` (cosign other nodes' logs) and `log` (signs one log's
checkpoints; files `log-1.key`, `log-2.key`, ...). No key serves two uses.

Beside them lies `descriptor.note`, the newest thing the identity key has said.

Files are 0600 in a directory 0700, and a key that others can read is refused. A
missing key is an error, never a reason to make a new one: peers pinned the old one.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Final, Literal

from hashlight_protocol import (
    COSIGNATURE,
    ED25519,
    Descriptor,
    Ed25519Signer,
    ProtocolError,
    VerifierKey,
    open_descriptor,
    parse_origin,
    sign_descriptor,
)

if TYPE_CHECKING:
    from pathlib import Path

    from hashlight_protocol import Signer

HTTP_KEY_ID: Final = "h1"
"""Id of the key that signs requests; a rotated one will be `h2`."""

_DESCRIPTOR_FILE: Final = "descriptor.note"
_HEADER: Final = "hashlight-key/v1"
_SEED_BYTES: Final = 32
_MAX_FILE_BYTES: Final = 4096
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

KeyUse = Literal["identity", "http", "witness", "mirror", "log"]
_NODE_KEYS: Final[tuple[KeyUse, ...]] = ("identity", "http", "witness", "mirror")
_TYPES: Final[dict[KeyUse, int]] = {
    "identity": ED25519,
    "http": ED25519,
    "witness": COSIGNATURE,
    "mirror": COSIGNATURE,
    "log": ED25519,
}


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


@dataclass(slots=True)
class Keyring:
    """All keys of one node; the only object that can sign in its name.

    Attributes:
        node: Name of the node.
        directory: Where the key files are.
        identity: Signs the descriptor and list notes; key name = node name.
        http: Signs requests to peers, under the id `http_key_id`.
        witness: Cosigns checkpoints that peers announce.
        mirror: Cosigns checkpoints that are stored and applied whole.
    """

    node: str
    directory: Path
    identity: Signer
    http: Signer
    witness: Signer
    mirror: Signer
    http_key_id: str = HTTP_KEY_ID
    _logs: dict[str, Signer] = field(default_factory=dict)

    def log(self, origin: str) -> Signer:
        """Give the key that signs the checkpoints of one of our logs.

        Raises:
            KeyFileError: There is none.
        """
        signer = self._logs.get(origin)
        if signer is None:
            raise KeyFileError(self.directory, f"there is no key for log {origin}")
        return signer

    def has_log(self, origin: str) -> bool:
        """Tell whether there is a key for a log of ours."""
        return origin in self._logs

    def create_log(self, origin: str) -> Signer:
        """Make the key of a new log; it is on disk when this returns.

        Blocks for a few milliseconds, until the disk has it.

        Args:
            origin: The log's origin; it names this node.

        Raises:
            KeyExistsError: The log has a key, so it may have signed checkpoints
                that a peer remembers; starting it again would show two histories.
            ProtocolError: `origin` is not one.
        """
        if parse_origin(origin).node != self.node:
            raise KeyFileError(self.directory, f"log {origin} belongs to another node")
        for path in sorted(self.directory.glob("log-*.key")):
            if _read_key(path).name == origin:
                raise KeyExistsError(path, origin)
        key = _new_key("log", origin)
        _write_numbered(self.directory, key)
        self._logs[origin] = key.signer()
        return self._logs[origin]


@dataclass(frozen=True, slots=True)
class _Key:
    use: KeyUse
    name: str
    seed: bytes = field(repr=False)

    def signer(self) -> Ed25519Signer:
        return Ed25519Signer(self.name, _TYPES[self.use], self.seed)

    def encode(self) -> bytes:
        seed = base64.b64encode(self.seed).decode("ascii")
        lines = (_HEADER, f"use {self.use}", f"name {self.name}", f"seed {seed}", "")
        return "\n".join(lines).encode("ascii")


def create_keyring(directory: Path, node: str) -> Keyring:
    """Make the keys of a new node.

    Args:
        directory: Made with mode 0700 if it does not exist.
        node: The node's name.

    Raises:
        KeyFileError: There are keys in the directory already; none is touched.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_directory(directory)
    existing = sorted(directory.glob("*.key"))
    if existing:
        raise KeyFileError(existing[0], "exists already; keys are never overwritten")
    for use in _NODE_KEYS:
        _write_file(directory / f"{use}.key", _new_key(use, _key_name(node, use)))
    _sync_directory(directory)
    return load_keyring(directory, node)


def load_keyring(directory: Path, node: str) -> Keyring:
    """Read the keys of a node.

    Raises:
        KeyFileError: A key is missing, can be read by others, is damaged, or belongs
            to another node or use.
    """
    _check_directory(directory)
    return Keyring(
        node=node,
        directory=directory,
        identity=_load_node_key(directory, node, "identity"),
        http=_load_node_key(directory, node, "http"),
        witness=_load_node_key(directory, node, "witness"),
        mirror=_load_node_key(directory, node, "mirror"),
        _logs=_load_log_keys(directory),
    )


def _load_log_keys(directory: Path) -> dict[str, Signer]:
    signers: dict[str, Signer] = {}
    for path in sorted(directory.glob("log-*.key")):
        key = _read_key(path)
        if key.use != "log" or key.name in signers:
            raise KeyFileError(path, f"is a second key called {key.name}")
        signers[key.name] = key.signer()
    return signers


def _load_node_key(directory: Path, node: str, use: KeyUse) -> Signer:
    path = directory / f"{use}.key"
    key = _read_key(path)
    if (key.use, key.name) != (use, _key_name(node, use)):
        raise KeyFileError(path, f"is the {key.use} key of {key.name}")
    return key.signer()


def _key_name(node: str, use: KeyUse) -> str:
    match use:
        case "identity":
            return node
        case "http":
            return f"{node}#{HTTP_KEY_ID}"
        case "witness" | "mirror":
            return f"{node}/hsf/v1/{use}"
        case "log":
            message = "a log key is called after its log"
            raise ValueError(message)


def _new_key(use: KeyUse, name: str) -> _Key:
    return _Key(use, name, os.urandom(_SEED_BYTES))


def _check_directory(directory: Path) -> None:
    try:
        mode = directory.stat().st_mode
    except OSError as error:
        raise KeyFileError(directory, error.strerror or "cannot be read") from error
    if not stat.S_ISDIR(mode):
        raise KeyFileError(directory, "is not a directory")
    if mode & _OTHERS:
        raise KeyFileError(directory, "is open to other users; run chmod 700 on it")


def _read_key(path: Path) -> _Key:
    try:
        with path.open("rb") as file:
            # Of the open file, so that it is the file that is read.
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise KeyFileError(path, error.strerror or "cannot be read") from error
    if mode & _OTHERS:
        raise KeyFileError(path, "is open to other users; run chmod 600 on it")
    key = _parse_key(path, raw)
    if key.encode() != raw:
        raise KeyFileError(path, "is not a key file of this version")
    return key


def _parse_key(path: Path, raw: bytes) -> _Key:
    try:
        header, use_line, name_line, seed_line, _ = raw.decode("ascii").split("\n")
        seed = base64.b64decode(seed_line.removeprefix("seed "), validate=True)
    except (ValueError, binascii.Error):
        # Without its cause: a traceback of it would show the seed's text.
        raise KeyFileError(path, "is not a key file of this version") from None
    use = next((u for u in _TYPES if use_line == f"use {u}"), None)
    if header != _HEADER or use is None or len(seed) != _SEED_BYTES:
        raise KeyFileError(path, "is not a key file of this version")
    return _Key(use, name_line.removeprefix("name "), seed)


def _write_numbered(directory: Path, key: _Key) -> None:
    for number in count(1):
        try:
            _write_file(directory / f"log-{number}.key", key)
        except FileExistsError:
            continue
        _sync_directory(directory)
        return


def _write_file(path: Path, key: _Key) -> None:
    """Write a key so that its file is either absent or whole, also after a crash."""
    draft = path.with_suffix(".draft")
    _write_new(draft, key.encode())
    try:
        # A hard link never replaces: an existing key is never overwritten.
        os.link(draft, path)
    finally:
        draft.unlink()


def _write_new(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish_descriptor(keyring: Keyring, draft: Descriptor) -> bytes:
    """Sign what this node says about itself, or give what it has signed before.

    The newest descriptor is kept beside the keys and not in the database: peers refuse
    a version that goes back, and the database may be restored from a backup.

    Args:
        keyring: Holds the identity key.
        draft: What to say; its version is not looked at.

    Returns:
        The signed note. Its version is one higher than the last if it says something
        new.

    Raises:
        KeyFileError: The kept descriptor is damaged.
    """
    path = keyring.directory / _DESCRIPTOR_FILE
    last = _read_descriptor(path, keyring.identity.key)
    if last is not None and replace(draft, version=last[1].version) == last[1]:
        return last[0]
    version = 1 if last is None else last[1].version + 1
    raw = sign_descriptor(replace(draft, version=version), keyring.identity)
    draft_path = path.with_suffix(".draft")
    _write_new(draft_path, raw)
    draft_path.replace(path)
    _sync_directory(keyring.directory)
    return raw


def read_published_descriptor(directory: Path) -> bytes | None:
    """Read the newest descriptor that was signed; None if there never was one."""
    path = directory / _DESCRIPTOR_FILE
    return path.read_bytes() if path.exists() else None


def _read_descriptor(
    path: Path, identity: VerifierKey
) -> tuple[bytes, Descriptor] | None:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return raw, open_descriptor(raw, identity)
    except ProtocolError as error:
        raise KeyFileError(path, f"is damaged ({error})") from error
