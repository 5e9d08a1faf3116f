"""Calls the local API of a running node: what the command line and the demo use.

Synchronous and on the standard library, so that `hashlight --help` does not pay
for an HTTP stack. It talks to one address, the node's local listener, and never
follows a redirect.
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, object]

_JSON = "application/json"


class NodeUnreachableError(Exception):
    """Nothing answered at the node's local address.

    Attributes:
        address: Host and port that were tried.
    """

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"no node answers at {address} ({reason}); start it with `hashlight serve`"
        )
        self.address = address


class ProblemError(Exception):
    """The node refused the request and said why (RFC 9457).

    Attributes:
        status: HTTP status.
        code: Stable code of the problem, without the `hsf:` prefix.
        problem: The whole problem document.
    """

    def __init__(self, status: int, problem: Json) -> None:
        self.status = status
        self.problem = problem
        self.code = str(problem.get("type", "about:blank")).removeprefix("hsf:")
        title = problem.get("title", http.client.responses.get(status, "error"))
        detail = problem.get("detail")
        super().__init__(f"{title}: {detail}" if detail else str(title))


@dataclass(frozen=True, slots=True)
class LocalClient:
    """One node's local API.

    Attributes:
        address: `host:port` of the local listener.
        token: Bearer token; kept out of every message.
        timeout_seconds: Bound on one request.
    """

    address: str
    token: str
    timeout_seconds: float = 60.0

    def get(self, path: str) -> Json:
        """Fetch a JSON object.

        Raises:
            NodeUnreachableError: Nothing answered.
            ProblemError: The node answered with a problem.
        """
        return _as_object(self._exchange("GET", path, None, {}))

    def get_all(self, path: str, member: str) -> list[Json]:
        """Fetch every page of a list and join their `member` arrays."""
        rows: list[Json] = []
        cursor: object = None
        while True:
            query = f"?cursor={quote(str(cursor), safe='')}" if cursor else ""
            page = self.get(path + query)
            rows.extend(cast("list[Json]", page[member]))
            cursor = page.get("next_cursor")
            if not cursor:
                return rows

    def get_bytes(self, path: str) -> bytes:
        """Fetch a body as it is, such as a receipt."""
        return self._exchange("GET", path, None, {})

    def post(
        self,
        path: str,
        body: object,
        *,
        idempotency_key: str | None = None,
    ) -> Json:
        """Send a JSON body and return the JSON object of the answer."""
        headers = {"Content-Type": _JSON}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        # Without white space, which the node reads several times as fast.
        data = json.dumps(
            body, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ).encode()
        return _as_object(self._exchange("POST", path, data, headers))

    def post_bytes(self, path: str, body: bytes, *, content_type: str) -> Json:
        """Send a body as it is, such as a picture."""
        return _as_object(
            self._exchange("POST", path, body, {"Content-Type": content_type})
        )

    def delete(self, path: str) -> None:
        """Delete what a path names."""
        self._exchange("DELETE", path, None, {})

    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> bytes:
        host, _, port = self.address.rpartition(":")
        connection = http.client.HTTPConnection(
            host.strip("[]"), int(port), timeout=self.timeout_seconds
        )
        sent = {"Authorization": f"Bearer {self.token}", **headers}
        try:
            connection.request(method, path, body=body, headers=sent)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            reason = type(error).__name__
            raise NodeUnreachableError(self.address, reason) from error
        finally:
            connection.close()
        if answer.status >= http.client.BAD_REQUEST:
            raise ProblemError(answer.status, _problem_of(data))
        return data


def path_of(*segments: str) -> str:
    """Join path segments of the local API, each escaped whole (a ref has / and #)."""
    return "/v1/" + "/".join(quote(segment, safe="") for segment in segments)


def _as_object(data: bytes) -> Json:
    if not data:
        return {}
    return cast("Json", json.loads(data))


def _problem_of(data: bytes) -> Json:
    try:
        problem = json.loads(data)
    except ValueError:
        return {}
    return cast("Json", problem) if isinstance(problem, dict) else {}
