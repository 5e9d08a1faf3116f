"""What a check of the store found, and what it takes to mend it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hashlight_node.model import Log
    from hashlight_node.store.stored import BadSignal

    from .tree_survey import TreeSurvey

MOST_TOLD: Final = 1000
"""Pieces of damage that are kept to be named; all are counted."""


class DamageKind(StrEnum):
    """What is not as it must be."""

    FILE = "file"
    """The database itself says that its pages do not fit together."""

    TILE = "tile"
    ENTRY = "entry"
    ROOT = "root"
    """Entries and tiles do not lead to the root that was signed."""

    CHECKPOINT = "checkpoint"
    COSIGNATURE = "cosignature"
    LIST_NOTE = "list-note"
    HISTORY = "history"
    """A root that is remembered of an earlier size is not the one of that size."""

    BODY = "body"
    """A salt or body is not what its entry commits to."""

    RECORD = "record"
    """What is stored about a record does not follow from its entry and body."""

    WITHDRAWAL = "withdrawal"
    """A RETRACT or ERASE is not remembered, or a record does not heed it."""

    SIGNAL = "signal"
    """A signal's number or count does not follow from the records."""


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is not as it must be.

    Attributes:
        kind: What.
        origin: The log; empty if it is about none.
        level: Level of a tile.
        index: Index of a tile or bundle, or size of a tree.
        leaf_index: The leaf.
        signal_id: Number of a signal.
        detail: More, in a few words.
    """

    kind: DamageKind
    origin: str = ""
    level: int | None = None
    index: int | None = None
    leaf_index: int | None = None
    signal_id: int | None = None
    detail: str = ""


@dataclass(slots=True)
class LogFindings:
    """What was found in one log, and what it takes to mend it.

    Attributes:
        log: The log as it was at the beginning.
        survey: Its tree.
        is_proven: Whether the tree leads to the root that counts.
        root: That root.
        leaves: Leaves whose bodies or records are wrong.
        bodies: Those of them of which the body itself is wrong.
        withdrawals: Blocks whose withdrawals are not remembered as they are.
        unwithdrawn: Leaves that count although they were taken back.
        history: Sizes whose remembered root is wrong, with the right one.
        notes: What else is wrong.
    """

    log: Log
    survey: TreeSurvey
    is_proven: bool = False
    root: bytes = b""
    leaves: list[int] = field(default_factory=list)
    bodies: list[int] = field(default_factory=list)
    withdrawals: list[int] = field(default_factory=list)
    unwithdrawn: list[int] = field(default_factory=list)
    history: list[tuple[int, bytes]] = field(default_factory=list)
    notes: list[DamageKind] = field(default_factory=list)

    @property
    def needs_mending(self) -> bool:
        """Whether anything is wrong."""
        survey = self.survey
        return not self.is_proven or any(
            (
                survey.bad_tiles,
                survey.bad_entries,
                self.leaves,
                self.withdrawals,
                self.unwithdrawn,
                self.history,
                self.notes,
            )
        )


@dataclass(slots=True)
class Findings:
    """What a check found.

    Attributes:
        logs: Logs that were looked at.
        leaves: Entries that were hashed again.
        records: Records that were compared.
        signals: Signals that were counted.
        damage: The first pieces of damage.
        counts: All of them, by kind.
        by_log: What it takes to mend each log that needs it.
        bad_signals: Signals that are wrong.
    """

    logs: int = 0
    leaves: int = 0
    records: int = 0
    signals: int = 0
    damage: list[Damage] = field(default_factory=list)
    counts: Counter[DamageKind] = field(default_factory=Counter)
    by_log: list[LogFindings] = field(default_factory=list)
    bad_signals: list[BadSignal] = field(default_factory=list)

    def tell(self, damage: Damage) -> None:
        """Add a piece of damage."""
        self.counts[damage.kind] += 1
        if len(self.damage) < MOST_TOLD:
            self.damage.append(damage)

    def add(self, other: Findings) -> None:
        """Add what was found in a part of the store."""
        self.logs += other.logs
        self.leaves += other.leaves
        self.records += other.records
        self.counts.update(other.counts)
        self.damage += other.damage[: MOST_TOLD - len(self.damage)]

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.counts
