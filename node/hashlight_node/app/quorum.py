"""The operator's file about whose cosignatures are needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hashlight_node.config import SettingsError
from hashlight_node.exchange.logs.quorum import NO_QUORUM
from hashlight_protocol import MAX_POLICY_BYTES, ProtocolError, parse_policy

if TYPE_CHECKING:
    from hashlight_protocol import Policy


def read_policy(name: str) -> Policy:
    """Read the policy that `[exchange] quorum` names; without one nobody is asked.

    Args:
        name: Absolute path of the file; empty for none.

    Raises:
        SettingsError: It cannot be read, or is no policy: a node that quietly went on
            without would believe what its operator did not want it to believe.
    """
    if not name:
        return NO_QUORUM
    path = Path(name)
    try:
        with path.open("rb") as file:
            return parse_policy(file.read(MAX_POLICY_BYTES + 1))
    except OSError as error:
        raise SettingsError(path, (error.strerror or "cannot be read",)) from error
    except ProtocolError as error:
        raise SettingsError(path, (str(error),)) from error
