"""Parameters in paths: one pattern each, which routes check and OpenAPI shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hashlight_node.api.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ROW_ID: Final = 2**63 - 1
"""Largest number that a database takes for a row."""

_NODE: Final = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
_LIST: Final = r"[a-z0-9][a-z0-9-]{0,63}"
_NUMBER: Final = r"(0|[1-9][0-9]{0,17})"


@dataclass(frozen=True, slots=True)
class PathParameter:
    """The form of a parameter.

    Attributes:
        pattern: Matches the whole value; the same in Python and in ECMAScript.
        description: For the document.
        example: A value.
    """

    pattern: str
    description: str
    example: str

    @property
    def schema(self) -> dict[str, object]:
        """Give the JSON Schema of the value."""
        return {"type": "string", "pattern": f"^{self.pattern}$"}


PATH_PARAMETERS: Final[Mapping[str, PathParameter]] = {
    "list": PathParameter(_LIST, "Name of a list.", "ncii"),
    "listed": PathParameter(
        f"({_NODE}/)?{_LIST}",
        "Name of a list of ours, or `<node>/<list>` percent-encoded.",
        "ncii",
    ),
    "peer": PathParameter(_NODE, "Name of a peer.", "shield.example"),
    "ref": PathParameter(
        f"{_NODE}/hsf/v1/log/{_LIST}/[1-9][0-9]{{0,8}}#{_NUMBER}",
        "Reference of a record, `<origin>#<index>`, percent-encoded whole.",
        "shield.example/hsf/v1/log/ncii/1#33",
    ),
    "id": PathParameter(r"[1-9][0-9]{0,17}", "Number of the row.", "7"),
}

_PLACEHOLDER: Final = re.compile(r"\{([a-z]+)\}")


def names_in(path: str) -> tuple[str, ...]:
    """Give the names of the parameters in a path template."""
    return tuple(_PLACEHOLDER.findall(path))


def read_path(values: Mapping[str, str]) -> dict[str, str]:
    """Check the parameters of a request's path.

    Raises:
        InvalidParameterError: One is not of its form.
    """
    for name, value in values.items():
        if re.fullmatch(PATH_PARAMETERS[name].pattern, value) is None:
            raise InvalidParameterError(name, "is not of the form that it must have")
    return dict(values)
