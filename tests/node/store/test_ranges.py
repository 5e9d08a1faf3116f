"""Ranges that overlap, resolved; held against deciding leaf by leaf."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hashlight_node.store.ranges import (
    Effect,
    Withdrawal,
    clip,
    resolve,
    withdrawals_in,
)
from hashlight_protocol import Entry, Erase, Meta, Reason, Retract


@st.composite
def _withdrawals(draw: st.DrawFn) -> list[Withdrawal]:
    ranks = draw(st.lists(st.integers(0, 1), max_size=12))
    found: list[Withdrawal] = []
    for leaf_index, rank in enumerate(ranks, 100):
        first = draw(st.integers(0, 60))
        count = draw(st.integers(1, 30))
        found.append(Withdrawal(rank, leaf_index, first, first + count, 0))
    return found


@given(_withdrawals())
def test_each_leaf_is_decided_by_the_first_erase_or_else_the_first_retract(
    withdrawals: list[Withdrawal],
) -> None:
    effects = resolve(withdrawals)
    decided = {
        leaf: effect.by
        for effect in effects
        for leaf in range(effect.first, effect.end)
    }
    assert len(decided) == sum(effect.end - effect.first for effect in effects)
    assert effects == sorted(effects)
    for leaf in range(100):
        covering = [it for it in withdrawals if it.first <= leaf < it.end]
        assert decided.get(leaf) == min(covering, default=None)


def test_thousands_of_ranges_over_a_whole_log_are_one_effect() -> None:
    ranges = [Withdrawal(1, 10**7 + n, 0, 10**7, 0) for n in range(4096)]
    assert resolve(ranges) == [Effect(0, 10**7, ranges[0])]


def test_only_withdrawals_are_picked_out_of_a_batch() -> None:
    entries: list[Entry] = [Meta("x"), Retract(1, 2, Reason.EXPIRED), Erase(3, 4, 77)]
    assert withdrawals_in(entries, 50) == [
        Withdrawal(1, 51, 1, 3, 3),
        Withdrawal(0, 52, 3, 7, 77),
    ]


def test_clipping_keeps_what_lies_within() -> None:
    by = Withdrawal(0, 99, 0, 20, 0)
    effects = [Effect(0, 5, by), Effect(8, 20, by)]
    assert list(clip(effects, 3, 10)) == [Effect(3, 5, by), Effect(8, 10, by)]
    assert list(clip(effects, 5, 8)) == []
