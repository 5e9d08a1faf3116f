from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from hashlight_node.app.quorum import read_policy
from hashlight_node.config import (
    PolicyRule,
    Settings,
    SettingsError,
    initial_config,
    load_settings,
    split_address,
)
from hashlight_node.model import Handling, OpinionFold

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel
from hashlight_node.exchange.logs.quorum import NO_QUORUM
from hashlight_protocol import MAX_POLICY_BYTES

EXAMPLE = Path(__file__).parents[2] / "deploy" / "hashlight.example.toml"
MINIMAL = """\
[node]
name = "shield.example"
base = "https://shield.example"
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write_file(text: str) -> Path:
        path = tmp_path / "hashlight.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def problems_of(path: Path, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(path, environment or {})
    return str(caught.value)


def settings_of(model: type[BaseModel]) -> list[str]:
    names: list[str] = []
    for name, field in model.model_fields.items():
        section = cast("type[BaseModel]", field.annotation)
        names += [f"{name}.{key}" for key in section.model_fields]
    return names


def test_the_example_shows_every_condition_of_a_rule_and_the_rule_is_valid() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    start = lines.index("# [[policy.rules]]") + 1
    rule = []
    for line in lines[start:]:
        if not line.startswith("# "):
            break
        rule.append(line.removeprefix("# "))
    data = tomllib.loads("\n".join(rule))
    assert set(data) == set(PolicyRule.model_fields)
    PolicyRule.model_validate(data)


def test_there_are_few_settings() -> None:
    assert len(settings_of(Settings)) <= 45


def test_what_is_not_said_has_a_default(write: Callable[[str], Path]) -> None:
    settings = load_settings(write(MINIMAL), {})
    assert settings.node.authority == "shield.example"
    assert settings.federation.listen == "127.0.0.1:8440"
    assert settings.local.listen == "127.0.0.1:8441"
    assert not settings.node.is_loopback


def test_an_unknown_key_stops_the_node_and_is_named(
    write: Callable[[str], Path],
) -> None:
    said = problems_of(write(MINIMAL + "[exchange]\nsweep_second = 3\n"))
    assert "exchange.sweep_second: there is no such setting" in said


def test_an_unknown_section_stops_the_node(write: Callable[[str], Path]) -> None:
    assert "federations: there is no such" in problems_of(
        write(MINIMAL + "[federations]\n")
    )


def test_every_wrong_key_is_named_at_once(write: Callable[[str], Path]) -> None:
    said = problems_of(write('[node]\nname = "A B"\n[local]\nlisten = "nowhere"\n'))
    assert "node.name" in said
    assert "node.base: this setting has no default" in said
    assert "local.listen: 'nowhere' is not HOST:PORT" in said


def test_a_missing_file_is_the_operators_error(tmp_path: Path) -> None:
    assert "No such file" in problems_of(tmp_path / "absent.toml")


@pytest.mark.parametrize("raw", [b"[node", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_file_that_is_not_toml_is_the_operators_error(
    tmp_path: Path, raw: bytes
) -> None:
    path = tmp_path / "hashlight.toml"
    path.write_bytes(raw)
    assert "is not TOML" in problems_of(path)


def test_paths_are_relative_to_the_file(
    write: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = load_settings(write(MINIMAL), {})
    assert settings.keys.directory == tmp_path / "keys"
    assert settings.store.url == f"sqlite:///{tmp_path}/hashlight.db"


def test_absolute_paths_and_other_databases_stay_as_they_are(
    write: Callable[[str], Path],
) -> None:
    sections = '[keys]\ndirectory = "/k"\n[store]\nurl = "sqlite:////var/h.db"\n'
    settings = load_settings(write(MINIMAL + sections), {})
    assert settings.keys.directory == Path("/k")
    assert settings.store.url == "sqlite:////var/h.db"
    remote = MINIMAL + '[store]\nurl = "postgresql://db.example/hashlight"\n'
    assert load_settings(write(remote), {}).store.url.startswith("postgresql://")


def test_a_database_of_a_server_can_be_shared(write: Callable[[str], Path]) -> None:
    section = '[store]\nurl = "postgresql://db/hashlight"\nshared_at = "{}"\n'
    for host in ("10.0.0.5", "a.internal", "fd00::1"):
        settings = load_settings(write(MINIMAL + section.format(host)), {})
        assert settings.store.shared_at == host
    for host in ("10.0.0.5/8", "two words", "a" * 41):
        said = problems_of(write(MINIMAL + section.format(host)))
        assert "shared_at must be a host" in said
    alone = '[store]\nshared_at = "10.0.0.5"\n'
    said = problems_of(write(MINIMAL + alone))
    assert "shared_at needs a database of PostgreSQL" in said
    matching = "[matching]\nlog_matches = true\n"
    said = problems_of(write(MINIMAL + section.format("10.0.0.5") + matching))
    assert "log_matches does not go with store.shared_at" in said


@pytest.mark.parametrize("query", ["node:secret@db", "db/h?password=secret&user=node"])
def test_the_database_has_no_password_in_the_settings(
    write: Callable[[str], Path], query: str
) -> None:
    problems = problems_of(write(f'{MINIMAL}[store]\nurl = "postgresql://{query}"\n'))
    assert "settings hold no secret" in problems
    assert "node:secret" not in problems


def test_the_environment_wins_over_the_file(write: Callable[[str], Path]) -> None:
    path = write(MINIMAL + '[local]\nlisten = "127.0.0.1:1"\n')
    environment = {
        "HASHLIGHT_LOCAL_LISTEN": "127.0.0.1:9441",
        "HASHLIGHT_EXCHANGE_SWEEP_SECONDS": "7",
        "HASHLIGHT_LOGGING_REQUESTS": "true",
        "HASHLIGHT_KEYS_DIRECTORY": "/run/keys",
        "HASHLIGHT_POLICY_DEFAULT": '"ignore"',
        "HASHLIGHT_POLICY_RULES": '[{list = "ncii", handling = "block"}]',
        "HASHLIGHT_CONFIG": "/etc/hashlight.toml",
        "HOME": "/root",
    }
    settings = load_settings(path, environment)
    assert settings.local.listen == "127.0.0.1:9441"
    assert settings.exchange.sweep_seconds == 7
    assert settings.logging.requests is True
    assert settings.keys.directory == Path("/run/keys")
    assert settings.policy.default is Handling.IGNORE
    assert settings.policy.rules[0].handling is Handling.BLOCK


def test_an_unquoted_word_in_the_environment_is_a_word(
    write: Callable[[str], Path],
) -> None:
    environment = {"HASHLIGHT_LOGGING_LEVEL": "debug"}
    assert load_settings(write(MINIMAL), environment).logging.level == "debug"


def test_an_unknown_key_in_the_environment_stops_the_node(
    write: Callable[[str], Path],
) -> None:
    said = problems_of(write(MINIMAL), {"HASHLIGHT_LOCAL_LISTENS": "1"})
    assert "local.listens: there is no such setting" in said


def test_the_environment_cannot_mend_a_section_that_is_no_table(
    write: Callable[[str], Path],
) -> None:
    said = problems_of(
        write('local = "x"\n' + MINIMAL), {"HASHLIGHT_LOCAL_LISTEN": "1"}
    )
    assert "local: must be a table" in said


@pytest.mark.parametrize(
    "base",
    [
        "http://shield.example",
        "http://10.0.0.1:8440",
        "https://shield.example/",
        "https://shield.example/node",
        "https://shield.example?x",
        "https://shield.example#x",
        "https://user@shield.example",
        "https://SHIELD.example",
        "https://shield.example:443",
        "https://shield.example:99999",
        "https://",
        "http://127.0.0.1:80",
        "ftp://shield.example",
        "shield.example",
        "",
    ],
)
def test_a_base_that_peers_would_refuse_is_refused(
    write: Callable[[str], Path], base: str
) -> None:
    text = f'[node]\nname = "shield.example"\nbase = "{base}"\n'
    assert "node.base: " in problems_of(write(text))


@pytest.mark.parametrize(
    ("base", "authority", "listen"),
    [
        ("http://127.0.0.1:8540", "127.0.0.1:8540", "127.0.0.1:8540"),
        ("http://127.0.0.1", "127.0.0.1", "127.0.0.1:80"),
        ("http://localhost:81", "localhost:81", "localhost:81"),
        ("http://[::1]:8440", "[::1]:8440", "[::1]:8440"),
        ("https://shield.example:8443", "shield.example:8443", "127.0.0.1:8440"),
    ],
)
def test_the_base_gives_the_authority_and_on_loopback_the_listener(
    write: Callable[[str], Path], base: str, authority: str, listen: str
) -> None:
    text = f'[node]\nname = "shield.example"\nbase = "{base}"\n'
    settings = load_settings(write(text), {})
    assert settings.node.authority == authority
    assert settings.federation.listen == listen
    assert settings.node.is_loopback is base.startswith("http:")


def test_the_file_may_have_the_listener_elsewhere(
    write: Callable[[str], Path],
) -> None:
    text = '[node]\nname = "a.example"\nbase = "http://127.0.0.1:1"\n'
    listen = '[federation]\nlisten = "127.0.0.1:2"\n'
    assert load_settings(write(text + listen), {}).federation.listen == "127.0.0.1:2"


@pytest.mark.parametrize("listen", ["0.0.0.0:8441", "192.0.2.1:8441", "[::]:8441"])
def test_the_local_listener_leaves_loopback_only_when_told_to(
    write: Callable[[str], Path], listen: str
) -> None:
    text = f'{MINIMAL}[local]\nlisten = "{listen}"\n'
    assert "allow_remote is false" in problems_of(write(text))
    allowed = load_settings(write(text + "allow_remote = true\n"), {})
    assert allowed.local.listen == listen


@pytest.mark.parametrize(
    "listen", ["", ":1", "a", "a:", "a:x", "a:65536", "::1:8440", "[a]:1", "a:-1"]
)
def test_what_is_no_address_is_refused(listen: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        split_address(listen)


def test_rules_are_read_in_order(write: Callable[[str], Path]) -> None:
    rules = """
