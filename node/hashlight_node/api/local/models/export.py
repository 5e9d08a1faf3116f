"""Lines of an export."""

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from .lookup import RecordShown, SignalShown
from .wire import Timestamp


class RecordExported(RecordShown):
    """A live record that asserts the signal, with the time at which it will not."""

    expires: Timestamp | None


class SignalExported(TypedDict):
    """One line: a live signal and records that assert it."""

    signal: SignalShown
    records: Annotated[list[RecordExported], Field(min_length=1)]
