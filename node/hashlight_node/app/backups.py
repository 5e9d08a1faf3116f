"""Backups: a copy of the store with a manifest beside it, checked and put back.

Keys and what they signed last are in no backup: see `last_signed`.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from hashlight_node.exchange.operating.fsck import Fsck
from hashlight_node.last_signed import read_newest, read_signed
from hashlight_node.model import Role
from hashlight_node.store import backups, logs
from hashlight_node.store.backups import BackupError
from hashlight_node.store.database import Reader
from hashlight_node.store.tables import SCHEMA_REVISION

from .maintenance import open_keyring

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hashlight_node.config import Settings
    from hashlight_node.exchange.operating.fsck_findings import Findings
    from hashlight_node.model import Clock, Log

_FORMAT: Final = 1
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class LogInBackup:
    """A log as a backup has it.

    Attributes:
        origin: The log.
        size: Entries.
        root: Root of its tree, in hex.
    """

    origin: str
    size: int
    root: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself.

    Attributes:
        format: Of the manifest.
        node: Whose store it is.
        store: `sqlite` or `postgresql`.
        schema: Revision of the schema.
        made_at: When, Unix seconds.
        file: Name of the file.
        bytes: Its size.
        sha256: Its digest, in hex.
        logs: Every log.
    """

    format: int
    node: str
    store: str
    schema: str
    made_at: int
    file: str
    bytes: int
    sha256: str
    logs: tuple[LogInBackup, ...]


@dataclass(frozen=True, slots=True)
class Guarded:
    """What the guard of what was signed last will say of a log after a restore.

    Attributes:
        origin: The log.
        verdict: `ok`, `rolled-back`, `unconfirmed` or `lost`.
        size: Entries in the backup; None if it does not have the log.
        signed_size: Entries that were signed; None if that is not known.
    """

    origin: str
    verdict: str
    size: int | None
    signed_size: int | None

    @property
    def needs_recovery(self) -> bool:
        """Whether `hashlight recover` has something to do."""
        return self.verdict != "ok"


@dataclass(frozen=True, slots=True)
class Checked:
    """What a backup was found to be.

    Attributes:
        manifest: What it says of itself, which is true.
        findings: What its content is.
        guard: What will be said of each log of ours.
    """

    manifest: Manifest
    findings: Findings
    guard: tuple[Guarded, ...]


def manifest_of(file: Path) -> Path:
    """Name the manifest of a backup."""
    return file.with_name(f"{file.name}.json")


def make_backup(
    settings: Settings, target: Path, clock: Clock
) -> tuple[Path, Manifest]:
    """Copy a node's store, whether the node runs or not.

    Args:
        settings: The node's.
        target: A file that does not exist, or the directory for one.
        clock: Unix seconds.

    Returns:
        The file, which is there whole or not at all, and what is in it.

    Raises:
        BackupError: It cannot be done.
        StoreError: The store cannot be used.
    """
    url, now = settings.store.url, clock()
    is_file = backups.is_sqlite(url)
    if target.is_dir():
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        ending = "db" if is_file else "pgdump"
        target = target / f"{settings.node.name}-{stamp}.{ending}"
    if target.exists() or manifest_of(target).exists():
        message = f"{target} exists already; a backup is never overwritten"
        raise BackupError(message)
    part = target.with_name(f"{target.name}.part")
    try:
        part.unlink(missing_ok=True)
        facts = backups.copy_store(url, part)
        _sync(part)
        manifest = Manifest(
            format=_FORMAT,
            node=settings.node.name,
            store="sqlite" if is_file else "postgresql",
            schema=facts.schema,
            made_at=now,
            file=target.name,
            bytes=part.stat().st_size,
            sha256=_digest(part),
            logs=tuple(map(_in_backup, facts.logs)),
        )
        # First the manifest: a backup without one is none.
        _write_private(manifest_of(target), manifest)
        part.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise BackupError(str(error)) from error
    finally:
        part.unlink(missing_ok=True)
    return target, manifest


def read_manifest(file: Path) -> Manifest:
    """Read what a backup says of itself.

    Raises:
        BackupError: There is no manifest, or it is none.
    """
    path = manifest_of(file)
    try:
        data: dict[str, Any] = json.loads(path.read_bytes())
        data["logs"] = tuple(LogInBackup(**one) for one in data["logs"])
        manifest = Manifest(**data)
    except OSError as error:
        message = f"{path}: {error.strerror}"
        raise BackupError(message) from error
    except (ValueError, TypeError, KeyError) as error:
        message = f"{path} is not the manifest of a backup"
        raise BackupError(message) from error
    if manifest.format != _FORMAT:
        message = f"{path} was written by a newer release"
        raise BackupError(message)
    return manifest


