"""What several opinions come to: ours wins, and nobody else can make us ignore."""

import pytest

from hashlight_node.matching.opinions import fold
from hashlight_node.model import OpinionFold, StoredOpinion
from hashlight_protocol import Ref

US, PEER, OTHER = "beta.example", "alpha.example", "gamma.example"
RECORD = Ref("shield.example/hsf/v1/log/ncii/1", 5)
SECOND = Ref("shield.example/hsf/v1/log/ncii/1", 9)


def said(
    node: str,
    stance: str,
    *,
    at: int = 1,
    signal_type: str | None = None,
    about: Ref = RECORD,
) -> StoredOpinion:
    return StoredOpinion(
        node=node,
        ref=Ref(f"{node}/hsf/v1/log/feedback/1", at),
        about=about,
        signal_type=signal_type,
        stance=stance,
        reason=None,
    )


def folded(
    *opinions: StoredOpinion, reviewed: bool = True, signal_type: str | None = "pdq"
) -> OpinionFold:
    return fold(opinions, node_name=US, reviewed=reviewed, signal_type=signal_type)


@pytest.mark.parametrize("reviewed", [True, False])
def test_without_opinions_the_review_decides(reviewed: bool) -> None:
    expected = OpinionFold.POSITIVE if reviewed else OpinionFold.SEED
    assert folded(reviewed=reviewed) is expected
    unsure = [
        said(PEER, "unsure"),
        said(US, "unsure"),
        said(OTHER, "of a later version"),
    ]
    assert folded(*unsure, reviewed=reviewed) is expected


def test_another_node_s_affirmation_lifts_a_seed() -> None:
    assert folded(said(PEER, "affirm"), reviewed=False) is OpinionFold.POSITIVE


@pytest.mark.parametrize("reviewed", [True, False])
def test_a_peer_can_make_us_doubt_but_never_ignore(reviewed: bool) -> None:
    disputes = [said(PEER, "dispute"), said(OTHER, "dispute")]
    assert folded(*disputes, reviewed=reviewed) is OpinionFold.DISPUTED
    affirmed = [*disputes, said("delta.example", "affirm")]
    assert folded(*affirmed, reviewed=reviewed) is OpinionFold.DISPUTED


def test_our_own_opinion_wins() -> None:
    assert folded(said(US, "dispute"), said(PEER, "affirm")) is OpinionFold.NEGATIVE
    assert folded(said(US, "affirm"), said(PEER, "dispute")) is OpinionFold.POSITIVE
    assert folded(said(US, "unsure"), said(PEER, "dispute")) is OpinionFold.DISPUTED


def test_we_ourselves_can_be_of_two_minds() -> None:
    both = [said(US, "dispute"), said(US, "affirm", at=2, about=SECOND)]
    assert folded(*both) is OpinionFold.DISPUTED


@pytest.mark.parametrize("turn", [1, -1])
def test_of_one_log_about_one_record_the_newest_counts(turn: int) -> None:
    opinions = [said(US, "dispute", at=3), said(US, "affirm", at=8)][::turn]
    assert folded(*opinions) is OpinionFold.POSITIVE


def test_an_opinion_about_one_type_leaves_the_others_alone() -> None:
    about_md5 = said(US, "dispute", signal_type="md5")
    assert folded(about_md5, signal_type="pdq") is OpinionFold.POSITIVE
    assert folded(about_md5, signal_type="md5") is OpinionFold.NEGATIVE
    assert folded(about_md5, signal_type=None) is OpinionFold.NEGATIVE


@pytest.mark.parametrize("turn", [1, -1])
def test_an_opinion_that_names_the_type_counts_before_a_newer_general_one(
    turn: int,
) -> None:
    opinions = [
        said(US, "affirm", at=2, signal_type="pdq"),
        said(US, "dispute", at=7),
    ][::turn]
    assert folded(*opinions, signal_type="pdq") is OpinionFold.POSITIVE
    assert folded(*opinions, signal_type="md5") is OpinionFold.NEGATIVE
    assert folded(*opinions, signal_type=None) is OpinionFold.DISPUTED
