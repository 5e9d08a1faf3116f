"""How a node's settings say its keys are to be opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hashlight_node.keys import KeyAccess, read_passphrase

if TYPE_CHECKING:
    from hashlight_node.config import Settings


def key_access(settings: Settings) -> KeyAccess:
    """Read what opens the keys that are not plain files.

    Raises:
        KeyFileError: The passphrase cannot be read, or others can read it.
    """
    keys = settings.keys
    return KeyAccess(
        passphrase=read_passphrase(Path(keys.passphrase_file))
        if keys.passphrase_file
        else None,
        agent=Path(keys.agent_socket) if keys.agent_socket else None,
    )
