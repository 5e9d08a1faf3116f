"""Make the project's virtual environment, with nothing but a bare Python.

    python3 deploy/bootstrap/bootstrap.py PROFILE...

The Makefile runs this before everything else. It needs the standard library only,
because a minimal Debian has neither pip nor ensurepip and refuses
`python3 -m venv`: the environment is made without pip, and the pip wheel kept
beside this file, checked against the digest below, fills it from a lock file whose
every package is pinned by digest too. Wheels only: building a package would run
code that no digest covers, and would need a compiler (`oracle` and `bench-reference`
are the exceptions and say so).

A stamp in the environment names what it was made from. If that is still true the
script ends at once; if not, the environment is made anew from nothing, so it never
holds more than its lock files say.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path
from typing import NamedTuple

# Nothing above or in this block needs more than Python 3.6, so that an older
# interpreter says this sentence and not a syntax error.
if sys.version_info < (3, 11):  # noqa: UP036 - this is the check itself
    sys.exit(
        "hashlight: Python 3.11 or newer is needed, and {} is {}.{}.{}; name "
        "another one with `make PYTHON=python3.12 ...`".format(
            sys.executable, *sys.version_info[:3]
        )
    )

CHECKOUT = Path(__file__).resolve().parents[2]
PIP_WHEEL = Path(__file__).resolve().parent / "pip-26.3-py3-none-any.whl"
PIP_WHEEL_SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"
ENTRY_POINT = ("hashlight", "hashlight_node.cli", "main")
"""The one of `[project.scripts]` in pyproject.toml; a test compares the two."""


class Profile(NamedTuple):
    """A set of packages that some make targets need.

    Attributes:
        environment: Folder of the virtual environment, in the checkout.
        lock: File with the packages, in the checkout.
        code: Folders whose package is importable from the environment.
        includes: Profiles whose packages are all in this one, too.
        compiles: Whether packages without a wheel may be built.
    """

    environment: str
    lock: str
    code: tuple[str, ...] = ("protocol", "node", "migrations", "client")
    includes: tuple[str, ...] = ()
    compiles: bool = False


PROFILES = {
    "run": Profile(".venv", "requirements/run.txt"),
    "test": Profile(".venv", "requirements/test.txt", includes=("run",)),
    "dev": Profile(".venv", "requirements/dev.txt", includes=("run", "test")),
    "oracle": Profile(".venv", "requirements/oracle.txt", compiles=True),
    "protocol": Profile(".venv-protocol", "requirements/protocol.txt", ("protocol",)),
    "deploy": Profile(".venv-deploy", "requirements/deploy.txt", ()),
    "bench": Profile(".venv-bench", "requirements/bench.txt"),
    "bench-reference": Profile(
        ".venv-bench", "requirements/bench-reference.txt", compiles=True
    ),
}


class BootstrapError(Exception):
    """The environment cannot be made; the message tells the reader what to do."""


def main() -> int:
    """Bring the environment of every profile named on the command line up to date.

    Returns:
        Exit code: 0 if each profile is ready to use, 1 if one is not.
    """
    parser = argparse.ArgumentParser(description="Make the virtual environment.")
    parser.add_argument("profiles", nargs="+", choices=sorted(PROFILES))
    wanted: list[str] = parser.parse_args().profiles
    try:
        with (CHECKOUT / "requirements" / "run.txt").open("rb") as turnstile:
            # Two makes at once (an editor's and a person's) take turns.
            fcntl.flock(turnstile, fcntl.LOCK_EX)
            for name in wanted:
                ensure(name)
                compile_kernel(name)
    except BootstrapError as error:
        print(f"hashlight: {error}", file=sys.stderr)
        return 1
    return 0


def ensure(name: str) -> None:
    """Make sure that the packages of a profile, and the project, are installed.

    Raises:
        BootstrapError: They are not; what was begun is begun anew next time.
    """
    environment = CHECKOUT / PROFILES[name].environment
    stamp = environment / "hashlight-stamp.json"
    installed = read_stamp(stamp)
    current = {known: digest(known) for known in PROFILES}
    is_current = (environment / "bin" / "python").exists() and all(
        current.get(old) == made for old, made in installed.items()
    )
    if is_current and has(installed, name):
        return
    started = time.monotonic()
    todo = [old for old in installed if old in current] + [name]
    if not (is_current and installed):
        installed = {}
        make_environment(environment, stamp)
    for each in todo:
        if not has(installed, each):
            install(environment, each)
            installed[each] = current[each]
    link_project(environment, PROFILES[name].code)
    write_stamp(stamp, installed)
    print(f"hashlight: {environment.name} ready, {time.monotonic() - started:.0f} s")


def compile_kernel(name: str) -> None:
    """Compile the checkout's matching kernel if it has one and it is not current.

    That needs a C compiler and may fail; matching then is slower and says so.
    """
    script = CHECKOUT / "deploy" / "build" / "compile_kernel.py"
    if "node" in PROFILES[name].code and script.exists():
        python = CHECKOUT / PROFILES[name].environment / "bin" / "python"
        subprocess.run([python, script], check=False)


def has(installed: dict[str, str], name: str) -> bool:
    """Say whether a profile, or one that includes it, is among those installed."""
    return any(old == name or name in PROFILES[old].includes for old in installed)


def digest(name: str) -> str:
    """Name everything that decides what an installed profile looks like."""
    content = hashlib.sha256()
    for file in (Path(__file__).resolve(), CHECKOUT / PROFILES[name].lock):
        content.update(file.read_bytes())
    content.update(f"{sys.version_info[:2]} {CHECKOUT}".encode())
    return content.hexdigest()


def read_stamp(stamp: Path) -> dict[str, str]:
    """Give the digest of every installed profile; none if that is unknown."""
    try:
        installed = json.loads(stamp.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return installed if isinstance(installed, dict) else {}


def write_stamp(stamp: Path, installed: dict[str, str]) -> None:
    """Record what is installed, so that an interrupted run never looks finished."""
    new = stamp.with_suffix(".new")
    new.write_text(json.dumps(installed, indent=2), "utf-8")
    new.replace(stamp)


def make_environment(environment: Path, stamp: Path) -> None:
    """Make an empty environment where there is none or only one of ours.

    Raises:
        BootstrapError: The folder holds something that this script did not make.
    """
    if environment.exists() and not stamp.exists():
        raise BootstrapError(
            f"{environment} exists and was not made by this script; "
            "move it away and try again"
        )
    shutil.rmtree(environment, ignore_errors=True)
    environment.mkdir()
    write_stamp(stamp, {})
    venv.create(environment, symlinks=True, prompt="hashlight")


def install(environment: Path, name: str) -> None:
    """Install one lock file with the pip wheel that comes with the project.

    Raises:
        BootstrapError: The wheel was altered, or pip failed and has said why.
    """
    profile = PROFILES[name]
    if hashlib.sha256(PIP_WHEEL.read_bytes()).hexdigest() != PIP_WHEEL_SHA256:
        raise BootstrapError(f"{PIP_WHEEL} is not the file it should be")
    lock = CHECKOUT / profile.lock
    count = lock.read_text("utf-8").count("==")
    print(
        f"hashlight: installing {count} packages of {profile.lock} (once)", flush=True
    )
    command = [
        str(environment / "bin" / "python"),
        str(PIP_WHEEL / "pip"),
        "install",
        "--require-hashes",
        "--no-deps",  # the lock is complete; nothing is to be resolved
        "--requirement",
        str(lock),
    ]
    if not profile.compiles:
        command.append("--only-binary=:all:")
    if not sys.stdout.isatty():
        command.append("--quiet")
    # A user-wide setting must not send the packages elsewhere.
    settings = {
        "PIP_USER": "0",
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    if subprocess.run(command, env=os.environ | settings, check=False).returncode:
        raise BootstrapError(
            f"pip could not install {profile.lock} and says why above; "
            "once that is mended, the same command goes on from here"
        )


def link_project(environment: Path, code: tuple[str, ...]) -> None:
    """Make the checkout's packages importable, and `hashlight` a command.

    A `.pth` file does what an editable installation would, without the build
    backend that one needs and would fetch.
    """
    purelib = sysconfig.get_path(
        "purelib", "venv", {"base": str(environment), "platbase": str(environment)}
    )
    lines = [str(CHECKOUT / folder) for folder in code]
    Path(purelib, "hashlight.pth").write_text("\n".join(lines) + "\n", "utf-8")
    if "node" not in code:
        return
    command, module, function = ENTRY_POINT
    # A `#!` line ends at a space and at 127 bytes; a checkout's path need not.
    # To the shell the second line is an exec, to Python it begins a string.
    script = (
        "#!/bin/sh\n"
        f'\'\'\'exec\' "{environment}/bin/python" "$0" "$@"\n'
        "' '''\n"
        "import sys\n"
        f"from {module} import {function}\n"
        f"sys.exit({function}())\n"
    )
    file = environment / "bin" / command
    file.write_text(script, "utf-8")
    file.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main())
