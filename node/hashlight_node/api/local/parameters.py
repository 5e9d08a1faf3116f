"""Parameters in paths: one pattern each, which routes check and OpenAPI shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hashlight_node.api.errors import InvalidParameterError
from hashlight_node.model import Purpose

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multidict import MultiMapping

MAX_ROW_ID: Final = 2**63 - 1
"""Largest number that a database takes for a row."""

_NODE: Final = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
_LIST: Final = r"[a-z0-9][a-z0-9-]{0,63}"
_NUMBER: Final = r"(0|[1-9][0-9]{0,17})"
_EVENT_ID: Final = rf"{_NUMBER}(-{_NUMBER}-{_NUMBER})?"
_TYPE: Final = r"[a-z0-9][a-z0-9_/-]{0,63}"


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
    "owner": PathParameter(_NODE, "Name of the node whose list it is.", "ngo.example"),
    "ref": PathParameter(
        f"{_NODE}/hsf/v1/log/{_LIST}/[1-9][0-9]{{0,8}}#{_NUMBER}",
        "Reference of a record, `<origin>#<index>`, percent-encoded whole.",
        "shield.example/hsf/v1/log/ncii/1#33",
    ),
    "id": PathParameter(r"[1-9][0-9]{0,17}", "Number of the row.", "7"),
}


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """The form of a parameter behind the path.

    Attributes:
        pattern: Matches the whole value.
        description: For the document.
        schema: JSON Schema of the value; says the same as `pattern`.
    """

    pattern: str
    description: str
    schema: Mapping[str, object]


QUERY_PARAMETERS: Final[Mapping[str, QueryParameter]] = {
    "type": QueryParameter(
        _TYPE,
        "Only signals of this type.",
        {"type": "string", "pattern": f"^{_TYPE}$"},
    ),
    "list": QueryParameter(
        f"({_NODE}/)?{_LIST}",
        "Only records of this list: the name of one of ours, or `<node>/<list>`.",
        {"type": "string", "pattern": f"^({_NODE}/)?{_LIST}$"},
    ),
    "max_distance": QueryParameter(
        r"(0|[12]?[1-9]|[12]0|3[01])",
        "Only matches at most this far, 0 to 31 bits.",
        {"type": "string", "pattern": r"^(0|[12]?[1-9]|[12]0|3[01])$"},
    ),
    "purpose": QueryParameter(
        "|".join(Purpose),
        "With `scan`, for what was stored before, matches neither count for "
        "`flood_matches` nor enter the match log; `upload` if it is not given.",
        {"type": "string", "enum": list(Purpose)},
    ),
    "after": QueryParameter(
        _EVENT_ID,
        "Begin behind the event with this id, or the match of this number; in an event "
        "stream the header `Last-Event-ID` wins.",
        {"type": "string", "pattern": f"^{_EVENT_ID}$"},
    ),
}
"""Parameters of operations by name; one name means the same everywhere."""

EVENT_ID: Final = "Last-Event-ID"
"""The header in which a client that connects again says where it stopped."""

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


def read_query(names: tuple[str, ...], query: MultiMapping[str]) -> dict[str, str]:
    """Check the parameters behind a request's path that an operation takes.

    Args:
        names: Of `QUERY_PARAMETERS`.
        query: The request's.

    Returns:
        Those that are there.

    Raises:
        InvalidParameterError: One is there twice, or not of its form.
    """
    found: dict[str, str] = {}
    for name in names:
        values = query.getall(name, [])
        if len(values) > 1:
            raise InvalidParameterError(name, "is given more than once")
        if not values:
            continue
        if re.fullmatch(QUERY_PARAMETERS[name].pattern, values[0]) is None:
            raise InvalidParameterError(name, "is not of the form that it must have")
        found[name] = values[0]
    return found


def read_event_id(names: tuple[str, ...], headers: MultiMapping[str]) -> dict[str, str]:
    """Check where a client of an event stream says that it stopped.

    Args:
        names: Parameters of the operation; only one with `after` resumes.
        headers: The request's.

    Returns:
        Instead of the parameter `after`, if the header is there.

    Raises:
        InvalidParameterError: It is there twice, or no id of ours.
    """
    values = headers.getall(EVENT_ID, []) if "after" in names else []
    if not values:
        return {}
    if len(values) > 1 or re.fullmatch(_EVENT_ID, values[0]) is None:
        raise InvalidParameterError(EVENT_ID, "is not the id of an event")
    return {"after": values[0]}
