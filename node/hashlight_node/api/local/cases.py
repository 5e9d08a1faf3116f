"""Ending a case: taking back everything that was published for it."""

from __future__ import annotations

from typing import Final

from hashlight_node.exchange.errors import ListInactiveError, UnknownCaseError
from hashlight_node.model import Scope
from hashlight_protocol import encode_ref

from .answers import JsonAnswer
from .bodies import JsonBody
from .models.cases import CaseAnswer, CaseWithdrawal
from .operations import Call, operation
from .publishing import REASONS


@operation(
    "POST",
    "/v1/cases/withdraw",
    scope=Scope.PUBLISH,
    takes=JsonBody(CaseWithdrawal),
    gives=JsonAnswer(CaseAnswer),
    raises=(UnknownCaseError, ListInactiveError),
)
async def withdraw_case(call: Call[CaseWithdrawal]) -> CaseAnswer:
    """Take back every record of ours that names a case, in all lists.

    A signal that other records assert as well, of another case or another node, goes
    on matching; the answer says which and because of what. Repeating it is harmless.
    """
    body = call.body
    done = await call.parts.cases.withdraw(body.case, body.kind, REASONS[body.reason])
    return {
        "withdrawn": [
            {"ref": encode_ref(ref), "withdrawn_by": encode_ref(by)}
            for ref, by in done.withdrawn
        ],
        "still_asserted": [
            {"type": one.type, "refs": [encode_ref(ref) for ref in one.refs]}
            for one in done.still_asserted
        ],
    }


OPERATIONS: Final = (withdraw_case,)
