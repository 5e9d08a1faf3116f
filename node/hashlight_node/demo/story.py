"""The story, step by step. A step that does not hold ends the demo with code 1."""

from __future__ import annotations

import signal
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.console import Console
from rich.table import Table

from hashlight_node.demo.company import (
    Company,
    CompanyError,
    make_company,
    run_command,
)
from hashlight_node.demo.pictures import Photo, copies_of, load_photos
from hashlight_node.local_client import NodeUnreachableError, ProblemError, path_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from hashlight_node.local_client import Json

LIST = "ncii"
FEEDBACK = "feedback"
DEADLINE_SECONDS = 20.0
"""How long a step may take to show on another node before the demo says it failed."""

BETA_POLICY = f"""
# Beta blocks what the hotline's reviewers have seen; everything else is for people.
[[policy.rules]]
list = "shield.example/{LIST}"
review = "human"
handling = "block"
"""

_STYLES = {"block": "bold red", "review": "yellow", "ignore": "green"}
_EXIT_VERIFIED = 0
_EXIT_UNVERIFIED = 3


class StepFailedError(Exception):
    """What a step promised was not so; the message says what was seen."""


@dataclass
class Stage:
    """The companies and what has happened so far."""

    screen: Console
    directory: Path
    shield: Company
    alpha: Company
    beta: Company
    photos: tuple[Photo, ...]
    refs: list[str] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    erasure_seconds: float = 0.0

    @property
    def companies(self) -> tuple[Company, Company, Company]:
        """All three, the hotline first."""
        return (self.shield, self.alpha, self.beta)

    @property
    def platforms(self) -> tuple[Company, Company]:
        """The two that match uploads."""
        return (self.alpha, self.beta)

    @property
    def stranger(self) -> Photo:
        """The picture that nobody published."""
        return self.photos[-1]


def run_demo(*, leave: bool) -> int:
    """Tell the story on real nodes.

    Args:
        leave: End after the last step instead of leaving the nodes running.

    Returns:
        0 if every step held, 1 otherwise.
    """
    screen = Console(highlight=False)
    signal.signal(signal.SIGTERM, _raise_interrupt)
    with tempfile.TemporaryDirectory(prefix="hashlight-demo-") as directory:
        companies: list[Company] = []
        try:
            _tell(screen, Path(directory), companies, leave=leave)
        except KeyboardInterrupt:
            screen.print("\nstopping the nodes")
            return 0 if not leave else 1
        except (
            StepFailedError,
            CompanyError,
            NodeUnreachableError,
            ProblemError,
        ) as error:
            screen.print(f"✗ {error}", style="bold red", markup=False)
            return 1
        finally:
            for company in companies:
                company.stop()
    return 0


def _raise_interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _tell(
    screen: Console, directory: Path, companies: list[Company], *, leave: bool
) -> None:
    screen.rule("[bold]Hashlight: three companies, one shared list, with proof")
    with screen.status("making keys and databases"):
        policies = {"beta.example": BETA_POLICY}
        for name in ("shield.example", "alpha.example", "beta.example"):
            made = make_company(directory, name, policy=policies.get(name, ""))
            companies.append(made)
        for company in companies:
            company.start()
    shield, alpha, beta = companies
    stage = Stage(screen, directory, shield, alpha, beta, load_photos())
    for number, (title, step) in enumerate(STEPS, start=1):
        screen.print(f"\n[bold]{number}/{len(STEPS)}  {title}")
        step(stage)
    _summarise(stage)
    if not leave:
        screen.print("\nThe nodes keep running. Ctrl-C stops them and removes all.")
        while True:
            time.sleep(3600)


def _pin_peers(stage: Stage) -> None:
    for company in stage.companies:
        stage.screen.print(company.vkey, markup=False, soft_wrap=True)
    for platform in stage.platforms:
        for here, there in ((stage.shield, platform), (platform, stage.shield)):
            here.client.post("/v1/peers", {"base": there.base, "vkey": there.vkey})
    _held(stage, "each company pinned the others' keys")


def _share_list(stage: Stage) -> None:
    made = stage.shield.client.post("/v1/lists", {"name": LIST})
    for platform in stage.platforms:
        wish = {"peer": platform.name, "list": LIST}
        stage.shield.client.post("/v1/grants", wish)
        wish = {"peer": stage.shield.name, "list": LIST}
        platform.client.post("/v1/follows", wish)
    stage.screen.print(f"log   {made['origin']}", soft_wrap=True)
    stage.screen.print(f"vkey  {made['vkey']}", markup=False, soft_wrap=True)
    _held(stage, "the hotline's list is granted to both platforms, which follow it")


