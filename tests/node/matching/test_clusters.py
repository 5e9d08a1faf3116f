"""Near duplicates: everything that hangs together, and nothing else."""

from __future__ import annotations

import random

from hashlight_node.matching.clusters import MAX_MEMBERS
from hashlight_node.matching.matcher import Matcher
from hashlight_protocol import Signal

START = "0f" * 32


def flip(value: str, *places: int) -> str:
    return f"{int(value, 16) ^ sum(1 << it for it in places):064x}"


def matcher_of(*values: str) -> Matcher:
    matcher = Matcher(pdq_threshold=31)
    matcher.load((at, "pdq", value) for at, value in enumerate(values, 1))
    return matcher


def test_a_chain_is_followed_to_its_end_and_not_across_gaps() -> None:
    chain = [START]
    for step in range(1, 5):
        chain.append(flip(chain[-1], *range(step * 31, step * 31 + 31)))
    far = flip(chain[-1], *range(32))
    matcher = matcher_of(*chain, far)
    cluster = matcher.cluster(Signal("pdq", START), max_distance=31)
    assert [it.value for it in cluster.members] == chain
    assert [it.links for it in cluster.members] == [1, 1, 2, 3, 4]
    assert [it.distance for it in cluster.members] == [0, 31, 62, 93, 124]
    assert not cluster.truncated
    narrow = matcher.cluster(Signal("pdq", START), max_distance=30)
    assert [it.value for it in narrow.members] == [START]


def test_the_hash_that_is_asked_about_need_not_be_known() -> None:
    known = flip(START, 1, 2)
    cluster = matcher_of(known).cluster(Signal("pdq", START), max_distance=31)
    (member,) = cluster.members
    assert (member.value, member.distance, member.links) == (known, 2, 1)
    nothing = matcher_of(flip(START, *range(40)))
    assert nothing.cluster(Signal("pdq", START), max_distance=31).members == ()


def test_clusters_are_those_of_a_comparison_of_all_with_all() -> None:
    rng = random.Random(11)  # noqa: S311 -- no secret
    values = [START]
    while len(values) < 150:
        places = rng.sample(range(256), rng.choice((5, 20, 31, 60)))
        values.append(flip(rng.choice(values), *places))
    linked, frontier = {START}, [START]
    while frontier:
        here = int(frontier.pop(), 16)
        near = {
            it
            for it in values
            if it not in linked and (int(it, 16) ^ here).bit_count() <= 20
        }
        linked |= near
        frontier.extend(near)
    cluster = matcher_of(*values).cluster(Signal("pdq", START), max_distance=20)
    assert {it.value for it in cluster.members} == linked
    assert len(cluster.members) == len(linked) < 150


def test_a_cluster_without_end_is_cut_and_said_to_be() -> None:
    values = [flip(START, at % 256, at // 256) for at in range(2 * MAX_MEMBERS)]
    cluster = matcher_of(*dict.fromkeys(values)).cluster(
        Signal("pdq", START), max_distance=31
    )
    assert len(cluster.members) == MAX_MEMBERS
    assert cluster.truncated
