"""Three companies in containers: what they may reach, and what they may not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from sqlalchemy.engine import make_url

from hashlight_node.demo.company import run_command
from hashlight_node.store.backends import backend_of
from support.stores import empty_postgresql
from support.tools import CHECKOUT, package, tool

DEPLOY = CHECKOUT / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
COMPANIES = ("shield", "alpha", "beta")
SCHEMA_CHECK = """
import sys
sys.path.append(sys.argv[2])
import compose_spec
read = compose_spec.PyCompose.from_yaml(open(sys.argv[1]).read())
read.validate()
read.to_spec()
"""


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = document()["services"]
    return found


def document() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text("utf-8"))
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run prepare.sh in a copy, as an operator would in a checkout."""
    copy = tmp_path_factory.mktemp("deploy")
    for folder in ("compose", "nginx"):
        skip = shutil.ignore_patterns("made")
        shutil.copytree(DEPLOY / folder, copy / folder, ignore=skip)
    prepare(copy)
    return copy / "compose" / "made"


def prepare(copy: Path) -> None:
    subprocess.run(["/bin/sh", str(copy / "compose" / "prepare.sh")], check=True)


def test_the_file_is_one_of_the_compose_specification(tmp_path: Path) -> None:
    packages = package("compose_spec").parent
    # Merge keys are YAML's, and this reader does not know them everywhere.
    merged = tmp_path / "compose.yaml"
    merged.write_text(yaml.safe_dump(document()))
    command = [sys.executable, "-c", SCHEMA_CHECK, str(merged), str(packages)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", services())
def test_every_container_is_locked_up(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "cap_add" not in service
    # Nothing is reached from outside of the machine unless somebody decides it.
    assert "ports" not in service
    assert {"mem_limit", "pids_limit"} <= service.keys()


@pytest.mark.parametrize("name", services())
def test_images_of_others_have_a_version(name: str) -> None:
    image = services()[name]["image"]
    assert image == "hashlight" or re.search(r":[0-9]+\.[0-9]+", image)


@pytest.mark.parametrize("company", COMPANIES)
def test_a_company_reaches_the_proxies_of_others_and_nothing_behind(
    company: str,
) -> None:
    found, networks = services(), document()["networks"]
    assert networks[company]["internal"] is True
    members = {name for name, it in found.items() if company in it["networks"]}
    assert members == {company, f"{company}-database", f"{company}-proxy"}
    assert set(found[f"{company}-database"]["networks"]) == {company}
    # The node is in the common network to call others, and does not listen there.
    address = found[company]["networks"][company]["ipv4_address"]
    environment = found[company]["environment"]
    for listener in ("FEDERATION", "LOCAL"):
        host, _ = environment[f"HASHLIGHT_{listener}_LISTEN"].rsplit(":", 1)
        assert host == address
    assert address.startswith(
        networks[company]["ipam"]["config"][0]["subnet"].removesuffix("0/24")
    )


def test_no_secret_is_written_into_the_file_or_the_environment() -> None:
    text = COMPOSE.read_text("utf-8").lower()
    for service in services().values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"password|secret|token", name, re.IGNORECASE):
                assert name.endswith("_FILE")
                assert value.startswith("/run/secrets/")
    assert not re.search(r"://[^/\s]*:[^/\s]*@", text)


def test_everything_the_file_refers_to_is_made(made: Path) -> None:
    found = document()
    files = [
        it["file"] for kind in ("secrets", "configs") for it in found[kind].values()
    ]
    assert len(files) == 1 + 5 * len(COMPANIES)
    for file in files:
        # Containers' users read it; the folder keeps everybody else out.
        assert (made / Path(file).name).stat().st_mode & 0o777 == 0o644
    assert made.stat().st_mode & 0o777 == 0o700
    assert (made / "authority.key").stat().st_mode & 0o777 == 0o600


def test_nothing_is_made_twice(made: Path) -> None:
    before = {file.name: file.read_bytes() for file in made.iterdir()}
    prepare(made.parents[1])
    assert {file.name: file.read_bytes() for file in made.iterdir()} == before


def test_certificates_are_by_the_authority_and_for_the_names(made: Path) -> None:
    for company in COMPANIES:
        command = ["openssl", "verify", "-CAfile", str(made / "authority.pem")]
        named = ["-verify_hostname", f"{company}.example", "-purpose", "sslserver"]
        subprocess.run(
            [*command, *named, str(made / f"{company}.pem")],
            check=True,
            capture_output=True,
        )


@pytest.mark.parametrize("company", COMPANIES)
def test_nginx_takes_what_was_made_for_a_proxy(
    company: str, made: Path, tmp_path: Path
) -> None:
    text = (made / f"{company}.conf").read_text("utf-8")
    assert f"server_name {company}.example;" in text
    assert "node.example" not in text.replace(f"{company}.example", "")
    for secret, file in (("certificate", "pem"), ("key", "key")):
        assert f"/run/secrets/{secret};" in text
        text = text.replace(f"/run/secrets/{secret}", str(made / f"{company}.{file}"))
    (tmp_path / "default.conf").write_text(text)
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"pid {tmp_path}/pid; events {{}} http {{ include {tmp_path}/default.conf; }}"
    )
    log = str(tmp_path / "log")
    command = [tool("nginx"), "-t", "-e", log, "-c", str(config)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def service_file(tmp_path: Path) -> tuple[str, Path]:
    """Give a database and a file that says where it is, as prepare.sh writes one."""
    url = make_url(empty_postgresql("deploy_service"))
    host = str(url.host or url.query["host"])
    file = tmp_path / "service"
    lines = [f"host={host}", f"user={url.username}", f"password={url.password or 'x'}"]
    lines += [f"port={url.port}"] if url.port else []
    file.write_text("\n".join(["[hashlight]", *lines, ""]))
    return str(url.database), file


def test_a_node_finds_its_database_in_the_service_file(
    service_file: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, file = service_file
    url = document()["x-node-environment"]["HASHLIGHT_STORE_URL"]
    assert "?service=hashlight" in url
    url = f"postgresql:///{database}?{url.split('?')[1]}"
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    monkeypatch.setenv("HASHLIGHT_STORE_URL", url)
    options = ("--name", "shield.example", "--base", "https://shield.example:8443")
    done = run_command("init", str(tmp_path / "node"), *options)
    assert done.returncode == 0, done.stderr
    assert backend_of(url).exists()
    assert not list((tmp_path / "node").glob("*.db"))


def test_what_is_made_is_not_committed() -> None:
    git = shutil.which("git")
    if git is None or not (CHECKOUT / ".git").exists():
        pytest.skip("this is no checkout of git")
    path = os.fspath(DEPLOY / "compose" / "made" / "shield.key")
    subprocess.run([git, "check-ignore", "-q", path], check=True, cwd=CHECKOUT)
