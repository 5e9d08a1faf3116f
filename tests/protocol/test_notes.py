"""Signed notes: what is read, what is refused, which signatures count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_protocol import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    BadSignatureError,
    Ed25519Signer,
    MalformedError,
    Note,
    NoteSignature,
    TooLargeError,
    UnknownKeyError,
    encode_note,
    encode_signature,
    open_note,
    parse_note,
    parse_signatures,
    parse_vkey,
    sign_note,
)
from support.example_log import IDENTITY, LOG, WITNESS, signer

# The example of Go's golang.org/x/mod/sumdb/note.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SEED = "810a1402d5146c8d84f2443330f54080ebf98ee17d9c74f6252fc5d5c7283173"
GO_TEXT = (
    b"If you think cryptography is the answer to your problem,\n"
    b"then you don't know what your problem is.\n"
)
GO_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXg"
    "KvqfqdngotpRZb6KE6RyyBwJnAM=\n"
).encode()
GO_NOTE = GO_TEXT + b"\n" + GO_LINE

# The example of C2SP signed-note; its key is not published.
C2SP_NOTE = """\
Ognuno sta solo sul cuor della terra
trafitto da un raggio di sole:

ed è subito sera.

— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKON\
rMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=
""".encode()

TEXT = b"some\n\ntext\n"
RAW = sign_note(TEXT, [IDENTITY, LOG])


def test_the_note_of_go_opens() -> None:
    key = parse_vkey(GO_VKEY)
    opened = open_note(GO_NOTE, [key])
    assert opened.note.text == GO_TEXT
    assert [key for key, _ in opened.verified] == [key]


def test_signing_gives_the_note_of_go() -> None:
    go_signer = Ed25519Signer("PeterNeumann", 1, bytes.fromhex(GO_SEED))
    assert sign_note(GO_TEXT, [go_signer]) == GO_NOTE


def test_the_note_of_c2sp_is_split_at_its_last_empty_line() -> None:
    note = parse_note(C2SP_NOTE)
    assert note.text.decode().endswith("sole:\n\ned è subito sera.\n")
    assert note.signatures[0].name == "quasimodo.example/salvatore"
    assert note.signatures[0].key_id.hex() == "367ba04b"
    assert len(note.signatures[0].blob) == 64
    assert encode_note(note) == C2SP_NOTE


def test_each_trusted_key_counts_once() -> None:
    opened = open_note(RAW + encode_signature(parse_note(RAW).signatures[0]), [LOG.key])
    assert [key for key, _ in opened.verified] == [LOG.key]
    repeated = RAW + RAW.splitlines(keepends=True)[-1]
    assert len(open_note(repeated, [IDENTITY.key, LOG.key]).verified) == 2


def test_signatures_by_unknown_keys_are_ignored() -> None:
    opened = open_note(RAW, [IDENTITY.key])
    assert [key for key, _ in opened.verified] == [IDENTITY.key]


def test_a_note_that_no_trusted_key_signed_is_refused() -> None:
    # The same name with another id is another key, and so is the reverse.
    for keys in ([], [signer(IDENTITY.name, number=2).key], [WITNESS.key]):
        with pytest.raises(UnknownKeyError, match="no trusted key"):
            open_note(RAW, keys)


def test_one_wrong_signature_by_a_trusted_key_refuses_the_note() -> None:
    good, other = parse_note(RAW).signatures
    wrong = NoteSignature(other.name, other.key_id, bytes(64))
    raw = encode_note(Note(TEXT, (good, wrong)))
    with pytest.raises(BadSignatureError):
        open_note(raw, [IDENTITY.key, LOG.key])
    open_note(raw, [IDENTITY.key])


def test_a_changed_byte_anywhere_is_refused() -> None:
    raw = sign_note(TEXT, [IDENTITY])
    for position in range(len(raw)):
        altered = bytearray(raw)
        altered[position] ^= 1
        with pytest.raises((MalformedError, BadSignatureError, UnknownKeyError)):
            open_note(bytes(altered), [IDENTITY.key])


LINE = RAW.splitlines(keepends=True)[-1]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n\n",
        b"text\n",
        b"text\n\n",
        b"text\n" + LINE,
        b"text\n\n" + LINE[:-1],
        b"text\n\n" + LINE + b"\n",
        b"text\n\nnot a signature\n",
        b"text\n\n" + LINE.replace("—".encode(), b"-"),
        b"text\n\n" + LINE.replace(b" ", b"  ", 1),
        b"text\n\n" + LINE.replace(b"\n", b" \n"),
        b"text\n\n" + LINE.replace(b"node.", b"node+"),
        b"text\n\n" + LINE.replace(b"node.", "node\u00a0".encode()),
        b"text\n\n" + LINE[:-2] + b"\n",
        b"text\r\n\n" + LINE,
        b"te\x00xt\n\n" + LINE,
        b"te\txt\n\n" + LINE,
        b"te\xffxt\n\n" + LINE,
        b"text\n\n" + "— name AAAAAA==\n".encode(),
        b"text\n\n" + "— name AAAAAAB=\n".encode(),
        b"text\n\n" + "— name !AAAAAA=\n".encode(),
        b"text\n\n" + "—  AAAAAAA=\n".encode(),
    ],
)
def test_what_is_no_note_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_note(raw)


def test_signature_lines_alone_are_read_as_in_a_note() -> None:
    lines = RAW.partition(b"text\n\n")[2]
    assert parse_signatures(lines) == parse_note(RAW).signatures


@pytest.mark.parametrize(
    "raw", [b"", b"\n", LINE[:-1], b"\xff\n", LINE + b"\n", LINE + b"\xe2\n"]
)
def test_other_lines_are_no_signature_lines(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_signatures(raw)


def test_a_note_has_at_most_32_signatures() -> None:
    signatures = parse_note(RAW).signatures[:1] * MAX_SIGNATURES
    assert parse_note(encode_note(Note(TEXT, signatures))).signatures == signatures
    with pytest.raises(TooLargeError, match="32"):
        encode_note(Note(TEXT, signatures * 2))


def test_a_note_has_at_most_128_kibibytes() -> None:
    empty = len(sign_note(b"\n", [IDENTITY]))
    largest = b"a" * (MAX_NOTE_BYTES - empty) + b"\n"
    assert len(sign_note(largest, [IDENTITY])) == MAX_NOTE_BYTES
    with pytest.raises(TooLargeError, match="131072"):
        sign_note(b"a" + largest, [IDENTITY])
    sign_note(b"a" + largest, [IDENTITY], max_bytes=MAX_NOTE_BYTES + 1)
    with pytest.raises(TooLargeError):
        parse_signatures(b"\n" * (MAX_NOTE_BYTES + 1))


@pytest.mark.parametrize(
    "text",
    [b"", b"no newline", b"control\x07\n", b"\xff\n", b"crlf\r\n", TEXT + b"\n" + LINE],
)
def test_no_note_is_made_of_a_text_that_would_be_read_otherwise(text: bytes) -> None:
    if text.endswith(b"\n") and text.count(b"\n\n") > 1:
        text = text[:-1]
    with pytest.raises(MalformedError):
        sign_note(text, [IDENTITY])


def test_no_note_is_made_without_a_signature() -> None:
    with pytest.raises(MalformedError):
        sign_note(TEXT, [])


def test_a_cosigning_key_does_not_sign_a_text_itself() -> None:
    with pytest.raises(ValueError, match="0x01"):
        sign_note(TEXT, [WITNESS])


names = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="+"),
    min_size=1,
    max_size=8,
)
texts = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cc"])), min_size=1
).map(lambda lines: "".join(f"{line}\n" for line in lines).encode())


@given(
    texts,
    st.lists(
        st.builds(
            NoteSignature,
            names,
            st.binary(min_size=4, max_size=4),
            st.binary(min_size=1, max_size=80),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_every_note_comes_back_as_it_was(
    text: bytes, signatures: list[NoteSignature]
) -> None:
    note = Note(text, tuple(signatures))
    assert parse_note(encode_note(note)) == note
