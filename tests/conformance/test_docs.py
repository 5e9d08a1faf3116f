"""What the documents claim is true: settings, commands, targets, links."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from hashlight_node.cli.main import app
from hashlight_node.config import Settings, load_settings

CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLE = CHECKOUT / "deploy" / "hashlight.example.toml"
DOCUMENTS = sorted(
    path.relative_to(CHECKOUT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md", "tests/**/*.md")
    for path in CHECKOUT.glob(pattern)
)
COMMITTED = (
    *("protocol", "node", "migrations", "client", "tests", "benchmarks"),
    *("deploy", "docs"),
    *("requirements", ".ci"),
)


def read(document: str) -> str:
    return (CHECKOUT / document).read_text("utf-8")


def code_blocks(document: str) -> Iterator[str]:
    """Give the lines of fenced blocks, with continued lines joined."""
    for block in re.findall(
        r"^```[a-z]*\n(.*?)^```", read(document), re.DOTALL | re.MULTILINE
    ):
        yield from re.sub(r"\\\n\s*", " ", block).splitlines()


def commands(document: str) -> Iterator[list[str]]:
    """Give the arguments of every `hashlight` that a document tells to type."""
    inline = re.findall(r"`(hashlight [^`\n]+)`", read(document))
    for line in (*code_blocks(document), *inline):
        typed = re.match(r"\s*(?:\$ )?(?:\.venv/bin/)?hashlight (.*)", line)
        if typed:
            # `>` and `|` lead elsewhere; `…` stands for more of the same.
            yield shlex.split(re.split(r"[>|…]", typed[1])[0], comments=True)


def find_command(arguments: list[str]) -> tuple[Any, list[str]]:
    """Follow the words of a command line down the tree of commands."""
    command: Any = typer.main.get_command(app)
    rest = list(arguments)
    while hasattr(command, "commands"):
        if not rest or rest[0].startswith("-"):
            break
        assert rest[0] in command.commands, f"no such command: {' '.join(arguments)}"
        command = command.commands[rest.pop(0)]
    return command, rest


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_and_option_in_the_documents_exists(document: str) -> None:
    for arguments in commands(document):
        command, rest = find_command(arguments)
        known = {"--help"}.union(*(parameter.opts for parameter in command.params))
        options = {word.split("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
        assert options <= known, f"hashlight {' '.join(arguments)}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_in_the_documents_exists(document: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    inline = " ".join(re.findall(r"`make [^`\n]+`", read(document)))
    blocks = "\n".join(code_blocks(document))

    named = re.findall(
        r"(?:^|`|&& )make ([a-z-]+)", f"{blocks}\n{inline}", re.MULTILINE
    )
    assert set(named) <= targets


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_inside_the_project_leads_somewhere(document: str) -> None:
    folder = (CHECKOUT / document).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", read(document)):
        path = target.partition("#")[0]
        if path and "://" not in target and not target.startswith("mailto:"):
            assert (folder / path).exists(), target


def defaults(model: type[BaseModel]) -> dict[str, Any]:
    """Give every setting of a section, those without a default as None."""
    return {
        name: None
        if field.is_required()
        else to_jsonable_python(field.get_default(call_default_factory=True))
        for name, field in model.model_fields.items()
    }


def sections() -> dict[str, type[BaseModel]]:
    return {name: field.annotation for name, field in Settings.model_fields.items()}  # type: ignore[misc]


def test_the_example_has_every_setting_with_its_default() -> None:
    example = tomllib.loads(EXAMPLE.read_text("utf-8"))

    assert example.keys() == sections().keys()
    for name, section in sections().items():
        expected = defaults(section)
        given = dict(example[name])
        if name == "policy":
            # Rules have no default; the example shows what one looks like.
            expected.pop("rules")
            given.pop("rules", None)
        assert given.keys() == expected.keys(), name
        assert {k: v for k, v in given.items() if expected[k] is not None} == {
            k: v for k, v in expected.items() if v is not None
        }, name


def test_the_example_explains_every_setting() -> None:
    lines = EXAMPLE.read_text("utf-8").splitlines()
    for number, line in enumerate(lines):
        if re.match(r"#?\s?[a-z_]+ = ", line):
            block = lines[:number][::-1]
            above = next((it for it in block if not re.match(r"[a-z_]+ = ", it)), "")
            assert "#" in line or above.startswith("#"), line


def test_a_node_starts_with_the_example() -> None:
    settings = load_settings(EXAMPLE, {})

    assert settings.keys.directory == EXAMPLE.parent / "keys"


def committed_files() -> Iterator[Path]:
    """Give every file of the project that is text."""
    for top in CHECKOUT.iterdir():
        if top.is_file() and not top.name.startswith(".coverage"):
            yield top
        elif top.name in COMMITTED:
            for path in top.rglob("*"):
                parts = path.relative_to(top).parts
                is_made = any(it.startswith((".", "__pycache__")) for it in parts)
                if path.is_file() and not is_made:
                    yield path


# Put together here, so that this file does not contain what it looks for.
FOREIGN = [
    "/".join(parts)
    for parts in (
        ("..", "shared"),
        ("", "work", ""),
        ("", "tmp", "plan"),
    )
] + [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("deb", "debian", "org"),
    )
]


def test_no_file_names_a_place_outside_the_project() -> None:
    found = {
        (path.relative_to(CHECKOUT).as_posix(), word)
        for path in committed_files()
        if path.suffix not in {".whl", ".jpg", ".png"}
        for word in FOREIGN
        if word.encode() in path.read_bytes()
    }

    assert found == set()