[[policy.rules]]
opinion = "disputed"
handling = "ignore"
[[policy.rules]]
list = "ncii"
match = "exact"
handling = "block"
"""
    first, second = load_settings(write(MINIMAL + rules), {}).policy.rules
    assert (first.opinion, first.handling) == (OpinionFold.DISPUTED, Handling.IGNORE)
    assert (second.list, second.match) == ("ncii", "exact")


@pytest.mark.parametrize(
    "section",
    [
        "[exchange]\nsweep_seconds = 0\n",
        "[exchange]\nsweep_seconds = true\n",
        '[exchange]\nsweep_seconds = "300"\n',
        "[matching]\npdq_threshold = 256\n",
        '[policy]\ndefault = "delete"\n',
        '[[policy.rules]]\nlist = "ncii"\n',
        '[[policy.rules]]\nhandling = "block"\nlists = "ncii"\n',
        '[logging]\nlevel = "all"\n',
        "[store]\nurl = 3\n",
    ],
)
def test_values_out_of_their_range_stop_the_node(
    write: Callable[[str], Path], section: str
) -> None:
    assert problems_of(write(MINIMAL + section))


def test_settings_do_not_change_while_the_node_runs(
    write: Callable[[str], Path],
) -> None:
    settings = load_settings(write(MINIMAL), {})
    with pytest.raises(ValueError, match="frozen"):
        settings.exchange.sweep_seconds = 1  # type: ignore[misc]


def test_init_leaves_a_file_that_describes_the_node(
    write: Callable[[str], Path],
) -> None:
    text = initial_config("a.example", "http://127.0.0.1:8440", "127.0.0.1:8441")
    settings = load_settings(write(text), {})
    assert settings.node.name == "a.example"
    assert settings.federation.listen == "127.0.0.1:8440"
    assert settings.local.listen == "127.0.0.1:8441"


@pytest.mark.parametrize(
    ("name", "base", "local"),
    [
        ("A", "http://127.0.0.1:8440", "127.0.0.1:8441"),
        ('a"\nb = "', "http://127.0.0.1:8440", "127.0.0.1:8441"),
        ("a.example", "http://a.example", "127.0.0.1:8441"),
        ("a.example", "http://127.0.0.1:8440", "0.0.0.0:8441"),
    ],
)
def test_init_refuses_a_node_that_could_not_start(
    name: str, base: str, local: str
) -> None:
    with pytest.raises(SettingsError, match=r"hashlight\.toml"):
        initial_config(name, base, local)


def test_a_copy_is_warned_of_before_it_is_taken_out_of_use(
    write: Callable[[str], Path],
) -> None:
    exchange = "[exchange]\nwarn_after_hours = 48\nrelay_until_hours = 24\n"
    with pytest.raises(SettingsError, match="must not become smaller"):
        load_settings(write(MINIMAL + exchange), {})
    together = "[exchange]\nwarn_after_hours = 168\nserve_until_hours = 168\n"
    settings = load_settings(write(MINIMAL + together), {})
    assert settings.exchange.serve_until_hours == 168


def test_a_policy_is_found_beside_the_file(
    write: Callable[[str], Path], tmp_path: Path
) -> None:
    section = '[exchange]\nquorum = "policy.txt"\n'
    settings = load_settings(write(MINIMAL + section), {})
    assert settings.exchange.quorum == str(tmp_path / "policy.txt")
    named = {"HASHLIGHT_EXCHANGE_QUORUM": "/etc/policy.txt"}
    settings = load_settings(write(MINIMAL), named)
    assert settings.exchange.quorum == "/etc/policy.txt"


def test_a_policy_that_cannot_be_used_stops_the_node(tmp_path: Path) -> None:
    path = tmp_path / "policy.txt"
    with pytest.raises(SettingsError, match="No such file"):
        read_policy(str(path))
    path.write_text("witness beta\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="a line defines nothing"):
        read_policy(str(path))
    path.write_text("#" * MAX_POLICY_BYTES + "\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="limit"):
        read_policy(str(path))
    path.write_text("quorum none\n", encoding="utf-8")
    assert read_policy(str(path)) == read_policy("") == NO_QUORUM
