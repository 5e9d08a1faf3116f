"""The node's secret keys: which there are, and how they come and go.

Uses are `identity` (signs the descriptor and list notes), `http` (signs requests),
`witness` and `mirror` (cosign other nodes' logs) and `log` (signs one log's
checkpoints; files `log-1.key`, `log-2.key`, ...). No key serves two uses. While a key
is replaced there are two of its use, `http.key` and `http-2.key`, and the one with the
higher number is the newer.

Files are 0600 in a directory 0700, and a key that others can read is refused. A
missing key is an error, never a reason to make a new one: peers pinned the old one.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Final, Literal

from hashlight_protocol import BadKeyError, encode_vkey, parse_origin

from .errors import KeyExistsError, KeyFileError
from .files import (
    KeyAccess,
    StoredKey,
    agent_signer,
    check_directory,
    encode_key,
    new_signer,
    read_key,
    sync_directory,
    write_key,
)
from .identity import OfflineIdentity, read_identity_vkey, write_identity_vkey
from .journal import Journal
from .signers import Signers

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from hashlight_protocol import Signer, VerifierKey

    from .files import KeyUse

HTTP_KEY_ID: Final = "h1"
"""Id of a node's first key that signs requests; the next one is `h2`."""

RotatingUse = Literal["http", "witness", "mirror", "log"]
"""Uses whose keys can be replaced; an identity is what a node is."""

_NODE_KEYS: Final[tuple[KeyUse, ...]] = ("identity", "http", "witness", "mirror")
_NO_ACCESS: Final = KeyAccess()


