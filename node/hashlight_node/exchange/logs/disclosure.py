"""What of a log's content one audience may see: the one place where bodies leave.

Entries, tiles and proofs are for everybody who may have the log at all, whatever its
audience. Bodies are not: what is not let through here is withheld.

Source: SPEC.md#scopes and SPEC.md#mirroring.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from hashlight_protocol import WHOLE_LIST, withhold, withhold_unshared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashlight_protocol import Body, GrantScope


@dataclass(frozen=True, slots=True)
class Insider:
    """Our own operators, and the node that wrote the log: all that we hold."""


@dataclass(frozen=True, slots=True)
class Grantee:
    """A peer with a grant of ours.

    Attributes:
        scope: Which records it is for.
    """

    scope: GrantScope


@dataclass(frozen=True, slots=True)
class ThirdParty:
    """A peer that gets another node's log from us: what says `share: peers` itself.

    Attributes:
        scope: What the owner of the log lets us see. It may be narrower now than when
            we got a body, and what we may not see we do not pass on.
    """

    scope: GrantScope = WHOLE_LIST


Audience = Insider | Grantee | ThirdParty


def shared_name(audience: Audience) -> str | None:
    """Name what an audience sees if most others of its kind see exactly the same.

    Args:
        audience: Who will read.

    Returns:
        Equal only where `disclose` gives equal bodies; None if that is not worth
        keeping, because the audience is one peer or a part of a list.
    """
    match audience:
        case Grantee(scope):
            return "granted" if scope == WHOLE_LIST else None
        case ThirdParty(scope):
            return "relayed" if scope == WHOLE_LIST else None
        case Insider():
            return None
        case _:
            assert_never(audience)


def disclose(bodies: Sequence[Body], audience: Audience) -> tuple[Body, ...]:
    """Withhold what an audience may not see.

    Args:
        bodies: As they are stored.
        audience: Who will read them.

    Returns:
        As many bodies.
    """
    match audience:
        case Insider():
            return tuple(bodies)
        case Grantee(scope):
            return withhold(bodies, scope)
        case ThirdParty(scope):
            return withhold_unshared(withhold(bodies, scope))
        case _:
            assert_never(audience)
