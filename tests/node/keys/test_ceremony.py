"""What travels to the identity key and back, also when it was tampered with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_node.keys import IdentityOfflineError, KeyFileError, OfflineIdentity
from hashlight_node.keys.ceremony import (
    MAX_CEREMONY_BYTES,
    encode_request,
    encode_signed,
    encode_signed_before,
    parse_request,
    parse_signed,
    parse_signed_before,
    remember_signed,
    sign_request_of,
    subject_of,
)
from hashlight_node.keys.identity import IDENTITY_VKEY_FILE, read_identity_vkey
from hashlight_protocol import (
    COSIGNATURE,
    Descriptor,
    HttpKey,
    KnownHead,
    ListNote,
    LogInfo,
    MalformedError,
    ProtocolError,
    StaleVersionError,
    sign_descriptor,
    sign_list_note,
)
from support.example_log import IDENTITY, LIST_ID, LOG, NODE, ORIGIN, signer

if TYPE_CHECKING:
    from pathlib import Path

DESCRIPTOR = Descriptor(
    name=NODE,
    version=3,
    base="https://node.acme.example",
    http_keys=(HttpKey("h1", signer(f"{NODE}#h1").key.public_key),),
    witness=signer(f"{NODE}/hsf/v1/witness", COSIGNATURE).key,
    mirror=signer(f"{NODE}/hsf/v1/mirror", COSIGNATURE).key,
    limits={"request_bytes": 1},
)
LIST_NOTE = ListNote(
    LIST_ID,
    NODE,
    "images",
    2,
    {"title": "A \x1b[31mlist"},
    (LogInfo(ORIGIN, (LOG.key,), "frozen", KnownHead(5, bytes(32))),),
)


@pytest.fixture
def identity(tmp_path: Path) -> OfflineIdentity:
    return OfflineIdentity(IDENTITY.key, tmp_path)


def ask(identity: OfflineIdentity) -> bytes:
    with pytest.raises(IdentityOfflineError, match="descriptor waits"):
        sign_descriptor(DESCRIPTOR, identity)
    with pytest.raises(IdentityOfflineError, match="list-images waits"):
        sign_list_note(LIST_NOTE, identity)
    return identity.request()


def test_a_signature_that_came_back_is_the_one_that_was_asked_for(
    identity: OfflineIdentity,
) -> None:
    request = parse_request(ask(identity))
    signed = encode_signed(sign_request_of(request, IDENTITY, {}))
    assert len(identity.accept(signed)) == 2
    assert sign_descriptor(DESCRIPTOR, identity) == sign_descriptor(
        DESCRIPTOR, IDENTITY
    )
    assert sign_list_note(LIST_NOTE, identity) == sign_list_note(LIST_NOTE, IDENTITY)
    assert parse_request(identity.request()).texts == ()
    # The same file again was not asked for any more.
    with pytest.raises(MalformedError, match="not what this node asked for"):
        identity.accept(signed)


def test_a_signature_that_is_in_effect_is_dropped_and_a_later_one_is_kept(
    identity: OfflineIdentity,
) -> None:
    request = parse_request(ask(identity))
    identity.accept(encode_signed(sign_request_of(request, IDENTITY, {})))
    identity.forget("descriptor", 2)
    sign_descriptor(DESCRIPTOR, identity)
    identity.forget("descriptor", 3)
    with pytest.raises(IdentityOfflineError):
        sign_descriptor(DESCRIPTOR, identity)


def test_who_signs_is_shown_what_is_signed_and_no_terminal_is_told_anything(
    identity: OfflineIdentity,
) -> None:
    request = parse_request(ask(identity))
    lines = [
        line for one in sign_request_of(request, IDENTITY, {}) for line in one.lines
    ]
    shown = "\n".join(lines)
    assert f"descriptor of {NODE}, version 3" in shown
    assert f"{ORIGIN} (frozen, final size 5)" in shown
    assert "\x1b" not in shown


def test_comments_mean_nothing(identity: OfflineIdentity) -> None:
    raw = ask(identity)
    commented = raw.replace(b"# to be signed", b"# hsf-node/v1 {}\n# harmless")
    assert parse_request(commented) == parse_request(raw)


def test_versions_do_not_go_back_at_the_desk(identity: OfflineIdentity) -> None:
    request = parse_request(ask(identity))
    signatures = sign_request_of(request, IDENTITY, {})
    before = remember_signed({}, signatures)
    assert parse_signed_before(encode_signed_before(before)) == before
    assert sign_request_of(request, IDENTITY, before) == signatures
    for version, digest in ((4, ""), (3, "0" * 64)):
        with pytest.raises(StaleVersionError):
            sign_request_of(request, IDENTITY, {"descriptor": (version, digest)})


def test_another_identity_signs_nothing(identity: OfflineIdentity) -> None:
    request = parse_request(ask(identity))
    with pytest.raises(MalformedError, match="another identity"):
        sign_request_of(request, signer(NODE, number=2), {})


def test_what_peers_would_refuse_is_not_signed(identity: OfflineIdentity) -> None:
    raw = ask(identity).replace(b'"limits":{"request_bytes":1}', b'"limits":{}')
    broken = raw.replace(b'"version":3', b'"version":3,"version":4')
    with pytest.raises(ProtocolError):
        sign_request_of(parse_request(broken), IDENTITY, {})


def test_a_tampered_answer_is_not_taken(identity: OfflineIdentity) -> None:
    request = parse_request(ask(identity))
    signed = encode_signed(sign_request_of(request, IDENTITY, {}))
    for tampered in (
        signed.replace(b'"version":3', b'"version":4'),
        signed.replace(b"hashlight-signed/v1", b"hashlight-signed/v2"),
        signed[:-40],
        encode_signed(()),
    ):
        with pytest.raises(ProtocolError):
            identity.accept(tampered)
    assert len(identity.accept(signed)) == 2


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"hsf-log/v1\n{}\n",
        b"hsf-list/v1\n{}\n",
        b"hsf-list/v1\n[]\n",
        b"hsf-list/v1\n{\n",
        b'hsf-list/v1\n{"id":"a/.."}\n',
        b'hsf-list/v1\n{"id":"a/b/../../x y"}\n',
        b"hsf-list/v1\n" + b"[" * 100_000 + b"\n",
    ],
)
def test_only_documents_have_a_place_to_wait(text: bytes) -> None:
    with pytest.raises(MalformedError):
        subject_of(text)


@given(
    st.one_of(
        st.binary(max_size=300),
        st.lists(
            st.sampled_from(
                [
                    "hashlight-request/v1",
                    "hashlight-signed/v1",
                    f"node {NODE}",
                    "identity x",
                    "hsf-node/v1",
                    "{}",
                    "",
                    "descriptor 1 aa",
                    "descriptor " + "1" * 5000,
                ]
            ),
            max_size=9,
        ).map(lambda lines: "\n".join(lines).encode()),
    )
)
def test_whatever_comes_is_read_or_refused(raw: bytes) -> None:
    for parse in (parse_request, parse_signed, parse_signed_before):
        try:
            parse(raw)
        except ProtocolError:
            continue


def test_nothing_is_read_without_an_end() -> None:
    with pytest.raises(MalformedError, match="too large"):
        parse_request(b"#" * (MAX_CEREMONY_BYTES + 1))


def test_a_request_names_one_node() -> None:
    raw = encode_request(IDENTITY.key, []).replace(b"node node.", b"node other.")
    with pytest.raises(MalformedError, match="another node"):
        parse_request(raw)


@pytest.mark.parametrize("content", [b"", b"\xff", b"a+b+c\n"])
def test_a_damaged_vkey_is_noticed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / IDENTITY_VKEY_FILE).write_bytes(content)
    with pytest.raises(KeyFileError, match="is damaged"):
        read_identity_vkey(tmp_path)
