"""The examples in docs/client.md run as they stand, in order, against a real node."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from support.pictures import PHOTOS
from support.processes import python_path

if TYPE_CHECKING:
    from hashlight_node.demo.company import Company

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "client.md"


def examples() -> list[str]:
    text = GUIDE.read_text("utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_every_example_of_the_guide_runs(company: Company, tmp_path: Path) -> None:
    (tmp_path / "upload.jpg").write_bytes(PHOTOS[0].read_bytes())
    records = [
        {
            "type": "indicator",
            "kind": "image",
            "source": "person",
            "created": "2026-11-01T00:00:00Z",
            "signals": [{"type": "md5", "value": value}],
        }
        for value in ("0123456789abcdef0123456789abcdef", f"{7:032x}")
    ]
    company.client.post("/v1/lists/ncii/records", {"records": records})
    env = python_path() | {"HASHLIGHT_TOKEN": company.client.token}
    said: list[str] = []
    for example in examples():
        assert "http://127.0.0.1:8441" in example
        here = example.replace("127.0.0.1:8441", company.client.address)
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", here],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            check=False,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, ""), example
        said.append(done.stdout)
    whole = os.linesep.join(said)
    assert "alpha.example/hsf/v1/log/ncii/1#1 says" in whole
    assert "1 of 200 are known" in whole
    assert "nobody was asked" in whole
    assert "dead" in whole
