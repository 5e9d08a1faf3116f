"""Starting Python processes that find the same code as the tests."""

from __future__ import annotations

import os
import sys


def python_path() -> dict[str, str]:
    """Give an environment in which imports work as they do here."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
