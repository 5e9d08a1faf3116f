"""Policies: read strictly, and met by exactly the quorums that they describe."""

from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_protocol import (
    COSIGNATURE,
    MAX_POLICY_BYTES,
    BadKeyError,
    BadSignatureError,
    MalformedError,
    ProtocolError,
    QuorumNotMetError,
    TooLargeError,
    UnknownKeyError,
    VerifierKey,
    WitnessGroup,
    append_signatures,
    cosign,
    encode_vkey,
    parse_policy,
    sign_checkpoint,
    verify_quorum,
)
from support.example_log import IDENTITY, LOG, ORIGIN, build_log, signer
from support.vectors import Case, cases

WITNESSES = {
    name: signer(f"{name}.example/hsf/v1/witness", COSIGNATURE)
    for name in ("x1", "x2", "x3", "y1", "y2", "y3")
}
LINES = {
    name: f"witness {name} {encode_vkey(witness.key)}\n"
    for name, witness in WITNESSES.items()
}
LOG_LINE = f"log {encode_vkey(LOG.key)}\n"
GROUPS = """\
group X 2 x1 x2 x3
group Y any y1 y2 y3
group both all X Y
"""
POLICY = f"{LOG_LINE}{''.join(LINES.values())}{GROUPS}quorum both\n"
NOTE = sign_checkpoint(build_log(3).checkpoint(), [LOG])


def note_by(*names: str) -> bytes:
    note = NOTE
    for name in names:
        note = append_signatures(note, cosign(note, WITNESSES[name], now=1))
    return note


def is_met(policy: str, *names: str) -> bool:
    try:
        verify_quorum(note_by(*names), parse_policy(policy.encode()))
    except QuorumNotMetError:
        return False
    return True


def test_the_example_of_c2sp_is_met_by_two_of_one_and_one_of_the_other() -> None:
    sets = chain.from_iterable(combinations(WITNESSES, count) for count in range(7))
    for names in sets:
        x = sum(name.startswith("x") for name in names)
        y = sum(name.startswith("y") for name in names)
        assert is_met(POLICY, *names) == (x >= 2 and y >= 1), names


def test_a_quorum_that_is_not_met_says_how_many_cosigned() -> None:
    with pytest.raises(QuorumNotMetError) as raised:
        verify_quorum(note_by("x1", "y1"), parse_policy(POLICY.encode()))
    error = raised.value
    assert (error.origin, error.tree_size) == (ORIGIN, 7)
    assert (error.cosigned, error.known) == (2, 6)


def test_one_witness_may_be_the_quorum() -> None:
    policy = f"{LINES['x1']}{LINES['x2']}quorum x2\n"
    assert is_met(policy, "x2")
    assert not is_met(policy, "x1")
    assert not is_met(policy)


def test_quorum_none_asks_for_nobody() -> None:
    assert is_met("quorum none\n")
    assert is_met(f"{LINES['x1']}quorum none\n")
    assert parse_policy(b"quorum none\n").quorum is None


def test_more_cosignatures_never_break_a_quorum() -> None:
    assert is_met(f"{LINES['x1']}quorum x1\n", "y1", "x1", "y2")


def test_a_policy_without_logs_leaves_the_logs_signature_to_the_reader() -> None:
    other = sign_checkpoint(build_log(3).checkpoint(), [LOG, signer(ORIGIN, number=2)])
    verify_quorum(other, parse_policy(b"quorum none\n"))


@pytest.mark.parametrize(
    "key", [IDENTITY.key, signer(ORIGIN, number=2).key, signer(f"{ORIGIN}0").key]
)
def test_a_policy_with_logs_accepts_no_other(key: VerifierKey) -> None:
    policy = parse_policy(f"log {encode_vkey(key)}\nquorum none\n".encode())
    with pytest.raises(UnknownKeyError):
        verify_quorum(NOTE, policy)


def test_one_of_several_logs_is_enough() -> None:
    second = encode_vkey(signer(f"{ORIGIN}0").key)
    assert is_met(f"log {second}\n{LOG_LINE}quorum none\n")


def test_a_false_cosignature_is_refused_even_if_others_are_enough() -> None:
    other = sign_checkpoint(build_log(4).checkpoint(), [LOG])
    moved = append_signatures(note_by("x2"), cosign(other, WITNESSES["x1"], now=1))
    policy = parse_policy(f"{LINES['x1']}{LINES['x2']}quorum x2\n".encode())
    with pytest.raises(BadSignatureError):
        verify_quorum(moved, policy)


def test_only_a_checkpoint_meets_a_quorum() -> None:
    with pytest.raises(MalformedError):
        verify_quorum(
            b"text\n\n" + NOTE.split(b"\n\n")[1], parse_policy(b"quorum none\n")
        )


def test_white_space_comments_and_urls_mean_nothing() -> None:
    spaced = (
        f" \t\n# a comment\n\t#another, \u00fc\n log\t{encode_vkey(LOG.key)} http://x\n"
        f"{LINES['x1'][:-1]} https://beta.example/witness\t\n"
        "group  G\tany   x1\nquorum G \n"
    )
    policy = parse_policy(spaced.encode())
    assert policy.logs == (LOG.key,)
    assert policy.witnesses == {b"x1": WITNESSES["x1"].key}
    assert policy.groups == (WitnessGroup(b"G", 1, (b"x1",)),)
    assert policy.quorum == b"G"


