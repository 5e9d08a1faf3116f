"""Key files on disk: encrypted, replaced, damaged, and cut off at every moment."""

from __future__ import annotations

import os
import stat
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hashlight_node.keys import (
    KeyAccess,
    KeyFileError,
    create_keyring,
    load_keyring,
    read_passphrase,
)
from hashlight_node.keys.files import encode_key, read_key, replace_file
from hashlight_node.keys.journal import JOURNAL_FILE

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashlight_node.keys import Keyring

NODE = "shield.example"
ORIGIN = "shield.example/hsf/v1/log/ncii/1"
OPEN = KeyAccess(passphrase=b"correct horse battery staple")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def public_keys(keyring: Keyring) -> list[bytes]:
    signers = (keyring.identity, keyring.http, keyring.witness, keyring.mirror)
    return [one.key.public_key for one in signers]


def test_sealed_keys_are_the_same_keys(directory: Path) -> None:
    made = create_keyring(directory, NODE, access=OPEN)
    made.create_log(ORIGIN)
    loaded = load_keyring(directory, NODE, access=OPEN)
    assert public_keys(loaded) == public_keys(made)
    assert loaded.log(ORIGIN).key == made.log(ORIGIN).key
    assert {one.storage for one in loaded.stored("log")} == {"sealed"}


def test_a_sealed_key_does_not_open_without_its_passphrase(directory: Path) -> None:
    create_keyring(directory, NODE, access=OPEN)
    with pytest.raises(KeyFileError, match="is encrypted"):
        load_keyring(directory, NODE)
    with pytest.raises(KeyFileError, match="does not open with this passphrase"):
        load_keyring(directory, NODE, access=KeyAccess(passphrase=b"wrong"))


def test_a_sealed_key_cannot_be_passed_off_as_another(directory: Path) -> None:
    create_keyring(directory, NODE, access=OPEN)
    witness = (directory / "witness.key").read_text(encoding="ascii")
    forged = witness.replace("use witness", "use mirror").replace("/witness", "/mirror")
    (directory / "mirror.key").write_text(forged, encoding="ascii")
    with pytest.raises(KeyFileError, match="does not open"):
        load_keyring(directory, NODE, access=OPEN)


def test_two_sealings_of_one_key_share_nothing(directory: Path) -> None:
    made = create_keyring(directory, NODE)
    secret = read_key(directory / "http.key", KeyAccess()).signer
    texts = [encode_key("http", secret, b"passphrase").split(b"\n")[3] for _ in (1, 2)]
    assert texts[0] != texts[1]
    assert made.http.key == secret.key


def test_plain_and_sealed_keys_live_side_by_side(directory: Path) -> None:
    create_keyring(directory, NODE).create_log(ORIGIN)
    keyring = load_keyring(directory, NODE, access=OPEN)
    keyring.rotate("log", ORIGIN)
    again = load_keyring(directory, NODE, access=OPEN)
    assert [one.storage for one in again.stored("log")] == ["plain", "sealed"]


SEALED_DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda raw: raw[:-2] + b"\n",
    "other version": lambda raw: raw.replace(b"/v2", b"/v1"),
    "not base64": lambda raw: raw.replace(b"sealed ", b"sealed !"),
    "unknown kind": lambda raw: raw.replace(b"sealed ", b"opened "),
    "name": lambda raw: raw.replace(b"name ", b"name +"),
}


@pytest.mark.parametrize("damage", SEALED_DAMAGES)
def test_a_damaged_sealed_key_is_refused(directory: Path, damage: str) -> None:
    create_keyring(directory, NODE, access=OPEN)
    path = directory / "http.key"
    path.write_bytes(SEALED_DAMAGES[damage](path.read_bytes()))
    with pytest.raises(KeyFileError):
        load_keyring(directory, NODE, access=OPEN)


def test_a_passphrase_file_is_private_and_not_empty(tmp_path: Path) -> None:
    path = tmp_path / "passphrase"
    path.write_bytes(b"correct horse\n")
    path.chmod(0o600)
    assert read_passphrase(path) == b"correct horse"
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="is open to other users"):
        read_passphrase(path)
    path.chmod(0o600)
    for content in (b"\n", b"x" * 2000):
        path.write_bytes(content)
        with pytest.raises(KeyFileError, match="holds no passphrase"):
            read_passphrase(path)
    with pytest.raises(KeyFileError, match="No such file"):
        read_passphrase(tmp_path / "absent")


