"""Requests made from the OpenAPI document, good and bad, against a running node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from hashlight_node.api.local.application import OPERATIONS
from hashlight_node.demo.company import Company, make_company

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = 12

# It calls whatever host the request names; test_peering has it.
CALLS_OTHERS = {"add_peer"}

# A schema cannot say all: hexadecimal digits of the right number, times in order.
UNSAID = {"positive_data_acceptance"}

# It answers for as long as somebody listens; test_changes has it.
ENDLESS = {"follow_changes"}

NAMES = [it.name for it in OPERATIONS if it.name not in CALLS_OTHERS | ENDLESS]


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """Run a node in a process of its own; hypothesis minds what shares its own."""
    made = make_company(tmp_path_factory.mktemp("node"), "alpha.example")
    made.start()
    made.client.post("/v1/lists", {"name": "ncii"})
    yield made
    made.stop()
    assert "mistake of ours" not in made.log_file.read_text()


@pytest.fixture(scope="module")
def served(company: Company) -> tuple[Any, str]:
    base = f"http://{company.client.address}"
    schema = schemathesis.openapi.from_url(f"{base}/v1/openapi.json")
    schema.validate()
    # Not the first token, which a made-up request is likely to revoke.
    asked = {"label": "schemathesis", "scopes": ["admin"]}
    made = [company.client.post("/v1/tokens", asked) for _ in range(9)]
    return schema, str(made[-1]["token"])


@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
@pytest.mark.parametrize("name", NAMES)
def test_every_answer_is_one_that_the_document_describes(
    served: tuple[Any, str], name: str, mode: GenerationMode
) -> None:
    schema, token = served
    operation = schema.find_operation_by_id(name)
    wanted = [it for it in CHECKS.get_all_names() if it not in UNSAID]
    headers = {"Authorization": f"Bearer {token}"}
    seen: set[int] = set()

    @settings(
        max_examples=EXAMPLES,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:  # noqa: ANN401 -- schemathesis makes its class
        with requests.Session() as session:
            answer = case.call(session=session, headers=headers, timeout=20)
            seen.add(answer.status_code)
            case.validate_response(
                answer, checks=CHECKS.get_by_names(wanted), headers=headers
            )

    try:
        check()
    except schemathesis.errors.InvalidSchema:
        pytest.skip("nothing of this operation can be wrong")
    assert max(seen) < 500
