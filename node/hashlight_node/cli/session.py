"""What every command shares: which node, which form of output, which exit code."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from hashlight_node.local_client import LocalClient, NodeUnreachableError, ProblemError

if TYPE_CHECKING:
    from rich.console import Console

    from hashlight_node.config import Settings

ADMIN_TOKEN_FILE = "admin.token"  # noqa: S105  a file name
"""Name of the file beside the configuration from which the CLI takes its token."""

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNVERIFIED = 3

ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        envvar="HASHLIGHT_CONFIG",
        help="The node's configuration file.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
DEFAULT_CONFIG = Path("hashlight.toml")


class UsageError(Exception):
    """The command was called with values that cannot be right (exit code 2)."""


class CommandError(Exception):
    """The command could not do its work (exit code 1); the message says why."""


@dataclass(frozen=True, slots=True)
class Session:
    """The node a command talks to."""

    settings: Settings
    client: LocalClient


def read_settings(config: Path) -> Settings:
    """Read a configuration file.

    Raises:
        SettingsError: It is missing or wrong.
    """
    from hashlight_node.config import load_settings

    return load_settings(config)


def open_session(config: Path) -> Session:
    """Read the configuration and the admin token beside it.

    Raises:
        CommandError: There is no token file.
        SettingsError: The configuration is missing or wrong.
    """
    settings = read_settings(config)
    token_file = config.resolve().parent / ADMIN_TOKEN_FILE
    try:
        token = token_file.read_text(encoding="ascii").strip()
    except OSError as error:
        message = f"cannot read the admin token {token_file} ({error.strerror})"
        raise CommandError(message) from error
    return Session(settings, LocalClient(settings.local.listen, token))


def console() -> Console:
    """Give the console for people: standard output, plain when it is no terminal."""
    from rich.console import Console

    # A pipe has no width; a reference must not be broken over two lines there.
    width = None if sys.stdout.isatty() else 200
    return Console(width=width, highlight=False)


def emit(value: object, *, as_json: bool, render: Callable[[Console], None]) -> None:
    """Print a result: as JSON for scripts, or by `render` for people."""
    if as_json:
        sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    else:
        render(console())


def fail(message: str, *, code: int, as_json: bool, kind: str) -> NoReturn:
    """Say on standard error why the command failed, and leave."""
    if as_json:
        problem = json.dumps({"error": kind, "detail": message}, ensure_ascii=False)
        sys.stderr.write(problem + "\n")
    else:
        sys.stderr.write(f"hashlight: {message}\n")
    raise typer.Exit(code)


@contextmanager
def reported(*, as_json: bool) -> Iterator[None]:
    """Turn every failure a command can foresee into one line and an exit code.

    This is the CLI's only translation from error to exit code: 2 for a value that
    cannot be right (a node's 400 and 422 too), 1 for everything else.
    """
    from hashlight_node.config import SettingsError
    from hashlight_protocol import ProtocolError

    try:
        yield
    except ProblemError as error:
        code = EXIT_USAGE if error.status in {400, 422} else EXIT_FAILED
        fail(str(error), code=code, as_json=as_json, kind=error.code)
    except NodeUnreachableError as error:
        fail(str(error), code=EXIT_FAILED, as_json=as_json, kind="node-unreachable")
    except CommandError as error:
        fail(str(error), code=EXIT_FAILED, as_json=as_json, kind="failed")
    except SettingsError as error:
        fail(str(error), code=EXIT_USAGE, as_json=as_json, kind="bad-settings")
    except UsageError as error:
        fail(str(error), code=EXIT_USAGE, as_json=as_json, kind="usage")
    except ProtocolError as error:
        fail(str(error), code=EXIT_USAGE, as_json=as_json, kind=error.code)
    except BrokenPipeError:
        # `hashlight … | head` closed the pipe: nothing is wrong, and nothing more
        # can be said; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EXIT_FAILED) from None
