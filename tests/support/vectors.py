"""How vector files are written and read."""

import base64
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

Case = dict[str, Any]
VECTORS = Path(__file__).resolve().parents[1] / "vectors"


def good(name: str, **members: Any) -> Case:  # noqa: ANN401 -- JSON of any shape
    """Make a case that has to be accepted."""
    return {"name": name, "valid": True, **members}


def bad(name: str, error: str, **members: Any) -> Case:  # noqa: ANN401
    """Make a case that has to be refused with this error code."""
    return {"name": name, "valid": False, "error": error, **members}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def hexes(values: Sequence[bytes]) -> list[str]:
    return [value.hex() for value in values]


def document(about: str, cases: Iterable[Case]) -> str:
    """Write a file of vectors."""
    content = {"about": about, "cases": list(cases)}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def load(name: str) -> dict[str, Any]:
    """Read a file of vectors."""
    content: dict[str, Any] = json.loads((VECTORS / name).read_text("utf-8"))
    return content


def cases(name: str) -> list[Any]:
    """Give the cases of a file, each as a parameter of a test."""
    return [pytest.param(case, id=case["name"]) for case in load(name)["cases"]]
