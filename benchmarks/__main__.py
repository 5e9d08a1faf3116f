"""Measures this machine: `make bench`, or some sections with `python -m benchmarks`.

    python -m benchmarks                          everything, writes docs/benchmarks.md
    python -m benchmarks --quick                  a few minutes, to see that it works
    python -m benchmarks index --size 1m          one section, one size
    python -m benchmarks report                   the tables of what was measured last

Every section is a process of its own, and every result is on disk before the next
thing is measured: whatever fails or is interrupted costs no more than itself.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NoReturn

from benchmarks import (
    crowding,
    curves,
    five_peers,
    index,
    ingest,
    over_http,
    publish,
    scanning,
    static,
    syncing,
    updates,
)
from benchmarks.measuring import machine
from benchmarks.options import QUICK_SIZES, SIZES, Options, parse_size
from benchmarks.report import placed, report
from benchmarks.results import Results
from hashlight_node.matching.index import kernel_name

SECTIONS: Final = {
    "crowding": crowding.run,
    "index": index.run,
    "updates": updates.run,
    "curves": curves.run,
    "http": over_http.run,
    "publish": publish.run,
    "sync": syncing.run,
    "static": static.run,
    "ingest": ingest.run,
    "five-peers": five_peers.run,
    "scan": scanning.run,
}

_CHECKOUT: Final = Path(__file__).resolve().parents[1]
_BUILD: Final = _CHECKOUT / "build" / "bench"
_DOCUMENT: Final = _CHECKOUT / "docs" / "benchmarks.md"
_KEPT: Final = _CHECKOUT / "docs" / "benchmarks.jsonl"
_IMAGES: Final = _CHECKOUT / "docs" / "images"
_SECTION_SECONDS: Final = 3 * 3600
_HEADING: Final = "\n=== {} ==="


def main() -> int:
    """Run what the command line names; 1 if a section failed."""
    arguments = _parse()
    signal.signal(signal.SIGTERM, _end)
    results = Results(arguments.results)
    if arguments.inside:
        (section,) = arguments.sections
        SECTIONS[section](_options(arguments), results)
        return 0
    sections = arguments.sections or list(SECTIONS)
    if not arguments.sections:
        results.begin_anew()
    failed = []
    if sections != ["report"]:
        results.add("machine", _machine())
        failed = [name for name in sections if not _run(name, arguments)]
    _publish(results, is_documented=arguments.docs)
    for name in failed:
        print(f"!! section {name} FAILED; its reason stands above", file=sys.stderr)
    return 1 if failed else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sections", nargs="*", help=", ".join([*SECTIONS, "report"]))
    parser.add_argument("--size", type=parse_size, action="append", metavar="10m")
    parser.add_argument("--everybody", action="store_true", help="slow peers at 10 M")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--docs",
        action=argparse.BooleanOptionalAction,
        help="write docs/benchmarks.md (default: only when everything is run)",
    )
    parser.add_argument("--results", type=Path)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for name in arguments.sections:
        if name not in {*SECTIONS, "report"}:
            parser.error(f"there is no section {name}")
    if arguments.docs is None:
        arguments.docs = not (arguments.sections or arguments.quick or arguments.size)
    if arguments.results is None:
        name = "quick.jsonl" if arguments.quick else "results.jsonl"
        arguments.results = _BUILD / name
    return arguments


def _options(arguments: argparse.Namespace) -> Options:
    usual = QUICK_SIZES if arguments.quick else SIZES
    return Options(
        sizes=tuple(sorted(arguments.size or usual)),
        everybody=arguments.everybody,
        quick=arguments.quick,
        data=_BUILD / "data",
    )


def _run(name: str, arguments: argparse.Namespace) -> bool:
    """Run one section as a process; says whether it came to its end."""
    print(_HEADING.format(name), flush=True)
    started = time.monotonic()
    command = [sys.executable, "-m", "benchmarks", name, "--inside"]
    command += ["--results", str(arguments.results)]
    command += [f"--size={size}" for size in arguments.size or ()]
    command += ["--quick"] if arguments.quick else []
    command += ["--everybody"] if arguments.everybody else []
    process = subprocess.Popen(command, cwd=_CHECKOUT)
    try:
        code = process.wait(_SECTION_SECONDS)
    except subprocess.TimeoutExpired:
        code = 1
    finally:
        # It ends what it has started: nodes, servers, contestants.
        process.terminate()
        process.wait()
    print(f"  {name}: {time.monotonic() - started:.0f} s", flush=True)
    return code == 0


def _end(*_: object) -> NoReturn:
    """Leave in order when told to, so that nothing that was started stays behind."""
    raise SystemExit(1)


def _machine() -> dict[str, object]:
    load = os.getloadavg()[0]
    if load > 1:
        print(f"!! others keep this machine busy (load {load:.1f}): figures will vary")
    return {
        **machine(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "what": " ".join(["python -m benchmarks", *sys.argv[1:]]),
        "load": load,
        "kernel": kernel_name(),
    }


def _publish(results: Results, *, is_documented: bool) -> None:
    rows = results.read()
    measured = report(rows)
    print(f"\n{measured}")
    if not is_documented:
        return
    document = _DOCUMENT.read_text("utf-8")
    _DOCUMENT.write_text(placed(document, measured), "utf-8")
    results.keep(_KEPT)
    if find_spec("matplotlib") is None:
        print("!! matplotlib is not installed: plots are those of an earlier run")
    else:
        from benchmarks.plots import draw  # noqa: PLC0415  not installed everywhere

        draw(rows, _IMAGES)
    print(f"written: {_DOCUMENT.relative_to(_CHECKOUT)}, plots, and the raw results")


if __name__ == "__main__":
    raise SystemExit(main())