@dataclass(slots=True)
class Keyring:
    """All keys of one node; the only object that can sign in its name.

    Attributes:
        node: Name of the node.
        directory: Where the key files are.
        identity: Signs the descriptor and list notes; key name = node name.
        witness: Cosigns checkpoints that peers announce.
        mirror: Cosigns checkpoints that are stored and applied whole.
        journal: When each key was published.
        access: Opens keys that are not plain files.
    """

    node: str
    directory: Path
    identity: Signer
    witness: Signers
    mirror: Signers
    journal: Journal
    access: KeyAccess
    _identity_storage: Literal["plain", "sealed", "offline"]
    _stored: list[StoredKey]
    _http: Signer
    _logs: dict[str, Signers] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def http(self) -> Signer:
        """The key that signs requests to peers, under the id `http_key_id`."""
        return self._http

    @property
    def http_key_id(self) -> str:
        """Id of the key that signs requests."""
        return http_key_id(self._http.key)

    @property
    def identity_storage(self) -> Literal["plain", "sealed", "offline"]:
        """Where the identity key is."""
        return self._identity_storage

    def choose_http(self, key: VerifierKey) -> None:
        """Sign requests with this key of ours from now on."""
        (self._http,) = (one.signer for one in self.stored("http") if one.key == key)

    def log(self, origin: str) -> Signers:
        """Give the keys that sign the checkpoints of one of our logs.

        Raises:
            KeyFileError: There is none.
        """
        signers = self._logs.get(origin)
        if signers is None:
            raise KeyFileError(self.directory, f"there is no key for log {origin}")
        return signers

    def has_log(self, origin: str) -> bool:
        """Tell whether there is a key for a log of ours."""
        return origin in self._logs

    def log_keys(self, origin: str) -> tuple[VerifierKey, ...]:
        """List every key that ever signed for a log of ours, retired ones too.

        A peer may show us what it stored long ago.

        Raises:
            KeyFileError: There is none.
        """
        current = (signer.key for signer in self.log(origin).every)
        return tuple(dict.fromkeys((*self.journal.named(origin), *current)))

    def stored(self, use: RotatingUse, origin: str | None = None) -> list[StoredKey]:
        """List the keys of a use that are on disk, oldest first.

        Args:
            use: The use.
            origin: For `log`, the log.
        """
        return [
            one
            for one in self._stored
            if one.use == use and (origin is None or one.name == origin)
        ]

    def create_log(self, origin: str) -> Signer:
        """Make the key of a new log; it is on disk when this returns.

        Blocks for a few milliseconds, until the disk has it.

        Args:
            origin: The log's origin; it names this node.

        Returns:
            Its key; the one that it has if its list note still waits to be signed.

        Raises:
            KeyExistsError: The log has a key, so it may have signed checkpoints
                that a peer remembers; starting it again would show two histories.
            ProtocolError: `origin` is not one.
        """
        name = parse_origin(origin)
        if name.node != self.node:
            raise KeyFileError(self.directory, f"log {origin} belongs to another node")
        if self.waits(origin):
            return self.log(origin)
        existing = [one for one in self._read_logs() if one.name == origin]
        if existing:
            raise KeyExistsError(existing[0].path, origin)
        self._add("log", new_signer("log", origin))
        return self.log(origin)

    def rotate(
        self, use: RotatingUse, origin: str | None = None, ssh_key: str | None = None
    ) -> StoredKey:
        """Add a key that is going to replace the one there is; it is on disk then.

        Args:
            use: The use.
            origin: For `log`, the log.
            ssh_key: Take this key of the agent instead of making one.

        Returns:
            The new key. If one is replaced already, and nobody was told of the new
            one yet, that one.

        Raises:
            KeyFileError: There is no key to be replaced.
            BadKeyError: `ssh_key` is not a public key that proves anything, or serves
                this node already.
        """
        keys = self.stored(use, origin)
        if not keys:
            raise KeyFileError(self.directory, f"there is no {use} key to replace")
        newest = keys[-1]
        if len(keys) > 1 and self.journal.published_at(newest.key) is None:
            return newest
        name = newest.name if use != "http" else self._next_http_name()
        signer = (
            new_signer(use, name)
            if ssh_key is None
            else agent_signer(use, name, ssh_key, self.access)
        )
        if any(one.key.public_key == signer.key.public_key for one in self._stored):
            raise BadKeyError("that key serves this node already")
        return self._add(use, signer)

    def drop(self, keys: Iterable[StoredKey]) -> None:
        """Remove the files of keys that are retired."""
        gone = tuple(keys)
        with self._lock:
            for key in gone:
                key.path.unlink(missing_ok=True)
            self._stored = [one for one in self._stored if one not in gone]
            sync_directory(self.directory)
            self._arrange()

    def waits(self, origin: str) -> bool:
        """Tell whether a log's key waits for the list note that first names it."""
        identity, name = self.identity, parse_origin(origin)
        return (
            self.has_log(origin)
            and isinstance(identity, OfflineIdentity)
            and identity.waits_for(name.list_name, encode_vkey(self.log(origin).key))
        )

    def _read_logs(self) -> list[StoredKey]:
        # From the disk too: another process may have been here before.
        known = {one.path for one in self._stored}
        others = (p for p in _numbered(self.directory, "log") if p not in known)
        return [
            *self.stored("log"),
            *(read_key(path, self.access) for path in others),
        ]

    def _next_http_name(self) -> str:
        names = {one.name for one in self._stored if one.use == "http"}
        names.update(self.journal.names())
        return next(
            name
            for name in (f"{self.node}#h{number}" for number in count(2))
            if name not in names
        )

    def _add(self, use: KeyUse, signer: Signer) -> StoredKey:
        content = encode_key(use, signer, self.access.passphrase)
        with self._lock:
            path = _write_numbered(self.directory, use, content)
            added = read_key(path, self.access)
            self._stored = [*self._stored, added]
            self._arrange()
        return added

    def _arrange(self) -> None:
        """Hand out what is on disk now; who holds `Signers` sees it change."""
        for signers, use in ((self.witness, "witness"), (self.mirror, "mirror")):
            signers.every = tuple(o.signer for o in self._stored if o.use == use)
        for origin, every in _by_log(self._stored).items():
            self._logs.setdefault(origin, Signers(every)).every = every


def http_key_id(key: VerifierKey) -> str:
    """Give the id under which a key signs requests."""
    return key.name.rpartition("#")[2]


