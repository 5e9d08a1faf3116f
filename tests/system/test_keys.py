"""Keys as operators handle them: an identity elsewhere, encryption, rotation."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, cast

import pytest

from hashlight_node.demo.company import Company, make_company, run_command
from hashlight_node.local_client import LocalClient, ProblemError
from support.companies import cli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hashlight_node.local_client import Json

NAME = "shield.example"


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    """Give a company whose node does not run yet."""
    made = make_company(tmp_path, NAME)
    yield made
    made.stop()


def keys_of(company: Company, use: str) -> list[Json]:
    answer = cli(company, "key", "list")
    rows = cast("list[Json]", answer["keys"])
    return [row for row in rows if row["use"] == use]


def refused(company: Company, *arguments: str) -> Json:
    done = company.run(*arguments, "--json")
    assert done.returncode, done.stdout.decode()
    return cast("Json", json.loads(done.stderr))


class Desk:
    """The machine with the identity key, which no network reaches."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = directory / "identity.key"
        self.signed = directory / "signed"

    def sign(self, request: str, *options: str) -> tuple[int, str]:
        file = self.directory / "request"
        file.write_text(request, encoding="utf-8")
        command = ("key", "sign", str(file), "--out", str(self.signed), "--yes")
        done = run_command(*command, "--identity", str(self.key), *options)
        return done.returncode, done.stderr.decode()


def ceremony(company: Company, desk: Desk) -> str:
    """Carry a request to the desk and its answer back; gives what was shown there."""
    request = str(cli(company, "key", "export-request")["request"])
    code, shown = desk.sign(request)
    assert code == 0, shown
    cli(company, "key", "import", str(desk.signed))
    return shown


def test_a_node_lives_without_its_identity_key(
    company: Company, tmp_path: Path
) -> None:
    company.start()
    cli(company, "list", "create", "ncii")
    company.stop()
    desk = Desk(tmp_path)
    cli(company, "key", "detach")
    (company.directory / "keys" / "identity.key").rename(desk.key)
    company.start()
    # Nothing changed, so nothing has to be signed.
    assert [row["storage"] for row in keys_of(company, "identity")] == ["offline"]

    assert (
        refused(company, "key", "rotate", "log", "ncii")["error"] == "identity-offline"
    )
    assert refused(company, "key", "rotate", "http")["error"] == "identity-offline"
    assert refused(company, "list", "create", "other")["error"] == "identity-offline"
    assert [row["state"] for row in keys_of(company, "http")] == ["replaced", "waits"]
    # Also after a restart, and a repeated question changes nothing.
    company.stop()
    company.start()
    assert refused(company, "list", "create", "other")["error"] == "identity-offline"

    shown = ceremony(company, desk)

    assert re.search(r"descriptor of shield.example, version 2\n", shown)
    assert re.search(r"HTTP +h2 ", shown)
    assert "list note shield.example/hsf/v1/log/ncii, version 2" in shown
    assert "list note shield.example/hsf/v1/log/other, version 1" in shown
    assert [row["state"] for row in keys_of(company, "http")] == ["replaced", "signs"]
    rows = cast("list[Json]", company.client.get("/v1/lists")["lists"])
    names = {row["name"] for row in rows}
    assert names == {"ncii", "other"}
    assert refused(company, "list", "create", "other")["error"] == "list-exists"


