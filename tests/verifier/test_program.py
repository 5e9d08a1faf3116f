"""The verifier is a program of its own, and says so when it cannot do its work."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest

from verifier.__main__ import as_text, main
from verifier.runs import OUR_PACKAGES, TESTS, run_program

TESTS_AND_SUPPORT = ("test_*.py", "conftest.py", "runs.py", "verifiable_simulator.py")
PROGRAM = sorted(
    file
    for file in (TESTS / "verifier").glob("*.py")
    if not any(file.match(pattern) for pattern in TESTS_AND_SUPPORT)
)
IDENTITY = "node.acme.example+9e9d635a+AeFJpE8EIFmlUBLd0hmrtqXOne6VTsH+y7zaTVZtpBfb"
BASE = "http://127.0.0.1:1"


def imported(file: Path) -> set[str]:
    """Give what a file imports: packages by name, files beside it by path."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {it.name.partition(".")[0] for it in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level <= 1
            name = (node.module or "").partition(".")[0]
            found.add(f"{name}.py" if node.level else name)
    return found


@pytest.mark.parametrize("file", PROGRAM, ids=lambda file: file.name)
def test_it_imports_nothing_but_python_cryptography_and_itself(file: Path) -> None:
    others = imported(file) - sys.stdlib_module_names

    assert others <= {"cryptography", *(it.name for it in PROGRAM)}
    assert "importlib" not in imported(file)


def test_what_it_may_not_import_is_what_this_project_installs() -> None:
    folders = ("protocol", "node", "migrations", "client")
    found = [it for folder in folders for it in (TESTS.parent / folder).glob("*/")]

    assert {it.name for it in found if (it / "__init__.py").exists()} == {*OUR_PACKAGES}


async def test_it_runs_where_no_package_of_this_project_is_installed(
    tmp_path: Path,
) -> None:
    key = tmp_path / "http.key"
    key.write_text(f"seed {'A' * 43}=\n")
    verdict = await run_program(
        *(BASE, IDENTITY, "ncii", "--key", str(key)),
        *("--key-id", "alpha.example#h1", "--state", str(tmp_path / "state.json")),
    )

    assert (verdict.code, verdict.report["verdict"]) == (1, "unreachable")


def test_a_report_for_people_has_a_line_for_each_log() -> None:
    log = {"origin": "shield.example/hsf/v1/log/ncii/1", "size": 4}
    report = {"verdict": "agrees", "logs": [log, log], "cosignatures": []}

    assert as_text(report).splitlines() == [
        "verdict: agrees",
        "logs: origin shield.example/hsf/v1/log/ncii/1, size 4",
        "logs: origin shield.example/hsf/v1/log/ncii/1, size 4",
        "cosignatures: none",
    ]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"base": "http://shield.example"}, "base URL"),
        ({"base": "https://shield.example/"}, "base URL"),
        ({"identity": IDENTITY.replace("9e", "9f")}, "key id"),
        ({"identity": "nonsense"}, "vkey"),
        ({"list": "No List"}, "name of a list"),
        ({"--key-id": "alpha.example"}, "<node>#<HTTP key id>"),
        ({"--key": "nowhere"}, "nowhere"),
        ({"--key": "other.key"}, "seed"),
        ({"--state": "other.key"}, "state file"),
        ({"--state": "foreign.json"}, "another list"),
        ({"--owner-key": "http.key"}, "go together"),
        ({"--key-id": None}, "--key-id"),
    ],
    ids=str,
)
def test_what_cannot_be_right_ends_with_code_two(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, str | None],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("http.key").write_text(f"seed {'A' * 43}=\n")
    Path("other.key").write_text("seed of nothing\n")
    foreign = {"identity": IDENTITY, "list": "other", "versions": {}, "logs": {}}
    Path("foreign.json").write_text(json.dumps(foreign))
    given: dict[str, str | None] = {
        "base": BASE,
        "identity": IDENTITY,
        "list": "ncii",
        "--key": "http.key",
        "--key-id": "alpha.example#h1",
        "--state": "state.json",
    }
    arguments = [
        word
        for name, value in (given | changed).items()
        if value is not None
        for word in ([name, value] if name.startswith("-") else [value])
    ]
    try:
        code = main(arguments)
    except SystemExit as error:
        code = int(error.code or 0)

    out, err = capsys.readouterr()
    assert code == 2
    assert said in out + err
