"""SPEC.md gives every error the status that the node answers with."""

import re
from pathlib import Path

from hashlight_node.api import problems

SPEC = (Path(__file__).resolve().parents[2] / "SPEC.md").read_text("utf-8")


def registry() -> dict[str, str]:
    """Give the text of each error by its code."""
    errors = re.search(r"^## Errors\n(.*?)^## ", SPEC, re.DOTALL | re.MULTILINE)
    assert errors
    return dict(re.findall(r"^### ([a-z-]+)\n\n(.*)$", errors[1], re.MULTILINE))


def test_every_problem_is_in_the_registry_with_its_status() -> None:
    known = [
        *problems.PROBLEMS.values(),
        *problems.IMAGE_PROBLEMS.values(),
        *map(problems.problem_for_status, range(400, 600)),
    ]
    texts = registry()
    for problem in known:
        assert str(problem.status) in texts[problem.code], problem.code


def test_the_registry_names_no_code_that_nothing_answers() -> None:
    known = {
        problem.code
        for problem in (
            *problems.PROBLEMS.values(),
            *problems.IMAGE_PROBLEMS.values(),
            *map(problems.problem_for_status, range(400, 600)),
        )
    }
    assert set(registry()) == known