def check_file(settings: Settings, file: Path) -> Manifest:
    """Hold a backup's file against its manifest, and that against the settings.

    Raises:
        BackupError: It is damaged, of another node, or of another kind of store.
    """
    manifest = read_manifest(file)
    is_file = backups.is_sqlite(settings.store.url)
    try:
        digest = _digest(file)
    except OSError as error:
        message = f"{file}: {error.strerror}"
        raise BackupError(message) from error
    wrong = {
        f"{file} is damaged: it is not what its manifest says": (
            digest != manifest.sha256
        ),
        f"{file} is a backup of {manifest.node}": manifest.node != settings.node.name,
        f"{file} is a backup of a {manifest.store} store": (
            (manifest.store == "sqlite") != is_file
        ),
    }
    for message, is_so in wrong.items():
        if is_so:
            raise BackupError(message)
    return manifest


async def check_backup(settings: Settings, file: Path) -> Checked:
    """Verify a backup to the last byte, and change nothing.

    Raises:
        BackupError: It is not what its manifest says, or cannot be read.
        SchemaError: It is of another release; restore it with that one.
        KeyFileError: The keys cannot be used as they are.
    """
    manifest = check_file(settings, file)
    keyring = open_keyring(settings)
    with backups.opened_copy(settings.store.url, file) as url:
        database = Reader.open_reader(url)
        try:
            found = await database.read(logs.list_logs)
            if tuple(map(_in_backup, found)) != manifest.logs:
                message = f"{file} does not hold the logs that its manifest names"
                raise BackupError(message)
            findings = await Fsck(database, keyring).run()
        finally:
            await database.close()
    return Checked(manifest, findings, foresee(settings, found))


def foresee(settings: Settings, found: Sequence[Log]) -> tuple[Guarded, ...]:
    """Tell what will be said of our logs once a store stands as it does in a backup.

    Raises:
        LastSignedError: What was signed last cannot be read.
    """
    directory = settings.keys.last_signed
    own = {log.origin: log for log in found if log.role is Role.OWN}
    said = [_foresee(settings, log) for log in own.values()]
    for path in sorted(directory.glob("*.signed")):
        signed = read_signed(path.read_bytes())
        if signed.origin not in own:
            size = signed.head.tree_size
            said.append(Guarded(signed.origin, "lost", None, size))
    return tuple(said)


def restore(settings: Settings, file: Path, *, replace: bool) -> Manifest:
    """Put a backup in the place of a stopped node's store.

    Args:
        settings: The node's.
        file: The backup.
        replace: Whether a store that holds anything may be replaced.

    Raises:
        BackupError: It is damaged or does not fit; nothing is changed.
        DatabaseInUseError: The node runs.
        StoreError: The store cannot be used.
    """
    manifest = check_file(settings, file)
    if manifest.schema > SCHEMA_REVISION:
        message = f"{file} is at schema {manifest.schema}, which is of a newer release"
        raise BackupError(message)
    if not replace and backups.holds_logs(settings.store.url):
        message = "the store is not empty; with --replace it is lost"
        raise BackupError(message)
    backups.put_in_place(settings.store.url, file)
    return manifest


def _foresee(settings: Settings, log: Log) -> Guarded:
    note = read_newest(settings.keys.last_signed, log.origin)
    # Who shares the store learns at its start what the others signed.
    verdict = "ok" if settings.store.shared_at else "unconfirmed"
    size = log.checkpoint_size
    if note is None:
        return Guarded(log.origin, verdict, size, None)
    signed = read_signed(note).head
    if signed.tree_size > size:
        verdict = "rolled-back"
    elif signed.tree_size == size:
        differs = size == log.tree_size and signed.root_hash != log.root_hash
        verdict = "rolled-back" if differs else "ok"
    return Guarded(log.origin, verdict, size, signed.tree_size)


def _in_backup(log: Log) -> LogInBackup:
    return LogInBackup(log.origin, log.tree_size, log.root_hash.hex())


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _write_private(path: Path, manifest: Manifest) -> None:
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(part, flags, 0o600), "w", encoding="utf-8") as file:
        json.dump(asdict(manifest), file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
