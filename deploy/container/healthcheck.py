"""Tell whether the node in this container answers, for Docker's HEALTHCHECK.

    python deploy/container/healthcheck.py [/readyz]

It asks the local listener where the settings say that it is, so it follows
`HASHLIGHT_LOCAL_LISTEN` as the node does. A minimal image has no curl to ask with.
"""

from __future__ import annotations

import http.client
import os
import sys
from pathlib import Path
from typing import Final

from hashlight_node.config import SettingsError, load_settings, split_address

_SECONDS: Final = 4
# Listening on every address is no address to connect to.
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  replaced, not used


def main() -> int:
    """Ask once.

    Returns:
        Exit code: 0 if the node says yes, 1 if it says no or nothing.
    """
    path = sys.argv[1] if len(sys.argv) > 1 else "/healthz"
    config = Path(os.environ.get("HASHLIGHT_CONFIG", "hashlight.toml"))
    try:
        host, port = split_address(load_settings(config).local.listen)
        connection = http.client.HTTPConnection(
            _LOOPBACK.get(host, host), port, timeout=_SECONDS
        )
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException, SettingsError) as error:
        print(f"{path}: {type(error).__name__}")
        return 1
    print(f"{path}: {status}")
    return 0 if status == http.HTTPStatus.OK else 1


if __name__ == "__main__":
    sys.exit(main())
