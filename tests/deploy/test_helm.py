"""The chart passes Helm's lint, and what it renders is what Kubernetes takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml  # type: ignore[import-untyped]

from support.processes import python_path
from support.tools import CHECKOUT, package, tool

CHART = CHECKOUT / "deploy" / "helm" / "hashlight"
NODE = ("node.name=shield.example", "node.base=https://shield.example")
INGRESS = ("ingress.enabled=true", "ingress.host=shield.example")
EVERYTHING = (
    *NODE,
    *INGRESS,
    "init=true",
    "node.identity=shield.example+b49acc19+ATt7",
    "ingress.tlsSecret=tls",
    "ingress.className=nginx",
    "store.serviceSecret=store",
    "keys.passphraseSecret=passphrase",
    "authoritySecret=authority",
    "serviceMonitor.enabled=true",
    "settings.HASHLIGHT_MATCHING_PDQ_THRESHOLD=28",
    "persistence.storageClass=fast",
    "networkPolicy.localFrom[0].podSelector.matchLabels.app=uploads",
    "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.name=monitoring",
)
DEFINITIONS = "https://kubernetes.io/api/_definitions.json"
CASES = pytest.mark.parametrize("values", [NODE, EVERYTHING], ids=["least", "all"])
Objects = dict[tuple[str, str], dict[str, Any]]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tool("helm"), *arguments], check=False, capture_output=True, text=True
    )


def options(values: tuple[str, ...]) -> list[str]:
    # Texts are texts: `28` is given as an operator quotes it.
    return [
        part
        for value in values
        for part in ("--set-string" if "settings." in value else "--set", value)
    ]


def render(*values: str) -> Objects:
    done = helm("template", "shield", str(CHART), *options(values))
    assert done.returncode == 0, done.stderr
    found = [it for it in yaml.safe_load_all(done.stdout) if it]
    return {(it["kind"], it["metadata"]["name"]): it for it in found}


def pod(objects: Objects) -> dict[str, Any]:
    stateful = objects["StatefulSet", "shield-hashlight"]["spec"]
    assert stateful["replicas"] == 1
    spec: dict[str, Any] = stateful["template"]["spec"]
    return spec


@CASES
def test_helm_finds_nothing_to_criticise(values: tuple[str, ...]) -> None:
    done = helm("lint", "--strict", str(CHART), *options(values))
    assert done.returncode == 0, done.stdout + done.stderr


@CASES
@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_kubernetes_knows_every_field(values: tuple[str, ...], version: str) -> None:
    schemas = package("kubernetes_validate") / "kubernetes-json-schema"
    (folder,) = schemas.glob(f"v{version}.0*-strict")
    shared = json.loads((folder / "_definitions.json").read_text("utf-8"))
    registry = jsonschema_rs.Registry([(DEFINITIONS, shared)])
    checked = 0
    for (kind, _), value in render(*values).items():
        group, _, last = value["apiVersion"].rpartition("/")
        if "." in group and not group.endswith("k8s.io"):
            continue  # another's resource, which Kubernetes has no schema of
        names = [part for part in (group.split(".")[0], last) if part]
        file = folder / f"{'-'.join([kind.lower(), *names])}.json"
        schema = json.loads(file.read_text("utf-8"))
        validator = jsonschema_rs.validator_for(schema, registry=registry)
        assert [error.message for error in validator.iter_errors(value)] == [], kind
        assert not validator.is_valid(value | {"replica": 1}), kind
        checked += 1
    assert checked >= 5


@pytest.mark.parametrize(
    "values",
    [
        (),
        (NODE[0],),
        (NODE[0], "node.base=http://shield.example"),
        (NODE[0], "node.base=https://shield.example/path"),
        (*NODE, "replicas=2"),
        (*NODE, "settings.hashlight_wrong=x"),
        (*NODE, "image.digest=sha256:short"),
        (*NODE, *INGRESS),
    ],
)
def test_values_that_cannot_be_right_are_refused(values: tuple[str, ...]) -> None:
    done = helm("template", "shield", str(CHART), *options(values))
    assert done.returncode != 0
    assert "schema" in done.stderr


@CASES
def test_every_container_is_as_restricted_as_kubernetes_can_ask(
    values: tuple[str, ...],
) -> None:
    """What the Pod Security Standard `restricted` asks, and a read-only root."""
    spec = pod(render(*values))
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsUser"] == 10001
    for container in spec["containers"] + spec["initContainers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }


@CASES
def test_only_who_is_named_reaches_the_local_api(values: tuple[str, ...]) -> None:
    objects = render(*values)
    policy = objects["NetworkPolicy", "shield-hashlight"]["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    ports = [
        (port["port"], len(rule["from"]))
        for rule in policy["ingress"]
        for port in rule["ports"]
    ]
    assert ports == [("federation", 1)] + [("local", 2)] * (values == EVERYTHING)
    shown = [it for it in objects.values() if it["kind"] == "Ingress"]
    for ingress in shown:
        (rule,) = ingress["spec"]["rules"]
        paths = {path["path"] for path in rule["http"]["paths"]}
        assert paths == {"/hsf/v1", "/.well-known/hsf"}
        assert "local" not in json.dumps(ingress)


@CASES
def test_every_mount_has_a_volume_and_every_setting_a_section(
    values: tuple[str, ...],
) -> None:
    objects = render(*values)
    spec = pod(objects)
    claims = objects["StatefulSet", "shield-hashlight"]["spec"]["volumeClaimTemplates"]
    volumes = {it["name"] for it in spec["volumes"]}
    volumes |= {it["metadata"]["name"] for it in claims}
    used = {
        mount["name"]
        for container in spec["containers"] + spec["initContainers"]
        for mount in container["volumeMounts"]
    }
    assert used == volumes


def test_an_empty_volume_becomes_a_node_only_if_that_is_asked_for() -> None:
    def init(*values: str) -> str:
        (prepare,) = pod(render(*values))["initContainers"]
        return str({it["name"]: it["value"] for it in prepare["env"]}["INIT"])

    assert init(*NODE) == "false"
    assert init(*NODE, "init=true") == "true"


def test_the_init_container_makes_a_node_once_and_never_by_itself(
    tmp_path: Path,
) -> None:
    """Its very script, in a folder that stands for the volume."""
    program = tmp_path / "bin" / "hashlight"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hashlight_node "$@"\n')
    program.chmod(0o755)
    volume = tmp_path / "data"
    volume.mkdir()

    def prepare(*values: str) -> subprocess.CompletedProcess[str]:
        (container,) = pod(render(*NODE, *values))["initContainers"]
        (script,) = container["args"]
        given = {it["name"]: it["value"] for it in container["env"]}
        given["HASHLIGHT_CONFIG"] = str(volume / "node" / "hashlight.toml")
        path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            [*container["command"], script.replace("/data/", f"{volume}/")],
            check=False,
            capture_output=True,
            text=True,
            env=python_path() | given | {"PATH": path},
        )

    empty = prepare()
    assert empty.returncode == 1
    assert "the volume holds no node" in empty.stderr
    assert list(volume.iterdir()) == []

    made = prepare("init=true")
    assert made.returncode == 0, made.stderr
    assert "vkey      shield.example+" in made.stdout
    token = (volume / "node" / "admin.token").read_text()
    # The log of the container shows what may be seen, and the token may not.
    assert token.strip() not in made.stdout + made.stderr
    key = (volume / "node" / "keys" / "identity.key").read_bytes()

    for values in ((), ("init=true",)):
        again = prepare(*values)
        assert again.returncode == 0, again.stderr
        assert "schema is at revision" in again.stdout
    assert (volume / "node" / "keys" / "identity.key").read_bytes() == key
