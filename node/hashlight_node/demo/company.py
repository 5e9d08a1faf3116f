"""One company of the demo: a node in its own process, with its own files."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from hashlight_node.local_client import (
    Json,
    LocalClient,
    NodeUnreachableError,
    ProblemError,
)

if TYPE_CHECKING:
    from pathlib import Path

_START_SECONDS = 60.0
_STOP_SECONDS = 15.0


class CompanyError(Exception):
    """A company's node did not start or a command of it failed.

    Attributes:
        name: The company.
    """

    def __init__(self, name: str, what: str, output: str) -> None:
        super().__init__(f"{name}: {what}: {output.strip()[-2000:]}")
        self.name = name


@dataclass
class Company:
    """A node that the demo has made; `start` runs it.

    Attributes:
        name: Its node name.
        directory: Where its configuration, keys and database are.
        base: URL at which its peers reach it.
        vkey: Its identity key, which its operator hands to peers.
        client: Its local API, with the admin token.
    """

    name: str
    directory: Path
    base: str
    vkey: str
    client: LocalClient
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def config(self) -> Path:
        """The node's configuration file."""
        return self.directory / "hashlight.toml"

    @property
    def log_file(self) -> Path:
        """Where the node's log goes."""
        return self.directory / "node.log"

    @property
    def docs_url(self) -> str:
        """The page on which to try its local API."""
        return f"http://{self.client.address}/docs"

    def start(self) -> None:
        """Run the node and return when it is ready.

        Raises:
            CompanyError: It ended, or was not ready in time.
        """
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  our own program
                [*_program(), "serve", "-c", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the demo, which then stops its nodes in order.
                start_new_session=True,
            )
        give_up_at = time.monotonic() + _START_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                raise CompanyError(self.name, "did not start", self._log_tail())
            time.sleep(0.05)

    def stop(self) -> None:
        """Ask the node to stop, and make it if it does not."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End the node at once, as a power cut would (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run a `hashlight` command as this company's operator would."""
        return run_command(*arguments, "-c", str(self.config))

    def _is_ready(self) -> bool:
        try:
            self.client.get("/readyz")
        except (NodeUnreachableError, ProblemError):
            return False
        return True

    def _log_tail(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")


def make_company(
    directory: Path, name: str, *init_options: str, policy: str = ""
) -> Company:
    """Make a node on free loopback ports with `hashlight init`.

    Args:
        directory: Parent of the node's own directory.
        name: Node name.
        init_options: More options of `hashlight init`.
        policy: TOML appended to its configuration.
    """
    home = directory / name
    base = f"http://127.0.0.1:{_free_port()}"
    local = f"127.0.0.1:{_free_port()}"
    options = ("--name", name, "--base", base, "--local", local, "--json")
    done = run_command("init", str(home), *options, *init_options)
    if done.returncode:
        raise CompanyError(name, "init failed", done.stderr.decode(errors="replace"))
    made = cast("Json", json.loads(done.stdout))
    with (home / "hashlight.toml").open("a", encoding="utf-8") as config:
        config.write(policy)
    client = LocalClient(local, str(made["token"]))
    return Company(name, home, base, str(made["vkey"]), client)


def run_command(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run `hashlight` with these arguments and collect what it prints."""
    return subprocess.run(  # noqa: S603  our own program
        [*_program(), *arguments], capture_output=True, check=False
    )


def _program() -> list[str]:
    return [sys.executable, "-m", "hashlight_node"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return cast("int", probe.getsockname()[1])