def create_keyring(
    directory: Path,
    node: str,
    *,
    access: KeyAccess = _NO_ACCESS,
    identity: VerifierKey | None = None,
) -> Keyring:
    """Make the keys of a new node.

    Args:
        directory: Made with mode 0700 if it does not exist.
        node: The node's name.
        access: Seals them, if it has a passphrase.
        identity: The public half of an identity key that stays on another machine;
            None to make one here.

    Raises:
        KeyFileError: There are keys in the directory already; none is touched.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_directory(directory)
    existing = sorted(directory.glob("*.key"))
    if existing:
        raise KeyFileError(existing[0], "exists already; keys are never overwritten")
    if identity is not None:
        write_identity_vkey(directory, identity)
    for use in _NODE_KEYS if identity is None else _NODE_KEYS[1:]:
        signer = new_signer(use, _key_name(node, use))
        content = encode_key(use, signer, access.passphrase)
        write_key(directory / f"{use}.key", content)
    return load_keyring(directory, node, access=access)


def load_keyring(
    directory: Path, node: str, *, access: KeyAccess = _NO_ACCESS
) -> Keyring:
    """Read the keys of a node.

    Raises:
        KeyFileError: A key is missing, can be read by others, is damaged, does not
            open, or belongs to another node or use.
    """
    check_directory(directory)
    identity, identity_storage = load_identity(directory, node, access)
    stored: list[StoredKey] = []
    for use in ("http", "witness", "mirror", "log"):
        stored += _load(directory, node, use, access)
    _check_distinct(stored)
    by_use = {
        use: tuple(one.signer for one in stored if one.use == use) for use in _USES
    }
    return Keyring(
        node=node,
        directory=directory,
        identity=identity,
        witness=Signers(by_use["witness"]),
        mirror=Signers(by_use["mirror"]),
        journal=Journal(directory),
        access=access,
        _identity_storage=identity_storage,
        _stored=stored,
        _http=by_use["http"][0],
        _logs={name: Signers(every) for name, every in _by_log(stored).items()},
    )


_USES: Final[tuple[KeyUse, ...]] = ("http", "witness", "mirror", "log")


def load_identity(
    directory: Path, node: str, access: KeyAccess
) -> tuple[Signer, Literal["plain", "sealed", "offline"]]:
    """Read the identity key, or its public half if the key is elsewhere.

    Raises:
        KeyFileError: There is neither, or it is another node's.
    """
    path = directory / "identity.key"
    public = read_identity_vkey(directory)
    if public is not None and not path.exists():
        if public.name != node:
            raise KeyFileError(path, f"is the identity key of {public.name}")
        return OfflineIdentity(public, directory), "offline"
    key = read_key(path, access)
    _check_place(key, node, "identity")
    if public is not None and public != key.key:
        raise KeyFileError(path, "is not the key that identity.vkey names")
    if key.storage == "agent":
        # Its signature says more than any other; it is offline, or it is a file.
        raise KeyFileError(path, "names an agent's key; keep identity keys offline")
    return key.signer, key.storage


def _load(
    directory: Path, node: str, use: KeyUse, access: KeyAccess
) -> list[StoredKey]:
    paths = _numbered(directory, use)
    if use != "log" and not paths:
        paths = [directory / f"{use}.key"]  # to be told that it is not there
    keys = [read_key(path, access) for path in paths]
    for key in keys:
        _check_place(key, node, use)
    return keys


def _check_place(key: StoredKey, node: str, use: KeyUse) -> None:
    name = key.name
    if use == "http":
        name = f"{name.rpartition('#')[0]}#{HTTP_KEY_ID}"
    is_named_so = use == "log" or name == _key_name(node, use)
    if key.use != use or not is_named_so:
        raise KeyFileError(key.path, f"is the {key.use} key of {key.name}")


def _check_distinct(stored: list[StoredKey]) -> None:
    seen: set[bytes] = set()
    for one in stored:
        if one.key.public_key in seen:
            raise KeyFileError(one.path, f"is a second key file of one key, {one.name}")
        seen.add(one.key.public_key)


def _by_log(stored: list[StoredKey]) -> dict[str, tuple[Signer, ...]]:
    logs: dict[str, tuple[Signer, ...]] = {}
    for one in stored:
        if one.use == "log":
            logs[one.name] = (*logs.get(one.name, ()), one.signer)
    return logs


def _numbered(directory: Path, use: KeyUse) -> list[Path]:
    """List the files of a use by number; `http.key` is the first."""
    paths = [*directory.glob(f"{use}.key"), *directory.glob(f"{use}-*.key")]
    return sorted(paths, key=lambda path: _number(path, use))


def _number(path: Path, use: KeyUse) -> int:
    text = path.stem.removeprefix(use).removeprefix("-") or "1"
    if not (text.isascii() and text.isdecimal()):
        raise KeyFileError(path, "is not named like a key file")
    return int(text)


def _write_numbered(directory: Path, use: KeyUse, content: bytes) -> Path:
    existing = _numbered(directory, use)
    first = _number(existing[-1], use) + 1 if existing else 1
    for number in count(first):
        path = directory / f"{use}-{number}.key"
        try:
            write_key(path, content)
        except FileExistsError:
            continue
        return path
    raise AssertionError  # pragma: no cover -- counting does not end


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
