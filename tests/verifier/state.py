"""What was seen of a list, kept from run to run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .logs import Head
from .notes import Json, RefusedError, decode64, encode64

if TYPE_CHECKING:
    from pathlib import Path


class UsageError(Exception):
    """What the caller gave cannot be used."""


def text_of(note: str) -> str:
    return note.rpartition("\n\n")[0]


class State:
    """What was seen in this run and in earlier ones, in one JSON file.

    It is written before it is used: whatever a key of the log has signed counts, also
    if the run ends there.
    """

    def __init__(self, path: Path, identity_vkey: str, list_name: str) -> None:
        self._path = path
        about = {"identity": identity_vkey, "list": list_name}
        self._saved: Json = {**about, "versions": {}, "logs": {}}
        if path.exists():
            try:
                self._saved = json.loads(path.read_text("utf-8"))
                mine = all(self._saved[name] == about[name] for name in about)
                mine = mine and {"versions", "logs"} <= self._saved.keys()
            except (ValueError, LookupError, TypeError):
                raise UsageError(f"{path} is not a state file") from None
            if not mine:
                raise UsageError(f"{path} is about another list or identity")

    def _save(self) -> None:
        draft = self._path.with_name(self._path.name + ".new")
        draft.write_text(json.dumps(self._saved, indent=1) + "\n", "utf-8")
        draft.replace(self._path)

    def check_version(self, what: str, version: int, note: str) -> str | None:
        """Refuse a document that does not follow the one before, and give that."""
        known = self._saved["versions"].get(what)
        if known is None:
            return None
        same = text_of(note) == text_of(known["note"])
        if version < known["version"] or (version == known["version"] and not same):
            detail = f"version {version} after {known['version']}"
            raise RefusedError("stale-version", detail, known["note"], note)
        return str(known["note"])

    def keep_version(self, what: str, version: int, note: str) -> None:
        """Keep the newest version of a document."""
        self._saved["versions"][what] = {"version": version, "note": note}
        self._save()

    def remember(self, origin: str, head: Head, source: str) -> None:
        """Keep a signed state of a log; two of one size must be equal."""
        log = self._saved["logs"].setdefault(origin, {})
        root = encode64(head.root)
        new = {"root": root, "note": head.note, "from": source}
        known = log.setdefault(str(head.size), new)
        if known is new:
            self._save()
        if known["root"] != root:
            detail = f"two roots of {head.size} leaves, the other from {known['from']}"
            raise RefusedError("split-view", detail, known["note"], head.note)

    def seen(self, origin: str) -> list[tuple[Head, str]]:
        """Give every state that was ever seen, smallest first, and where."""
        log = self._saved["logs"].get(origin, {})
        return [
            (Head(int(size), decode64(it["root"]), it["note"]), it["from"])
            for size, it in sorted(log.items(), key=lambda item: int(item[0]))
        ]
