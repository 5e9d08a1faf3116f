"""SPEC.md and the code name the same things."""

import re
from pathlib import Path
from types import ModuleType

import hashlight_protocol
from hashlight_node.api import problems
from hashlight_protocol import ProtocolError

CHECKOUT = Path(__file__).resolve().parents[2]
SPEC = (CHECKOUT / "SPEC.md").read_text("utf-8")
SOURCES = sorted(
    path
    for folder in ("protocol", "node", "migrations", "tests", "docs", "benchmarks")
    for pattern in ("*.py", "*.md")
    for path in (CHECKOUT / folder).rglob(pattern)
) + sorted(CHECKOUT.glob("*.md"))


def headings() -> list[tuple[int, str]]:
    """Give level and text of every heading of SPEC.md, in order."""
    prose = re.sub(r"^```.*?^```", "", SPEC, flags=re.DOTALL | re.MULTILINE)
    return [
        (len(marks), text.strip())
        for marks, text in re.findall(r"^(#{1,6}) (.+)$", prose, re.MULTILINE)
    ]


def anchor(heading: str) -> str:
    """Name the anchor that a heading gets where the document is shown."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors() -> set[str]:
    return {anchor(text) for _, text in headings()} | set(
        re.findall(r'<a (?:id|name)="([^"]+)"', SPEC)
    )


def error_codes_in_spec() -> set[str]:
    """Give the headings below the heading `Errors`, number and backticks removed."""
    codes: set[str] = set()
    level_of_errors = 0
    for level, text in headings():
        title = re.sub(r"^[\d.]+ ", "", text)
        if level_of_errors and level <= level_of_errors:
            level_of_errors = 0
        if level_of_errors:
            codes.add(title.strip("`"))
        if title.lower().startswith("error"):
            level_of_errors = level
    return codes


def subclasses(kind: type[ProtocolError]) -> set[type[ProtocolError]]:
    direct = set(kind.__subclasses__())
    return direct.union(*(subclasses(each) for each in direct))


def test_every_cited_anchor_exists() -> None:
    cited = {
        (name, path.relative_to(CHECKOUT).as_posix())
        for path in SOURCES
        for name in re.findall(r"SPEC\.md#([\w-]+)", path.read_text("utf-8"))
    }

    assert cited
    assert {(name, path) for name, path in cited if name not in anchors()} == set()


def test_no_two_headings_share_an_anchor() -> None:
    names = [anchor(text) for _, text in headings()]

    assert sorted(names) == sorted(set(names))


def test_every_protocol_error_has_a_heading() -> None:
    codes = {kind.code for kind in subclasses(ProtocolError)}

    assert codes - error_codes_in_spec() == set()


def problem_codes() -> set[str]:
    """Give every code that `api/problems.py` can answer with."""
    written_out = re.findall(
        r'\bProblem\(\s*\d{3},\s*"([a-z-]+)"',
        Path(problems.__file__).read_text("utf-8"),
    )
    return {problem.code for problem in problems.PROBLEMS.values()}.union(written_out)


def test_every_problem_of_the_apis_has_a_heading() -> None:
    assert problem_codes() - error_codes_in_spec() == set()


def test_every_error_in_the_specification_can_happen() -> None:
    assert error_codes_in_spec() - problem_codes() == set()


def test_every_protocol_error_has_one_status() -> None:
    answered = {kind for kind in problems.PROBLEMS if issubclass(kind, ProtocolError)}

    assert answered == subclasses(ProtocolError)


def test_no_two_protocol_errors_share_a_code() -> None:
    codes = [kind.code for kind in subclasses(ProtocolError)]

    assert sorted(codes) == sorted(set(codes))


def test_the_title_names_the_version() -> None:
    assert hashlight_protocol.SPEC_VERSION in SPEC.splitlines()[0]


def test_all_is_what_the_protocol_exports() -> None:
    public = {
        name
        for name, value in vars(hashlight_protocol).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }

    assert set(hashlight_protocol.__all__) == public


def test_the_words_of_bcp_14_are_introduced() -> None:
    assert "BCP 14" in SPEC
