"""Notes that a node sends about itself are told apart and verified."""

import pytest

from hashlight_protocol import (
    Descriptor,
    ListNote,
    ProtocolError,
    open_added_note,
    parse_vkey,
)
from support.vectors import Case, cases


@pytest.mark.parametrize("case", cases("added-notes.json"))
def test_the_vectors_hold(case: Case) -> None:
    raw, identity = case["note"].encode(), parse_vkey(case["identity"])
    if case["valid"]:
        kind = ListNote if case["kind"] == "list-note" else Descriptor
        assert isinstance(open_added_note(raw, identity), kind)
        return
    with pytest.raises(ProtocolError) as caught:
        open_added_note(raw, identity)
    assert caught.value.code == case["error"]