def test_a_node_is_born_without_its_identity_key(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    made = run_command("key", "new-identity", str(desk.key), "--name", NAME, "--json")
    vkey = str(json.loads(made.stdout)["vkey"])
    other = make_company(tmp_path, "other.example")  # for its free ports
    home = tmp_path / "born"
    local = other.client.address
    options = ("--name", NAME, "--base", other.base, "--local", local)
    wrong = ("--name", "beta.example", *options[2:], "--identity", vkey)
    assert run_command("init", str(tmp_path / "wrong"), *wrong).returncode == 2
    done = run_command("init", str(home), *options, "--identity", vkey, "--json")
    token = str(json.loads(done.stdout)["token"])
    company = Company(NAME, home, other.base, vkey, LocalClient(local, token))
    assert not (home / "keys" / "identity.key").exists()
    try:
        company.start()
        friend = make_company(tmp_path, "friend.example")
        friend.start()
        try:
            # Until its first descriptor is signed nobody can pin it.
            assert refused(friend, "peer", "add", company.base, vkey)["error"]
            ceremony(company, desk)
            cli(friend, "peer", "add", company.base, vkey)
        finally:
            friend.stop()
    finally:
        company.stop()


def test_the_desk_signs_no_version_twice_differently_and_none_that_goes_back(
    company: Company, tmp_path: Path
) -> None:
    desk = Desk(tmp_path)
    cli(company, "key", "detach")
    (company.directory / "keys" / "identity.key").rename(desk.key)
    company.start()
    request = str(cli(company, "key", "export-request")["request"])
    assert desk.sign(request)[0] == 0
    assert desk.sign(request)[0] == 0, "the same again is harmless"
    changed = request.replace('"features":["evidence",', '"features":[')
    assert changed != request
    code, shown = desk.sign(changed)
    assert code != 0
    assert "version" in shown
    # And what the node did not ask for it does not take.
    later = changed.replace('"version":1', '"version":2')
    assert desk.sign(later)[0] == 0
    assert refused(company, "key", "import", str(desk.signed))["error"] == "malformed"
    code, _ = desk.sign(request)
    assert code != 0


def test_a_request_for_another_identity_is_not_signed(
    company: Company, tmp_path: Path
) -> None:
    desk = Desk(tmp_path)
    cli(company, "key", "detach")
    (company.directory / "keys" / "identity.key").rename(tmp_path / "right.key")
    company.start()
    request = str(cli(company, "key", "export-request")["request"])
    run_command("key", "new-identity", str(desk.key), "--name", NAME)
    code, shown = desk.sign(request)
    assert code == 2
    assert "another identity key" in shown
    assert not desk.signed.exists()


def test_keys_are_encrypted_and_decrypted_in_place(company: Company) -> None:
    passphrase = company.directory / "passphrase"
    passphrase.write_text("correct horse\n", encoding="ascii")
    passphrase.chmod(0o600)
    assert refused(company, "key", "encrypt")["error"] == "usage"
    with company.config.open("a", encoding="utf-8") as config:
        config.write(f'\n[keys]\npassphrase_file = "{passphrase.name}"\n')
    keys = company.directory / "keys"
    plain = {path.name: path.read_bytes() for path in keys.glob("*.key")}
    cli(company, "key", "encrypt")
    assert all(b"sealed" in path.read_bytes() for path in keys.glob("*.key"))
    company.start()
    cli(company, "list", "create", "ncii")
    assert [row["storage"] for row in keys_of(company, "log")] == ["sealed"]
    cli(company, "key", "rotate", "log", "ncii")
    company.stop()
    cli(company, "key", "decrypt")
    for name, content in plain.items():
        assert (keys / name).read_bytes() == content
    company.start()
    assert {row["storage"] for row in keys_of(company, "log")} == {"plain"}
    log = company.log_file.read_text(encoding="utf-8")
    assert "correct horse" not in log
    for content in plain.values():
        assert content.split(b"seed ")[1].strip().decode() not in log


def test_a_node_without_its_passphrase_does_not_start(company: Company) -> None:
    passphrase = company.directory / "passphrase"
    passphrase.write_text("correct horse\n", encoding="ascii")
    passphrase.chmod(0o600)
    text = company.config.read_text(encoding="utf-8")
    with company.config.open("a", encoding="utf-8") as config:
        config.write(f'\n[keys]\npassphrase_file = "{passphrase}"\n')
    cli(company, "key", "encrypt")
    company.config.write_text(text, encoding="utf-8")
    done = company.run("serve")
    assert done.returncode == 1
    assert b"is encrypted" in done.stderr


def test_wrong_choices_are_usage_errors(company: Company) -> None:
    company.start()
    for arguments in (
        ("rotate", "identity"),
        ("rotate", "log"),
        ("rotate", "http", "ncii"),
        ("retire", "nothing"),
    ):
        assert refused(company, "key", *arguments)["error"] == "usage"
    assert refused(company, "key", "rotate", "log", "absent")["error"] == "unknown-list"
    assert refused(company, "key", "export-request")["error"] == "malformed"
    with pytest.raises(ProblemError) as caught:
        company.client.post("/v1/keys/rotate", {"use": "http", "agent": "ssh-rsa x"})
    assert caught.value.code == "bad-key"


def test_rotation_and_retirement_by_hand(company: Company) -> None:
    company.start()
    cli(company, "key", "rotate", "witness")
    states = [row["state"] for row in keys_of(company, "witness")]
    assert states == ["replaced", "signs"]
    cli(company, "key", "retire", "witness")
    assert [row["state"] for row in keys_of(company, "witness")] == ["signs"]
    done = company.run("key", "list")
    assert b"witness" in done.stdout


def test_a_stolen_log_key_ends_its_log_also_without_the_identity_key(
    company: Company, tmp_path: Path
) -> None:
    company.start()
    cli(company, "list", "create", "ncii")
    cli(company, "publish", "ncii", "--signal", "md5:" + "1" * 32)
    cli(company, "publish", "ncii", "--signal", "md5:" + "2" * 32)
    company.stop()
    desk = Desk(tmp_path)
    cli(company, "key", "detach")
    (company.directory / "keys" / "identity.key").rename(desk.key)
    company.start()
    command = ("key", "compromised", "ncii", "--final", "2", "--yes")
    for _ in range(2):
        assert refused(company, *command)["error"] == "identity-offline"
    shown = ceremony(company, desk)
    assert "ncii/1 (abandoned, final size 2)" in shown
    assert cli(company, *command)["origin"] == f"{NAME}/hsf/v1/log/ncii/2"
    # What was signed is used up: an old state of the database does not revive it.
    company.stop()
    company.start()
    assert not list((company.directory / "keys" / "signed").glob("list-*"))
