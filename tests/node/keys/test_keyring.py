from __future__ import annotations

import base64
import stat
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hashlight_node.keys import (
    KeyExistsError,
    KeyFileError,
    Keyring,
    create_keyring,
    load_keyring,
    publish_descriptor,
)
from hashlight_protocol import (
    COSIGNATURE,
    ED25519,
    Descriptor,
    HttpKey,
    ProtocolError,
    open_descriptor,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hashlight_protocol import Signer

NODE = "shield.example"
ORIGIN = "shield.example/hsf/v1/log/ncii/1"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def keyring(directory: Path) -> Keyring:
    return create_keyring(directory, NODE)


def signers(keyring: Keyring) -> tuple[Signer, ...]:
    return keyring.identity, keyring.http, keyring.witness, keyring.mirror


def test_a_new_node_has_four_different_keys_with_their_names(keyring: Keyring) -> None:
    described = [(s.key.name, s.key.key_type) for s in signers(keyring)]
    assert described == [
        ("shield.example", ED25519),
        ("shield.example#h1", ED25519),
        ("shield.example/hsf/v1/witness", COSIGNATURE),
        ("shield.example/hsf/v1/mirror", COSIGNATURE),
    ]
    assert len({s.key.public_key for s in signers(keyring)}) == 4


def test_what_a_key_signs_verifies(keyring: Keyring) -> None:
    for signer in signers(keyring):
        public_key = Ed25519PublicKey.from_public_bytes(signer.key.public_key)
        public_key.verify(signer.sign(b"text"), b"text")


def test_loading_gives_the_same_keys(keyring: Keyring, directory: Path) -> None:
    created = keyring.create_log(ORIGIN)
    loaded = load_keyring(directory, NODE)
    keys = [s.key for s in signers(loaded)]
    assert keys == [s.key for s in signers(keyring)]
    assert loaded.log(ORIGIN).key == created.key
    assert created.key.name == ORIGIN
    assert loaded.has_log(ORIGIN)
    assert not loaded.has_log(ORIGIN.replace("ncii", "other"))


def test_only_the_owner_can_read_keys(keyring: Keyring, directory: Path) -> None:
    keyring.create_log(ORIGIN)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    files = sorted(directory.iterdir())
    assert [file.name for file in files] == [
        "http.key",
        "identity.key",
        "log-1.key",
        "mirror.key",
        "witness.key",
    ]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_key_file_says_what_it_is(keyring: Keyring, directory: Path) -> None:
    keyring.create_log(ORIGIN)
    header, use, name, seed, end = (
        (directory / "log-1.key").read_text(encoding="ascii").split("\n")
    )
    assert (header, use, name) == (
        "hashlight-key/v1",
        "use log",
        f"name {ORIGIN}",
    )
    assert len(base64.b64decode(seed.removeprefix("seed "), validate=True)) == 32
    assert end == ""


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_read_is_refused(
    keyring: Keyring, directory: Path, mode: int
) -> None:
    del keyring
    (directory / "witness.key").chmod(mode)
    with pytest.raises(KeyFileError, match=r"witness\.key: is open to other users"):
        load_keyring(directory, NODE)


@pytest.mark.parametrize("mode", [0o750, 0o701])
def test_a_directory_that_others_can_enter_is_refused(
    keyring: Keyring, directory: Path, mode: int
) -> None:
    del keyring
    directory.chmod(mode)
    with pytest.raises(KeyFileError, match="is open to other users"):
        load_keyring(directory, NODE)


def test_a_directory_that_others_can_enter_gets_no_keys(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    directory.mkdir(mode=0o755)
    with pytest.raises(KeyFileError, match="is open to other users"):
        create_keyring(directory, NODE)
    assert not list(directory.iterdir())


@pytest.mark.parametrize("use", ["identity", "http", "witness", "mirror"])
def test_a_missing_key_is_never_invented(
    keyring: Keyring, directory: Path, use: str
) -> None:
    del keyring
    (directory / f"{use}.key").unlink()
    with pytest.raises(KeyFileError, match="No such file"):
        load_keyring(directory, NODE)
    assert not (directory / f"{use}.key").exists()


def test_a_missing_directory_is_never_invented(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file"):
        load_keyring(tmp_path / "absent", NODE)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(KeyFileError, match="is not a directory"):
        load_keyring(file, NODE)


def test_the_keys_of_a_log_that_has_none_are_not_invented(keyring: Keyring) -> None:
    with pytest.raises(KeyFileError, match="there is no key for log"):
        keyring.log(ORIGIN)


def test_existing_keys_are_never_overwritten(keyring: Keyring, directory: Path) -> None:
    with pytest.raises(KeyFileError, match="never overwritten"):
        create_keyring(directory, NODE)
    loaded = load_keyring(directory, NODE)
    assert loaded.identity.key == keyring.identity.key


def test_a_log_that_has_signed_is_not_started_again(
    keyring: Keyring, directory: Path
) -> None:
    first = keyring.create_log(ORIGIN)
    with pytest.raises(KeyExistsError, match="already"):
        load_keyring(directory, NODE).create_log(ORIGIN)
    with pytest.raises(KeyExistsError, match="already"):
        keyring.create_log(ORIGIN)
    assert keyring.log(ORIGIN).key == first.key


def test_each_log_has_a_key_of_its_own(keyring: Keyring, directory: Path) -> None:
    origins = [f"shield.example/hsf/v1/log/list-{n}/1" for n in range(3)]
    keys = {keyring.create_log(origin).key.public_key for origin in origins}
    assert len(keys) == 3
    loaded = load_keyring(directory, NODE)
    assert [loaded.log(origin).key.name for origin in origins] == origins


@pytest.mark.parametrize("origin", ["beta.example/hsf/v1/log/ncii/1", "ncii", ""])
def test_no_key_is_made_for_what_is_no_log_of_ours(
    keyring: Keyring, directory: Path, origin: str
) -> None:
    with pytest.raises((KeyFileError, ProtocolError)):
        keyring.create_log(origin)
    assert not list(directory.glob("log-*.key"))


def test_keys_of_another_node_are_refused(keyring: Keyring, directory: Path) -> None:
    del keyring
    with pytest.raises(KeyFileError, match=r"is the identity key of shield\.example"):
        load_keyring(directory, "beta.example")


def test_a_key_serves_one_use(keyring: Keyring, directory: Path) -> None:
    del keyring
    (directory / "mirror.key").write_bytes((directory / "witness.key").read_bytes())
    with pytest.raises(KeyFileError, match=r"mirror\.key: is the witness key"):
        load_keyring(directory, NODE)


def test_two_keys_for_one_log_are_refused(keyring: Keyring, directory: Path) -> None:
    keyring.create_log(ORIGIN)
    copy = directory / "log-2.key"
    copy.write_bytes((directory / "log-1.key").read_bytes())
    copy.chmod(0o600)
    with pytest.raises(KeyFileError, match=r"log-2\.key: is a second key file"):
        load_keyring(directory, NODE)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda raw: raw[:-1],
    "longer": lambda raw: raw + b"\n",
    "version": lambda raw: raw.replace(b"v1", b"v2"),
    "use": lambda raw: raw.replace(b"use ", b"for "),
    "other use": lambda raw: raw.replace(b"use http", b"use fire"),
    "name": lambda raw: raw.replace(b"name ", b"name:"),
    "not base64": lambda raw: raw.replace(b"seed ", b"seed !"),
    "line ends": lambda raw: raw.replace(b"\n", b"\r\n"),
    "short seed": lambda raw: raw[:-9] + b"\n",
    "empty": lambda _: b"",
    "not text": lambda _: b"\xff" * 100,
    "huge": lambda _: b"\n" * 10_000,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_key_is_refused_without_quoting_it(
    keyring: Keyring, directory: Path, damage: str
) -> None:
    del keyring
    path = directory / "http.key"
    raw = path.read_bytes()
    path.write_bytes(DAMAGES[damage](raw))
    with pytest.raises(KeyFileError, match="is not a key file") as caught:
        load_keyring(directory, NODE)
    seed = raw.split(b"seed ")[1][:20].decode()
    assert seed not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_secret_is_not_shown(keyring: Keyring, directory: Path) -> None:
    signer = keyring.create_log(ORIGIN)
    text = (directory / "log-1.key").read_text(encoding="ascii")
    seed = text.split("seed ")[1].strip()
    shown = repr(keyring) + repr(signer)
    assert seed not in shown
    assert repr(base64.b64decode(seed)) not in shown


def test_a_draft_that_a_crash_left_does_not_stand_in_the_way(
    keyring: Keyring, directory: Path
) -> None:
    (directory / "log-1.draft").write_bytes(b"half a k")
    keyring.create_log(ORIGIN)
    assert load_keyring(directory, NODE).has_log(ORIGIN)
    assert not list(directory.glob("*.draft"))


def draft(keyring: Keyring, base: str = "https://shield.example") -> Descriptor:
    return Descriptor(
        name=NODE,
        version=0,
        base=base,
        http_keys=(HttpKey(keyring.http_key_id, keyring.http.key.public_key),),
        witness=keyring.witness.key,
        mirror=keyring.mirror.key,
        limits={},
    )


def test_a_descriptor_is_signed_once_and_again_only_for_news(
    keyring: Keyring, directory: Path
) -> None:
    first = publish_descriptor(keyring, draft(keyring))
    assert publish_descriptor(load_keyring(directory, NODE), draft(keyring)) == first
    second = publish_descriptor(keyring, draft(keyring, "https://new.example"))
    opened = open_descriptor(second, keyring.identity.key)
    assert (opened.version, opened.base) == (2, "https://new.example")
    third = publish_descriptor(keyring, draft(keyring))
    assert open_descriptor(third, keyring.identity.key).version == 3
    assert not list(directory.glob("*.draft"))


def test_a_damaged_descriptor_is_not_taken_for_none(
    keyring: Keyring, directory: Path
) -> None:
    publish_descriptor(keyring, draft(keyring))
    path = directory / "descriptor.note"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(KeyFileError, match="is damaged"):
        publish_descriptor(keyring, draft(keyring))
