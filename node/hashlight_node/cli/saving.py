"""Signed notes as files, for whoever is to check them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashlight_node.cli.session import CommandError

if TYPE_CHECKING:
    from pathlib import Path


def save_note(directory: Path, name: str, note: str) -> None:
    """Write a signed note into a directory, which is made if it is missing.

    Raises:
        CommandError: It cannot be written.
    """
    path = directory / f"{name}.note"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # Byte by byte as it was signed, on every system.
        path.write_bytes(note.encode())
    except OSError as error:
        message = f"cannot write {path} ({error.strerror})"
        raise CommandError(message) from error
