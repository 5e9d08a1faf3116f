"""A real ssh-agent, from the openssh-client of the machine."""

from __future__ import annotations

import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Agent:
    """A running ssh-agent that holds one Ed25519 key."""

    path: Path
    ssh_key: str
    file: Path

    def run(self, *arguments: str) -> None:
        subprocess.run(
            [_program("ssh-add"), *arguments],
            env={"SSH_AUTH_SOCK": str(self.path)},
            check=True,
            capture_output=True,
        )


def _program(name: str) -> str:
    found = shutil.which(name)
    # Not skipped: what is not tried here would be tried by an operator first.
    assert found is not None, f"{name} is missing; install openssh-client"
    return found


@contextmanager
def running_agent() -> Iterator[Agent]:
    """Run an ssh-agent with a new key for as long as the block lasts."""
    # A socket's path has at most a hundred characters; pytest's are longer.
    with TemporaryDirectory(prefix="hl") as name:
        directory = Path(name)
        path, file = directory / "agent", directory / "id"
        subprocess.run(
            [_program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(file)],
            check=True,
        )
        process = subprocess.Popen(
            [_program("ssh-agent"), "-D", "-a", str(path)], stdout=subprocess.DEVNULL
        )
        try:
            give_up_at = time.monotonic() + 10
            while not path.exists():
                assert time.monotonic() < give_up_at
                time.sleep(0.01)
            ssh_key = file.with_suffix(".pub").read_text(encoding="ascii")
            running = Agent(path, ssh_key, file)
            running.run("-q", str(file))
            yield running
        finally:
            process.terminate()
            process.wait()
