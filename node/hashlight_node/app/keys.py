"""How a node's settings say its keys are to be opened."""

from __future__ import annotations

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
    passphrase = None
    if keys.passphrase_file is not None:
        passphrase = read_passphrase(keys.passphrase_file)
    return KeyAccess(passphrase=passphrase, agent=keys.agent_socket)
