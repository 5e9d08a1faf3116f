"""Cases: everything that was published for one request for help."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from .lists import ReasonName
from .wire import RefText, Request, Token


class CaseWithdrawal(Request):
    """A case to be ended."""

    case: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    kind: Literal["retract", "erase"] = "erase"
    reason: ReasonName = "withdrawn"


class RecordWithdrawn(TypedDict):
    """A record of the case, and the entry that ended it."""

    ref: RefText
    withdrawn_by: RefText


class StillAssertedShown(TypedDict):
    """A signal of the case that goes on matching, because others assert it too."""

    type: Token
    refs: Annotated[
        list[RefText], Field(description="Live records that do, of any node.")
    ]


class CaseAnswer(TypedDict):
    """What became of a case."""

    withdrawn: list[RecordWithdrawn]
    still_asserted: list[StillAssertedShown]
