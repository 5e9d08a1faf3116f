"""Pictures named on the command line, hashed here: none leaves this process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hashlight_node.cli.session import CommandError
from hashlight_node.matching.image import ImageRefusedError, hash_image

if TYPE_CHECKING:
    from hashlight_node.local_client import Json
    from hashlight_node.matching.image import ImageSignals


def hash_picture(path: Path) -> ImageSignals:
    """Hash one picture file.

    Raises:
        CommandError: It cannot be read, is no picture, or is too plain to match.
    """
    try:
        return hash_image(path.read_bytes())
    except OSError as error:
        message = f"{path}: {error.strerror}"
        raise CommandError(message) from error
    except ImageRefusedError as error:
        message = f"{path}: {error}"
        raise CommandError(message) from error


def picture_claims(path: Path) -> list[Json]:
    """Give the signals of one picture as a record claims them."""
    signals = hash_picture(path)
    return [
        {"type": "pdq", "value": signals.pdq, "quality": signals.quality},
        {"type": "md5", "value": signals.md5},
        {"type": "sha256", "value": signals.sha256},
    ]