def test_no_secret_is_in_any_text_that_python_makes_of_it(directory: Path) -> None:
    keyring = create_keyring(directory, NODE, access=OPEN)
    keyring.create_log(ORIGIN)
    keyring.rotate("http")
    shown = repr(keyring) + repr(keyring.stored("http")) + repr(OPEN) + str(OPEN)
    assert "correct horse" not in shown
    for use in ("http", "witness", "mirror", "log"):
        for one in keyring.stored(use):
            signer = read_key(one.path, OPEN).signer
            seed: bytes = signer.seed  # type: ignore[union-attr]
            assert repr(seed) not in shown
            assert seed.hex() not in shown
            assert seed not in one.path.read_bytes()


def test_a_key_that_replaces_another_takes_the_next_number(directory: Path) -> None:
    keyring = create_keyring(directory, NODE)
    second = keyring.rotate("http")
    assert (second.path.name, second.name) == ("http-2.key", f"{NODE}#h2")
    # Nobody was told of it yet, so a second attempt makes no third key.
    assert keyring.rotate("http") is second
    keyring.journal.publish([second.key], 1)
    third = keyring.rotate("http")
    keyring.drop(keyring.stored("http")[:2])
    assert [one.key for one in keyring.stored("http")] == [third.key]
    assert load_keyring(directory, NODE).http.key == third.key


def test_a_file_with_a_strange_name_is_not_taken_for_a_key(directory: Path) -> None:
    create_keyring(directory, NODE)
    copy = directory / "http-old.key"
    copy.write_bytes((directory / "http.key").read_bytes())
    with pytest.raises(KeyFileError, match="is not named like a key file"):
        load_keyring(directory, NODE)


@pytest.mark.parametrize("content", [b"1", b"x shield.example", b"\xff", b"1 a+b+c\n"])
def test_a_damaged_journal_is_noticed(directory: Path, content: bytes) -> None:
    create_keyring(directory, NODE)
    (directory / JOURNAL_FILE).write_bytes(content)
    with pytest.raises(KeyFileError):
        load_keyring(directory, NODE)


class PowerCutError(Exception):
    """The machine stopped here."""


OPERATIONS = ("open", "fsync", "link", "rename", "replace", "unlink")


def cut_at(monkeypatch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Stop at a file operation, before it happens; gives those that happened."""
    happened: list[str] = []

    def wrap(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def operation(*arguments: object, **options: object) -> object:
            if len(happened) >= number:
                raise PowerCutError
            happened.append(name)
            return real(*arguments, **options)

        return operation

    for name in OPERATIONS:
        monkeypatch.setattr(os, name, wrap(name, getattr(os, name)))
    return happened


def rotate_all(directory: Path) -> None:
    keyring = load_keyring(directory, NODE)
    keyring.rotate("http")
    keyring.rotate("log", ORIGIN)
    keyring.journal.publish([one.key for one in keyring.stored("log")], 1)
    keyring.drop(keyring.stored("log")[:1])
    replace_file(
        directory / "witness.key",
        encode_key("witness", keyring.stored("witness")[0].signer, None),
    )


def is_cut(directory: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> bool:
    with monkeypatch.context() as patched:
        cut_at(patched, number)
        try:
            rotate_all(directory)
        except PowerCutError:
            return True
    return False


def test_a_power_cut_at_any_file_operation_leaves_keys_that_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in count():
        directory = tmp_path / str(number)
        made = create_keyring(directory, NODE)
        made.create_log(ORIGIN)
        went_on = not is_cut(directory, monkeypatch, number)
        loaded = load_keyring(directory, NODE)
        assert public_keys(loaded)[0] == public_keys(made)[0]
        assert loaded.log(ORIGIN).every
        # And whatever was left in the middle does not stand in the way.
        rotate_all(directory)
        final = load_keyring(directory, NODE).log(ORIGIN)
        final.key.verify(b"x", final.sign(b"x"))
        modes = {stat.S_IMODE(p.stat().st_mode) for p in directory.glob("*.key")}
        assert modes == {0o600}
        if went_on:
            break
    assert number > 20
