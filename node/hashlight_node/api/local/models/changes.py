"""What becomes live or dead."""

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

SignalId = Annotated[
    int, Field(ge=1, description="Names a signal in this node; never used twice.")
]


class SignalLive(TypedDict):
    """Data of the event `live`: somebody asserts the signal."""

    signal_id: SignalId
    type: str
    value: str


class SignalDied(TypedDict):
    """Data of the event `dead`: nobody asserts the signal any more."""

    signal_id: SignalId


class Current(TypedDict):
    """Data of the event `current`: whoever read up to its id knows everything."""

    pdq_threshold: Annotated[
        int, Field(ge=0, description="Largest distance at which any list's PDQ match.")
    ]
    clock_ms: Annotated[
        int,
        Field(
            ge=0,
            description="When that was, in milliseconds of a clock of the node; only "
            "differences within one stream mean something.",
        ),
    ]