def test_names_are_octets() -> None:
    kelvin = LINES["x1"].replace(" x1 ", " \u212a ").encode()
    policy = kelvin + LINES["x2"].replace(" x2 ", " K ").encode() + b"quorum K\n"
    assert parse_policy(policy).quorum == b"K"
    latin = LINES["x1"].encode().replace(b" x1 ", b" \xff ") + b"quorum \xff\n"
    assert parse_policy(latin).quorum == b"\xff"


def test_definitions_may_follow_the_quorum() -> None:
    assert is_met(f"{LINES['x1']}quorum x1\n{LINES['x2']}group G all x2\n", "x1")


@pytest.mark.parametrize(
    "policy",
    [
        "",
        "# nothing\n",
        LINES["x1"],
        "quorum none",
        "quorum none\nquorum none\n",
        "quorum\n",
        "quorum none none\n",
        "quorum x1\n",
        f"quorum x1\n{LINES['x1']}",
        "QUORUM none\n",
        "log\nquorum none\n",
        "quorum none\r\n",
        "quorum none\x00\n",
        "quorum none\x7f\n",
        "quorum\u00a0none\n",
        f"{LOG_LINE}{LOG_LINE}quorum none\n",
        f"{LOG_LINE[:-1]} https://x more\nquorum none\n",
        f"{LINES['x1']}{LINES['x1']}quorum none\n",
        f"{LINES['x1']}{LINES['x2'].replace(' x2 ', ' x1 ')}quorum none\n",
        f"{LINES['x1']}{LINES['x1'].replace(' x1 ', ' x2 ')}quorum none\n",
        f"{LINES['x1'].replace(' x1 ', ' none ')}quorum none\n",
        f"{LINES['x1']}group x1 any x1\nquorum none\n",
        f"{LINES['x1']}group none any x1\nquorum none\n",
        f"{LINES['x1']}group G any\nquorum none\n",
        f"{LINES['x1']}group G all\nquorum none\n",
        f"{LINES['x1']}group G\nquorum none\n",
        f"{LINES['x1']}group G any G\nquorum none\n",
        f"{LINES['x1']}group G any none\nquorum none\n",
        f"{LINES['x1']}group G any x1 x1\nquorum none\n",
        f"{LINES['x1']}group G any x1\ngroup H any x1\nquorum none\n",
        f"group G any x1\n{LINES['x1']}quorum none\n",
        *(
            f"{LINES['x1']}group G {count} x1\nquorum none\n"
            for count in ("0", "2", "01", "+1", "-1", "one", "9" * 30)
        ),
    ],
)
def test_what_is_no_policy_is_refused(policy: str) -> None:
    with pytest.raises(MalformedError, match="policy"):
        parse_policy(policy.encode())


@pytest.mark.parametrize(
    "line",
    [
        "log x\n",
        f"log {encode_vkey(WITNESSES['x1'].key)}\n",
        f"witness x {encode_vkey(LOG.key)}\n",
        f"witness x {encode_vkey(LOG.key)[:-4]}\n",
    ],
)
def test_keys_that_are_not_those_of_a_log_or_witness_are_refused(line: str) -> None:
    with pytest.raises(BadKeyError):
        parse_policy(f"{line}quorum none\n".encode())


def test_a_key_whose_name_is_no_text_is_refused() -> None:
    with pytest.raises(MalformedError, match="UTF-8"):
        parse_policy(b"log \xff+00000000+AA==\nquorum none\n")


def test_a_policy_is_bounded_and_32_of_everything_fit() -> None:
    names = [f"w{number}" for number in range(32)]
    keys = [encode_vkey(signer(f"{name}.example", COSIGNATURE).key) for name in names]
    logs = [encode_vkey(signer(f"{name}.example/log").key) for name in names]
    policy = "".join(f"log {vkey}\n" for vkey in logs)
    policy += "".join(
        f"witness {name} {vkey}\n" for name, vkey in zip(names, keys, strict=True)
    )
    below = ["w0", *(f"g{number}" for number in range(1, 32))]
    policy += "".join(
        f"group g{number} all w{number} {below[number - 1]}\n"
        for number in range(1, 32)
    )
    read = parse_policy(f"{policy}quorum g31\n".encode())
    assert (len(read.logs), len(read.witnesses), len(read.groups)) == (32, 32, 31)
    with pytest.raises(TooLargeError, match=str(MAX_POLICY_BYTES)):
        parse_policy(b"\n" * (MAX_POLICY_BYTES + 1))


def test_groups_may_be_nested_as_deep_as_a_policy_can_hold() -> None:
    chain_of_groups = "".join(
        f"group g{number} all {f'g{number - 1}' if number else 'x1'}\n"
        for number in range(3_000)
    )
    policy = f"{LINES['x1']}{chain_of_groups}quorum g2999\n"
    assert is_met(policy, "x1")
    assert not is_met(policy)


@given(
    threshold=st.integers(1, 6),
    names=st.sets(st.sampled_from(sorted(WITNESSES))),
    more=st.sampled_from(sorted(WITNESSES)),
)
def test_a_cosignature_more_never_unmeets_a_quorum(
    threshold: int, names: set[str], more: str
) -> None:
    members = " ".join(WITNESSES)
    policy = f"{''.join(LINES.values())}group G {threshold} {members}\nquorum G\n"
    assert is_met(policy, *names) == (len(names) >= threshold)
    assert is_met(policy, *names) <= is_met(policy, *names, more)


@pytest.mark.parametrize("case", cases("policies.json"))
def test_the_vectors_hold(case: Case) -> None:
    def verify() -> None:
        verify_quorum(case["note"].encode(), parse_policy(case["policy"].encode()))

    if case["valid"]:
        verify()
        return
    with pytest.raises(ProtocolError) as caught:
        verify()
    assert caught.value.code == case["error"]
