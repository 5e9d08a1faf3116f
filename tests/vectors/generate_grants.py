"""Make the vectors for grants and their scopes, written by hand from SPEC.md."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Run by path, the script finds the library and the helpers of the tests by itself.
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "protocol")]

from support.example_log import NODE, ORIGIN  # noqa: E402 -- the path has to be set first
from support.vectors import Case, bad, document, good  # noqa: E402

INDICATOR = {
    "type": "indicator",
    "signals": [
        {"type": "pdq", "value": "0f" * 32},
        {"type": "md5", "value": "0f" * 16},
    ],
    "kind": "image",
    "labels": [
        {"scheme": "ncmec", "value": "A1"},
        {"scheme": "iwf", "value": "A"},
    ],
    "source": "hotline",
    "created": "2026-01-01T00:00:00Z",
}
# An indicator, the same without labels, an opinion, a sighting, and one of later.
RECORDS = [
    json.dumps(record, separators=(",", ":"))
    for record in (
        INDICATOR,
        {name: INDICATOR[name] for name in INDICATOR if name != "labels"},
        {"type": "opinion", "ref": f"{ORIGIN}#1", "stance": "affirm", "signal": "pdq"},
        {
            "type": "sighting",
            "ref": "node.beta.example/hsf/v1/log/videos/1#1",
            "outcome": "matched",
            "count": 2,
            "first_at": "2026-01-01T00:00:00Z",
            "last_at": "2026-01-02T00:00:00Z",
        },
        {"type": "later"},
    )
]


def grants_text(*scopes: object) -> str:
    """Write the grants of lists a, b, …; a scope that is None is left out."""
    rows = [
        {
            "list": name,
            "id": f"{NODE}/hsf/v1/log/{name}",
            "granted": "2026-01-01T00:00:00Z",
        }
        | ({} if scope is None else {"scope": scope})
        for name, scope in zip("abcdefgh", scopes, strict=False)
    ]
    return json.dumps({"version": 4, "grants": rows}, separators=(",", ":"))


def grants() -> Iterator[Case]:
    everything, nothing = [True] * 5, [False] * 5
    for name, scope, shown in (
        ("the whole list", None, everything),
        ("one label", {"labels": ["ncmec:A1"]}, [True, *nothing[1:]]),
        ("any label of a scheme", {"labels": ["iwf:*"]}, [True, *nothing[1:]]),
        ("labels that begin so", {"labels": ["ncmec:A*"]}, [True, *nothing[1:]]),
        ("another label", {"labels": ["ncmec:A", "ncmec:B*"]}, nothing),
        ("no label", {"labels": []}, nothing),
        ("all types", {"signals": ["pdq", "md5"]}, [True, True, True, False, False]),
        ("one of two types", {"signals": ["pdq"]}, [False, False, True, False, False]),
        ("no type", {"signals": []}, nothing),
        ("about a node", {"about": NODE}, [False, False, True, False, False]),
        (
            "two criteria",
            {"labels": ["ncmec:*"], "signals": ["md5", "pdq"]},
            [True, *nothing[1:]],
        ),
        ("criteria that exclude", {"labels": ["ncmec:*"], "about": NODE}, nothing),
    ):
        yield good(
            name,
            node=NODE,
            grants=grants_text(scope),
            records=RECORDS,
            shows={f"{NODE}/hsf/v1/log/a": shown},
        )
    yield good("none", node=NODE, grants=grants_text(), records=[], shows={})
    a, b, c = (f"{NODE}/hsf/v1/log/{name}" for name in "abc")
    rows = json.loads(grants_text(None, None, None))
    for row, relay in zip(rows["grants"], (True, False, "true"), strict=True):
        row["relay"] = relay
    yield good(
        "permission to relay, and what is none",
        node=NODE,
        grants=json.dumps(rows),
        records=[],
        shows={a: [], b: [], c: []},
        relays=[a],
    )
    text = grants_text(None)
    for name, broken in (
        ("a scope without criteria", grants_text({})),
        ("a scope that is null", text.replace("}]}", ',"scope":null}]}')),
        ("a criterion that is not known", grants_text({"labels": [], "kinds": []})),
        ("a pattern without a scheme", grants_text({"labels": ["*"]})),
        ("a star within a pattern", grants_text({"labels": ["ncmec:*1"]})),
        ("a pattern twice", grants_text({"labels": ["iwf:A", "iwf:A"]})),
        ("65 patterns", grants_text({"labels": [f"x:{n}" for n in range(65)]})),
        ("a type in upper case", grants_text({"signals": ["PDQ"]})),
        ("about nobody", grants_text({"about": ""})),
        ("a list twice", grants_text(None, None).replace('b"', 'a"')),
        ("a list of another node", text.replace(NODE, "node.beta.example")),
        ("an id of another list", text.replace("log/a", "log/b")),
        ("a version that is none", text.replace(":4,", ':"4",')),
        ("a time of another form", text.replace("T00:00:00Z", "")),
    ):
        yield bad(name, "malformed", node=NODE, grants=broken)


def build() -> dict[str, str]:
    """Give the content of every file."""
    return {"grants.json": document("SPEC.md, section Scopes.", grants())}


if __name__ == "__main__":
    for file_name, content in build().items():
        (HERE / file_name).write_text(content, "utf-8")
