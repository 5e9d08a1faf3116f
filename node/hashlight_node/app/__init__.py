"""Puts a node together out of its settings, runs it, and takes it apart again.

The composition root: the only place that knows all parts. Nothing is global, so
several nodes live in one process in the tests.
"""

from .looking_up import follow_store
from .memory import Behind, Claimed, Memory, load_memory
from .node import LOCAL_SHUTDOWN_SECONDS, RunningNode, start_node, system_clock
from .standing_by import Shared, Standby, stand_by

__all__ = [
    "LOCAL_SHUTDOWN_SECONDS",
    "Behind",
    "Claimed",
    "Memory",
    "RunningNode",
    "Shared",
    "Standby",
    "follow_store",
    "load_memory",
    "stand_by",
    "start_node",
    "system_clock",
]
