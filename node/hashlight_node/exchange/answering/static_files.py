"""Files of what we serve, for a proxy to send in our place.

Full tiles, entry bundles and body bundles are asked for by every follower, and are the
same bytes for most. The first one who asks gets the file made; a proxy sends it, to
that peer and to all that come later. Who may have it is decided here each time, as if
the bytes left from here.

The directory holds nothing that cannot be made again and outlives no process: it is
emptied before anybody is answered, and at the end. So a file can be stale only through
a commit of ours, and the store tells us of each that changes bodies before anybody is
told that it is done. A body bundle is named by its content: whoever was told the name
of an old one finds nothing, and is answered by us.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

import structlog

from hashlight_node.exchange.logs.disclosure import shared_name
from hashlight_node.exchange.logs.published import (
    check_published,
    read_bodies,
    read_entries,
    read_tile,
)
from hashlight_node.exchange.logs.representations import (
    coded_tag,
    encode_content,
    etag_of,
)
from hashlight_node.store.changed_bodies import BundlePlace
from hashlight_node.store.errors import ScrubError
from hashlight_protocol import (
    TILE_WIDTH,
    BodyBundleId,
    EntryBundleId,
    TileId,
    encode_tile_path,
    origin_hash,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from hashlight_node.exchange.logs.disclosure import Audience
    from hashlight_node.exchange.logs.representations import Coding
    from hashlight_node.model import Log
    from hashlight_node.store.database import Connection

_LOG_FOLDER: Final = re.compile(r"[0-9a-f]{64}")
"""Only such are ours; whatever else is in the directory is left alone."""

_PAUSE_SECONDS: Final = 60
"""Before anything is written again to a disk that refused."""

_FOLDER_BITS: Final = stat.S_ISGID | 0o750
_FILE_BITS: Final = 0o640

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file that a proxy can send.

    Attributes:
        path: Below the directory, in characters that need no escaping.
        size_bytes: Its length.
        coding: How its content is coded.
        tag: Entity tag of what is sent; None for what never changes.
    """

    path: str
    size_bytes: int
    coding: Coding = "identity"
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody asks for.

    Attributes:
        resource: A tile or bundle.
        coding: How it may be coded, if it is one of those that are.
        as_of: How often bodies had changed before anything was read.
    """

    resource: TileId | EntryBundleId | BodyBundleId
    coding: Coding
    as_of: int


@dataclass(frozen=True, slots=True)
class Draft:
    """Content of which there is no file yet.

    Attributes:
        key: Names it, whatever its version.
        content: Not coded.
        place: The bundle, if it is one of bodies.
        wanted: How it is to be coded, and when it was read; nothing else is coded, or
            can be stale.
    """

    key: str
    content: bytes
    place: BundlePlace | None = None
    wanted: Wanted | None = None


class StaticFiles:
    """Keeps the files of one node.

    Args:
        directory: Made if it is missing. Its permissions are those of what is in it:
            what it lets its group read, the group may read.
        monotonic: Seconds, on a clock that nobody sets.
    """

    def __init__(
        self, directory: Path, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._directory = directory
        self._monotonic = monotonic
        self._bits = 0
        self._paused_until = monotonic()
        # Guards what follows: the store's writer forgets while threads keep. Reading
        # a dictionary takes no lock.
        self._lock = threading.Lock()
        self._changes = 0
        self._files: dict[str, StaticFile] = {}
        self._of_bundles: dict[BundlePlace, list[str]] = {}
        self._undestroyed: set[str] = set()

    def begin(self) -> None:
        """Empty the directory, whoever filled it, before anybody is answered.

        Raises:
            OSError: It cannot be made or emptied: erased bodies could be in it.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._bits = stat.S_IMODE(self._directory.stat().st_mode)
        with os.scandir(self._directory) as found:
            ours = [one.path for one in found if _LOG_FOLDER.fullmatch(one.name)]
        for path in ours:
            shutil.rmtree(path)

    def end(self) -> None:
        """Empty the directory: who would keep it clean from now on?"""
        with self._lock:
            self._changes += 1
            self._paused_until = float("inf")
            self._files.clear()
            self._of_bundles.clear()
            try:
                self.begin()
            except OSError as error:
                _log.error("static files cannot be removed", code=_reason(error))

    def want(
        self, resource: TileId | EntryBundleId | BodyBundleId, coding: Coding
    ) -> Wanted:
        """Begin to look for a file; to be done before the transaction that reads.

        What changes from then on makes stale what that transaction sees.
        """
        return Wanted(resource, coding, self._changes)

    def held(self, log: Log, audience: Audience, wanted: Wanted) -> StaticFile | None:
        """Find a file that there is; for a log and audience as `find` takes them.

        Raises:
            NotServedError: The published tree has no such thing.
        """
        check_published(log, wanted.resource)
        return self._files.get(_key_of(log, wanted, audience) or "")

    def find(
        self, conn: Connection, log: Log, audience: Audience, wanted: Wanted
    ) -> StaticFile | Draft | None:
        """Find the file of a tile or bundle, or read what is to be in it.

        Args:
            conn: The transaction in which it was decided that the audience may have
                the log.
            log: The log.
            audience: Who asks.
            wanted: What of it.

        Returns:
            None if there can be none: it is partial, or what this audience may see is
            for few others.

        Raises:
            NotServedError: The published tree has no such thing.
        """
        check_published(log, wanted.resource)
        key = _key_of(log, wanted, audience)
        if key is None:
            return None
        file = self._files.get(key)
        if file is not None or self._is_paused():
            return file
        match wanted.resource:
            case TileId() as tile:
                return Draft(key, read_tile(conn, log, tile))
            case EntryBundleId() as bundle:
                return Draft(key, read_entries(conn, log, bundle))
            case BodyBundleId() as bundle:
                content = read_bodies(conn, log, bundle, audience)
                place = BundlePlace(log.log_id, bundle.index)
                return Draft(key, content, place, wanted)
            case _:
                assert_never(wanted.resource)

    def keep(self, draft: Draft) -> StaticFile | None:
        """Write the file of a draft; takes a millisecond or two.

        Returns:
            None if there is no room, or its content changed meanwhile.
        """
        file, coded = _file_of(draft)
        with self._lock:
            known = self._files.get(draft.key)
            wanted = draft.wanted
            is_stale = wanted is not None and wanted.as_of != self._changes
            if known is not None or is_stale or self._is_paused():
                return known
            try:
                self._write(file.path, coded)
            except OSError as error:
                self._paused_until = self._monotonic() + _PAUSE_SECONDS
                _log.error("static files cannot be written", code=_reason(error))
                return None
            self._files[draft.key] = file
            if draft.place is not None:
                self._of_bundles.setdefault(draft.place, []).append(draft.key)
        return file

    def forget(self, places: AbstractSet[BundlePlace]) -> None:
        """Remove the files of bundles that changed."""
        with self._lock:
            # Whoever read one of them before this may not keep it after.
            self._changes += 1
            for place in places:
                for key in self._of_bundles.pop(place, ()):
                    self._undestroyed.add(self._files.pop(key).path)
            self._destroy()

    def scrub(self) -> None:
        """Make sure that what was to be removed is."""
        with self._lock:
            self._destroy()
            if self._undestroyed:
                raise ScrubError

    def _is_paused(self) -> bool:
        return self._monotonic() < self._paused_until

    def _write(self, path: str, content: bytes) -> None:
        """Put a file in its place, whole or not at all.

        It is not synced: a file that a crash has cut is removed at the next start.
        """
        target = self._directory / path
        draft = target.with_name(f"{target.name}.new")
        self._make_folder(target.parent)
        try:
            with draft.open("xb") as file:
                os.fchmod(file.fileno(), self._bits & _FILE_BITS)
                file.write(content)
            draft.rename(target)
        except BaseException:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise

    def _make_folder(self, folder: Path) -> None:
        if folder == self._directory or folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(self._bits & _FOLDER_BITS)

    def _destroy(self) -> None:
        for path in sorted(self._undestroyed):
            try:
                (self._directory / path).unlink(missing_ok=True)
            except OSError as error:
                _log.error("static file cannot be removed", code=_reason(error))
            else:
                self._undestroyed.discard(path)


def _key_of(log: Log, wanted: Wanted, audience: Audience) -> str | None:
    resource = wanted.resource
    if resource.width != TILE_WIDTH:
        return None
    name = f"{origin_hash(log.origin)}/{encode_tile_path(resource)}"
    if not isinstance(resource, BodyBundleId):
        return f"{name}.all"
    seen = shared_name(audience)
    return None if seen is None else f"{name}.{seen}.{wanted.coding}"


def _file_of(draft: Draft) -> tuple[StaticFile, bytes]:
    if draft.wanted is None:
        return StaticFile(draft.key, len(draft.content)), draft.content
    tag, coding = etag_of(draft.content), draft.wanted.coding
    coded = encode_content(draft.content, coding)
    path = f"{draft.key}.{tag[1:-1]}"
    return StaticFile(path, len(coded), coding, coded_tag(tag, coding)), coded


def _reason(error: OSError) -> str:
    return "storage-full" if error.errno == errno.ENOSPC else "storage-error"
