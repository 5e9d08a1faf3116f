"""Signal types: one registry, one canonical form for each value."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_protocol.errors import BadSignalError
from hashlight_protocol.signals import (
    MAX_KEYWORD_CHARACTERS,
    MAX_VALUE_CHARACTERS,
    PDQ_THRESHOLD,
    SIGNAL_TYPES,
    Signal,
    parse_signal,
    signal_bytes,
)

HEX_TYPES = {"pdq": 64, "md5": 32, "sha1": 40, "sha256": 64}
KEYED_TYPES = ["email", "phone", "username"]
HMAC = "hmac-sha256:2026-a:" + "0f" * 32

type_names = st.sampled_from([*SIGNAL_TYPES, "netclean", "ssvh-pdna", "x/y_1"])
values = (
    st.text(max_size=80)
    | st.from_regex(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{64}", fullmatch=True)
    | st.from_regex(r"(sha256:|hmac-sha256:k1:)[0-9a-fA-F]{64}", fullmatch=True)
    | st.from_regex(r"https?://a\.example(:80)?/[!-~]{0,9}", fullmatch=True)
)


@given(type_names | st.text(max_size=12), values)
def test_any_value_has_one_canonical_form_or_is_refused(
    signal_type: str, value: str
) -> None:
    try:
        signal = parse_signal(signal_type, value)
    except BadSignalError:
        return
    assert signal.type == signal_type
    assert parse_signal(signal.type, signal.value) == signal
    assert signal_bytes(signal)


@given(type_names, values, values)
def test_keys_are_equal_only_for_equal_signals(
    signal_type: str, one: str, other: str
) -> None:
    try:
        first, second = parse_signal(signal_type, one), parse_signal(signal_type, other)
    except BadSignalError:
        return
    assert (signal_bytes(first) == signal_bytes(second)) == (first == second)


@pytest.mark.parametrize(("signal_type", "digits"), HEX_TYPES.items())
def test_hashes_are_hex_of_their_length_in_either_case(
    signal_type: str, digits: int
) -> None:
    value = "0123456789abcdef" * 4
    signal = parse_signal(signal_type, value[:digits].upper())
    assert signal == Signal(signal_type, value[:digits])
    assert signal_bytes(signal) == bytes.fromhex(value[:digits])
    assert SIGNAL_TYPES[signal_type].bits == digits * 4


@pytest.mark.parametrize(("signal_type", "digits"), HEX_TYPES.items())
def test_anything_else_is_no_hash(signal_type: str, digits: int) -> None:
    most = "0" * (digits - 1)
    fullwidth_digit = "\uff11"
    for value in (
        most,
        most + "00",
        most + "g",
        most + " ",
        most + "0\n",
        most + fullwidth_digit,
        "0x" + most[1:],
    ):
        with pytest.raises(BadSignalError, match="hex digits") as caught:
            parse_signal(signal_type, value)
        assert caught.value.signal_type == signal_type


@pytest.mark.parametrize("signal_type", KEYED_TYPES)
def test_people_are_named_by_keyed_hashes_only(signal_type: str) -> None:
    canonical = parse_signal(signal_type, HMAC)
    assert canonical.value == HMAC
    upper = HMAC[:19] + HMAC[19:].upper()
    assert parse_signal(signal_type, upper) == canonical
    for plain in (
        "someone@example.org",
        "+4420794600",
        "someone",
        "0f" * 32,
        "sha256:" + "0f" * 32,
        "hmac-sha256::" + "0f" * 32,
        "hmac-sha256:" + "0f" * 32,
        "HMAC-SHA256:k:" + "0f" * 32,
        "hmac-sha256:K:" + "0f" * 32,
        HMAC + "0",
    ):
        with pytest.raises(BadSignalError, match="a plain value is refused") as caught:
            parse_signal(signal_type, plain)
        assert plain not in str(caught.value)


@pytest.mark.parametrize("signal_type", ["vpdq", "tmk"])
def test_large_fingerprints_are_named_by_their_digest(signal_type: str) -> None:
    signal = parse_signal(signal_type, "sha256:" + "AB" * 32)
    assert signal.value == "sha256:" + "ab" * 32
    assert SIGNAL_TYPES[signal_type].matching == "opaque"
    with pytest.raises(BadSignalError):
        parse_signal(signal_type, "ab" * 32)


def test_web_addresses_take_their_canonical_form() -> None:
    assert parse_signal("url", "HTTPS://A.Example:443").value == "https://a.example/"
    assert parse_signal("domain", "A.Example.").value == "a.example"
    for signal_type in ("url", "domain"):
        with pytest.raises(BadSignalError):
            parse_signal(signal_type, "not an address")


def test_keywords_are_equal_whatever_their_case_form_and_spacing() -> None:
    composed, decomposed = "CAFÉ  Noir ", unicodedata.normalize("NFD", "café noir")
    assert parse_signal("keyword", composed) == parse_signal("keyword", decomposed)
    assert parse_signal("keyword", "Straße").value == "strasse"
    for value in ("", "  ", "a\nb", "a" * (MAX_KEYWORD_CHARACTERS + 1)):
        with pytest.raises(BadSignalError):
            parse_signal("keyword", value)


def test_every_character_has_a_stable_keyword_form() -> None:
    for character in filter(str.isprintable, map(chr, range(sys.maxunicode + 1))):
        value = f"a{character}"
        signal = parse_signal("keyword", value)
        assert parse_signal("keyword", signal.value) == signal


@pytest.mark.parametrize("signal_type", ["photodna", "netclean", "x/y_1"])
def test_opaque_values_stay_as_they_came(signal_type: str) -> None:
    value = "AbC+/=:é " * 400
    signal = parse_signal(signal_type, value)
    assert signal.value == value
    assert signal_bytes(signal) == value.encode()
    for bad in ("a\x00b", "a\nb", "\x85", "\u2028", "\ud800"):
        with pytest.raises(BadSignalError, match="control"):
            parse_signal(signal_type, bad)


@pytest.mark.parametrize("signal_type", ["pdq", "photodna", "unheard-of"])
@pytest.mark.parametrize("length", [0, MAX_VALUE_CHARACTERS + 1, 1_000_000])
def test_empty_and_huge_values_are_refused(signal_type: str, length: int) -> None:
    with pytest.raises(BadSignalError, match="4096"):
        parse_signal(signal_type, "a" * length)


@pytest.mark.parametrize(
    "signal_type", ["", "PDQ", " pdq", "-x", "a b", "é", "a:b", "a.b", "a" * 65]
)
def test_a_type_that_is_no_token_is_refused_without_quoting_it(
    signal_type: str,
) -> None:
    with pytest.raises(BadSignalError) as caught:
        parse_signal(signal_type, "value")
    assert caught.value.signal_type == "?"


def test_the_registry_is_consistent_in_itself() -> None:
    assert SIGNAL_TYPES["pdq"].threshold == PDQ_THRESHOLD == 31
    for name, row in SIGNAL_TYPES.items():
        assert row.name == name
        assert (row.threshold is not None) == (row.matching == "hamming")
        assert row.form
