"""The image: what goes into it, how it is checked, and that it runs locked up."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hashlight_node.demo.company import Company, make_company
from support.nodes import free_port
from support.processes import python_path
from support.tools import CHECKOUT, tool

DOCKERFILE = CHECKOUT / "deploy" / "Dockerfile"
HEALTHCHECK = CHECKOUT / "deploy" / "container" / "healthcheck.py"
USER = 10001


def test_the_linter_finds_nothing() -> None:
    command = [tool("hadolint"), str(DOCKERFILE)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_base_has_a_version_and_the_user_a_number() -> None:
    text = DOCKERFILE.read_text("utf-8")
    assert re.search(r"^ARG BASE=\S+:3\.\d+\.\d+-slim-\w+$", text, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${BASE}"}
    last = text.rpartition("\nFROM ")[2]
    assert f"\nUSER {USER}:{USER}\n" in last
    # The root filesystem is not written to: packages come from locks, in the build.
    assert "apt-get" not in last
    assert "pip" not in last


def test_only_what_is_named_goes_into_an_image() -> None:
    """What is copied is named in .dockerignore, whose first word is `nothing`."""
    lines = [
        line
        for line in (CHECKOUT / ".dockerignore").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert lines[0] == "*"
    named = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert all((CHECKOUT / name).exists() for name in named)
    copied = {
        word
        for line in re.findall(r"^COPY ([^-].*)$", DOCKERFILE.read_text(), re.MULTILINE)
        for word in line.split()[:-1]
    }
    assert {
        it for it in copied if not any(it == n or n.startswith(it) for n in named)
    } == set()
    assert {"**/.*", "**/*.db"} <= set(lines)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    made = make_company(tmp_path_factory.mktemp("container"), "shield.example")
    made.start()
    yield made
    made.stop()


def check_health(config: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(HEALTHCHECK), *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=python_path() | {"HASHLIGHT_CONFIG": str(config)} | environment,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.strip()


def test_a_node_that_answers_is_healthy(company: Company) -> None:
    assert check_health(company.config) == (0, "/healthz: 200")
    assert check_health(company.config, "/readyz") == (0, "/readyz: 200")
    port = company.client.address.rpartition(":")[2]
    everywhere = {
        "HASHLIGHT_LOCAL_LISTEN": f"0.0.0.0:{port}",
        "HASHLIGHT_LOCAL_ALLOW_REMOTE": "true",
    }
    assert check_health(company.config, **everywhere) == (0, "/healthz: 200")


def test_what_does_not_answer_or_says_no_is_not_healthy(
    company: Company, tmp_path: Path
) -> None:
    assert check_health(company.config, "/nothing") == (1, "/nothing: 404")
    nobody = {"HASHLIGHT_LOCAL_LISTEN": f"127.0.0.1:{free_port()}"}
    assert check_health(company.config, **nobody) == (
        1,
        "/healthz: ConnectionRefusedError",
    )
    assert check_health(tmp_path / "none.toml") == (1, "/healthz: SettingsError")


INSIDE = """
set -eu
mount --bind "$ROOT" "$ROOT"
mount --bind "$DATA" "$ROOT/data"
mount -t tmpfs tmpfs "$ROOT/tmp"
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
mount -o remount,ro,bind "$ROOT"
exec chroot "$ROOT" /usr/bin/env -i PATH=/opt/hashlight/.venv/bin:/usr/bin:/bin \
  HASHLIGHT_CONFIG=/data/hashlight.toml PYTHONDONTWRITEBYTECODE=1 \
  setpriv --reuid=10001 --regid=10001 --clear-groups --no-new-privs \
  --bounding-set=-all "$@"
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_image_is_built_and_runs_locked_up(tmp_path: Path) -> None:
    """Every step of the Dockerfile by buildah, and the result without any right.

    `HASHLIGHT_TEST_IMAGE_BASE` names a local image with Python to build from, and
    `HASHLIGHT_TEST_COMPILER` its packages with a compiler and Python's headers.
    """
    base = os.environ.get("HASHLIGHT_TEST_IMAGE_BASE")
    if base is None or os.getuid() != 0:
        pytest.skip("needs root, and an image in HASHLIGHT_TEST_IMAGE_BASE")
    compiler = os.environ.get("HASHLIGHT_TEST_COMPILER", "gcc libc6-dev")
    buildah = [tool("buildah"), "--storage-driver", "vfs"]

    def run(*arguments: str) -> str:
        return subprocess.run(
            [*buildah, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    certificates = "/etc/ssl/certs/ca-certificates.crt"
    where = ["-f", str(DOCKERFILE), "-t", "hashlight-test", str(CHECKOUT)]
    arguments = [f"--build-arg=BASE={base}", f"--build-arg=COMPILER={compiler}"]
    trusted = ["-v", f"{certificates}:{certificates}:ro"]
    docker = ["--isolation", "chroot", "--format", "docker"]
    run("bud", *docker, *trusted, *arguments, *where)
    config = json.loads(run("inspect", "--type", "image", "hashlight-test"))
    assert config["Docker"]["config"]["User"] == f"{USER}:{USER}"
    container = run("from", "hashlight-test")
    try:
        _run_locked_up(run("mount", container), tmp_path)
    finally:
        run("rm", container)


def _run_locked_up(root: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    os.chown(data, USER, USER)
    environment = os.environ | {"ROOT": root, "DATA": str(data)}
    namespace = ["unshare", "--mount", "--propagation", "private", "bash", "-c", INSIDE]

    def inside(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*namespace, "inside", *command],
            check=False,
            capture_output=True,
            text=True,
            env=environment,
        )

    assert inside("touch", "/opt/hashlight/x").returncode != 0
    assert inside("id", "-u").stdout.strip() == str(USER)
    address = (f"http://127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")
    options = ("--name", "shield.example", "--base", address[0], "--local", address[1])
    made = inside("hashlight", "init", "/data", *options)
    assert made.returncode == 0, made.stderr
    command = [*namespace, "inside", "hashlight", "serve"]
    with (
        (tmp_path / "node.log").open("wb") as log,
        subprocess.Popen(command, env=environment, stderr=log) as node,
    ):
        try:
            give_up_at = time.monotonic() + 60
            check = ("python", "/opt/hashlight/deploy/container/healthcheck.py")
            while inside(*check, "/readyz").stdout != "/readyz: 200\n":
                assert node.poll() is None
                assert time.monotonic() < give_up_at
            status = Path(f"/proc/{node.pid}/status").read_text()
        finally:
            node.terminate()
    assert node.returncode == 0
    assert f"Uid:\t{USER}" in status
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