def _publish(stage: Stage) -> None:
    from hashlight_node.matching.image import hash_image  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("photograph", "PDQ", "alpha after", "beta after"):
        table.add_column(column, justify="right" if "after" in column else "left")
    with stage.screen.status("publishing, one at a time"):
        for photo in stage.photos[:-1]:
            signals = hash_image(photo.data)
            claims: list[Json] = [
                {"type": "pdq", "value": signals.pdq, "quality": signals.quality},
                {"type": "md5", "value": signals.md5},
                {"type": "sha256", "value": signals.sha256},
            ]
            started = time.monotonic()
            stage.refs.append(_publish_one(stage.shield, claims))
            query: Json = {"type": "sha256", "value": signals.sha256}
            seconds = [
                _until_known(platform, query, started) for platform in stage.platforms
            ]
            stage.arrivals.extend(seconds)
            shown = (f"{value * 1000:.0f} ms" for value in seconds)
            table.add_row(photo.name, f"{signals.pdq[:16]}…", *shown)
    stage.screen.print(table)
    _held(stage, "every photograph's hashes became matchable on both platforms")


def _publish_one(owner: Company, claims: list[Json]) -> str:
    record: Json = {
        "type": "indicator",
        "kind": "image",
        "signals": claims,
        "labels": [{"scheme": "ncii", "value": "adult"}],
        "source": "person",
        "review": {"level": "human", "reviewers": 2},
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    answer = owner.client.post(path_of("lists", LIST, "records"), {"records": [record]})
    return cast("list[str]", answer["refs"])[0]


def _until_known(platform: Company, query: Json, started: float) -> float:
    def known() -> bool:
        return bool(_matches(platform, query))

    _wait(known, f"{platform.name} knows the record")
    return time.monotonic() - started


def _matches(platform: Company, query: Json) -> list[Json]:
    answer = platform.client.post("/v1/lookup", {"queries": [query]})
    (result,) = cast("list[Json]", answer["results"])
    return cast("list[Json]", result["matches"])


def _look_up_copies(stage: Stage) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("upload at beta", "distance", "known from", "handling"):
        table.add_column(column)
    photo = stage.photos[0]
    for change, data in copies_of(photo):
        _add_upload(table, stage.beta, f"{photo.name}, {change}", data, known=True)
    stranger = stage.stranger
    name = f"{stranger.name}, unrelated"
    _add_upload(table, stage.beta, name, stranger.data, known=False)
    stage.screen.print(table)
    _held(stage, "copies are found, the unrelated picture is not")


def _add_upload(
    table: Table, platform: Company, name: str, data: bytes, *, known: bool
) -> None:
    path = "/v1/lookup/image"
    answer = platform.client.post_bytes(path, data, content_type="image/jpeg")
    results = cast("list[Json]", answer["results"])
    pdq = next(row for row in results if cast("Json", row["query"])["type"] == "pdq")
    matches = cast("list[Json]", pdq["matches"])
    if bool(matches) != known:
        message = f"{name}: {len(matches)} matches at {platform.name}"
        raise StepFailedError(message)
    handling = str(pdq["handling"])
    if not matches:
        table.add_row(name, "", "nobody", handling, style=_STYLES[handling])
        return
    nearest = min(matches, key=lambda match: cast("int", match["distance"]))
    (record, *_) = cast("list[Json]", nearest["records"])
    distance = f"{nearest['distance']} of {nearest['threshold']}"
    source = f"{record['origin_node']} ({record['source']})"
    table.add_row(name, distance, source, handling, style=_STYLES[handling])


def _dispute(stage: Stage) -> None:
    disputed = stage.refs[2]
    stage.alpha.client.post(
        "/v1/opinions",
        {"ref": disputed, "stance": "dispute", "reason": "not-violating"},
    )
    wish = {"peer": stage.shield.name, "list": FEEDBACK}
    stage.alpha.client.post("/v1/grants", wish)
    wish = {"peer": stage.alpha.name, "list": FEEDBACK}
    stage.shield.client.post("/v1/follows", wish)

    def seen() -> bool:
        record = stage.shield.client.get(path_of("records", disputed))
        return record["opinion"] == "disputed"

    _wait(seen, "the hotline sees the dispute")
    record = stage.shield.client.get(path_of("records", disputed))
    for opinion in cast("list[Json]", record["opinions"]):
        stage.screen.print(
            f"{opinion['node']}: {opinion['stance']} ({opinion['reason']}) "
            f"{stage.photos[2].name}; folded: {record['opinion']}"
        )
    _held(stage, "alpha's dispute, from its own feedback list, reached the hotline")


def _erase(stage: Stage) -> None:
    from hashlight_node.matching.image import hash_image  # noqa: PLC0415

    erased, photo = stage.refs[0], stage.photos[0]
    signals = hash_image(photo.data)
    started = time.monotonic()
    stage.shield.client.post(
        path_of("lists", LIST, "erase"), {"ref": erased, "reason": "withdrawn"}
    )
    queries: list[Json] = [
        {"type": "pdq", "value": signals.pdq},
        {"type": "sha256", "value": signals.sha256},
    ]
    for platform in stage.platforms:
        for query in queries:
            _wait(
                lambda at=platform, asked=query: not _matches(at, asked),  # type: ignore[misc]
                f"{platform.name} stops matching",
            )
    stage.erasure_seconds = time.monotonic() - started

    def acknowledged() -> bool:
        rows = _erasure_rows(stage, erased)
        return all(row["state"] == "acknowledged" for row in rows) and len(rows) == len(
            stage.platforms
        )

    _wait(acknowledged, "both platforms acknowledge the erasure by signature")
    for row in _erasure_rows(stage, erased):
        stage.screen.print(
            f"{row['peer']}: signed at {row['acknowledged_at']}, "
            f"everything applied up to size {row['tree_size']}"
        )
    said = (
        f"nobody matches {photo.name} any more, {stage.erasure_seconds * 1000:.0f} ms"
    )
    _held(stage, f"{said} after the person asked; both signed for it")


def _erasure_rows(stage: Stage, ref: str) -> list[Json]:
    answer = stage.shield.client.get(path_of("records", ref, "erasure"))
    return cast("list[Json]", answer["peers"])


def _prove(stage: Stage) -> None:
    proof = stage.beta.client.get_bytes(path_of("records", stage.refs[1], "receipt"))
    vkey = str(stage.shield.client.get(path_of("lists", LIST))["vkey"])
    file = stage.directory / "record.tlog-proof"
    _expect_verify(stage, file, proof, vkey, _EXIT_VERIFIED)
    _held(stage, "the receipt verifies offline, with nothing but the file and the key")
    tampered = bytearray(proof)
    tampered[len(tampered) // 2] ^= 0x01
    _expect_verify(stage, file, bytes(tampered), vkey, _EXIT_UNVERIFIED)
    _held(stage, "with one bit of it changed, it is refused")


def _expect_verify(
    stage: Stage, file: Path, proof: bytes, vkey: str, expected: int
) -> None:
    file.write_bytes(proof)
    done = run_command("verify", str(file), "--vkey", vkey)
    said = (done.stdout or done.stderr).decode(errors="replace").splitlines()
    stage.screen.print(f"$ hashlight verify {file.name} --vkey …")
    stage.screen.print(f"  {said[0] if said else ''}", markup=False, soft_wrap=True)
    if done.returncode != expected:
        message = f"verify ended with {done.returncode}, not with {expected}"
        raise StepFailedError(message)


def _wait(condition: Callable[[], bool], what: str) -> None:
    give_up_at = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > give_up_at:
            message = f"after {DEADLINE_SECONDS:.0f} s it is still not so: {what}"
            raise StepFailedError(message)
        time.sleep(0.005)


def _held(stage: Stage, what: str) -> None:
    stage.screen.print(f"[green]✓[/green] {what}")


def _summarise(stage: Stage) -> None:
    arrivals = sorted(stage.arrivals)
    median = arrivals[len(arrivals) // 2] * 1000
    stage.screen.rule("[bold]Every step held")
    stage.screen.print(
        f"publish to matchable on a peer: median {median:.0f} ms, "
        f"slowest {arrivals[-1] * 1000:.0f} ms ({len(arrivals)} arrivals)"
    )
    for company in stage.companies:
        token = company.directory / "admin.token"
        stage.screen.print(
            f"{company.name:15} {company.docs_url}  token: {token}", soft_wrap=True
        )


STEPS: tuple[tuple[str, Callable[[Stage], None]], ...] = (
    ("The operators exchange keys", _pin_peers),
    ("The hotline opens a list and grants it", _share_list),
    ("The hotline publishes, the platforms can match", _publish),
    ("Copies are uploaded to beta", _look_up_copies),
    ("Alpha disputes a record", _dispute),
    ("A person withdraws: the record is erased everywhere", _erase),
    ("Anybody can check, offline", _prove),
)
