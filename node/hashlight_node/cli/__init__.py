"""The command line: `hashlight`.

One module per group of commands. They talk to a running node through its local
API; `hash` and `verify` need no node at all. Heavy imports stay inside the
commands, so that `--help` answers at once.
"""

from hashlight_node.cli.main import main

__all__ = ["main"]
