"""Puts a node together out of its settings, runs it, and takes it apart again.

The composition root: the only place that knows all parts. Nothing is global, so
several nodes live in one process in the tests.
"""

from .judging import build_criteria
from .memory import Behind, Memory, load_memory
from .node import LOCAL_SHUTDOWN_SECONDS, RunningNode, start_node, system_clock

__all__ = [
    "LOCAL_SHUTDOWN_SECONDS",
    "Behind",
    "Memory",
    "RunningNode",
    "build_criteria",
    "load_memory",
    "start_node",
    "system_clock",
]
