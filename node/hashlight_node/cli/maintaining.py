"""Commands about the store itself: backup, restore, fsck. They need no running node."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hashlight_node.cli.session import (
    DEFAULT_CONFIG,
    EXIT_FAILED,
    EXIT_UNVERIFIED,
    CommandError,
    ConfigOption,
    JsonOption,
    emit,
    read_settings,
    reported,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from hashlight_node.app.backups import Checked, Guarded
    from hashlight_node.config import Settings
    from hashlight_node.exchange.operating.fsck_findings import Damage, Findings
    from hashlight_node.exchange.operating.healing import Healed
    from hashlight_node.local_client import Json


def _now() -> int:
    return int(time.time())


@contextmanager
def _told() -> Iterator[None]:
    from hashlight_node.keys import KeyFileError
    from hashlight_node.last_signed import LastSignedError
    from hashlight_node.store.errors import StoreError

    try:
        yield
    except (KeyFileError, LastSignedError, StoreError) as error:
        raise CommandError(str(error)) from error


def backup(
    target: Annotated[
        Path, typer.Argument(metavar="FILE_OR_DIR", help="A new file, or where to.")
    ],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Copy the store, whole and consistent, while the node runs. Never the keys."""
    with reported(as_json=as_json), _told():
        from hashlight_node.app.backups import make_backup

        file, manifest = make_backup(read_settings(config), target, _now)

        def render(out: Console) -> None:
            out.print(f"{file}", markup=False, soft_wrap=True)
            out.print(f"  {manifest.bytes:,} bytes, sha256 {manifest.sha256}")
            for log in manifest.logs:
                out.print(f"  {log.origin} at {log.size:,}", markup=False)
            out.print("The keys are not in it: keep them apart, and encrypted.")

        answer: Json = {"path": str(file), **asdict(manifest)}
        emit(answer, as_json=as_json, render=render)


def restore(
    file: Annotated[Path, typer.Argument(help="What `hashlight backup` wrote.")],
    check: Annotated[
        bool, typer.Option("--check", help="Verify all of it and change nothing.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also if the store there is not empty.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Put a backup in the place of the store. Exit 3: the backup is damaged."""
    with reported(as_json=as_json), _told():
        settings = read_settings(config)
        if check:
            _check(settings, file, as_json=as_json)
            return
        _restore(settings, file, replace=replace, as_json=as_json)


def _check(settings: Settings, file: Path, *, as_json: bool) -> None:
    from hashlight_node.app.backups import check_backup

    checked = asyncio.run(check_backup(settings, file))
    is_clean = checked.findings.is_clean

    def render(out: Console) -> None:
        _print_checked(out, checked)
        _print_guard(out, checked.guard)

    answer: Json = {
        **asdict(checked.manifest),
        "clean": is_clean,
        **_shown(checked.findings),
        "guard": [asdict(one) for one in checked.guard],
    }
    emit(answer, as_json=as_json, render=render)
    if not is_clean:
        raise typer.Exit(EXIT_UNVERIFIED)


def _restore(settings: Settings, file: Path, *, replace: bool, as_json: bool) -> None:
    from hashlight_node.app.backups import foresee
    from hashlight_node.app.backups import restore as put_back
    from hashlight_node.store import logs
    from hashlight_node.store.database import Reader

    manifest = put_back(settings, file, replace=replace)

    async def look() -> tuple[Guarded, ...]:
        from hashlight_node.store.errors import SchemaError

        try:
            database = Reader.open_reader(settings.store.url)
        except SchemaError:
            return ()
        try:
            return foresee(settings, await database.read(logs.list_logs))
        finally:
            await database.close()

    guard = asyncio.run(look())

    def render(out: Console) -> None:
        out.print(f"the store is what it was in {file}", markup=False, soft_wrap=True)
        _print_guard(out, guard)
        from hashlight_node.store.tables import SCHEMA_REVISION

        if manifest.schema != SCHEMA_REVISION:
            out.print("Next: hashlight migrate")
        out.print("Next: start the node, then hashlight status")
        if any(one.needs_recovery for one in guard):
            out.print("Then: hashlight recover")

    answer: Json = {
        **asdict(manifest),
        "guard": [asdict(one) for one in guard],
        "needs_recovery": any(one.needs_recovery for one in guard),
    }
    emit(answer, as_json=as_json, render=render)


def fsck(
    heal: Annotated[
        bool, typer.Option("--heal", help="Mend it, with what peers have. Stop first.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Hash every stored byte again. Exit 0: all is well; 3: there is damage."""
    with reported(as_json=as_json), _told():
        settings = read_settings(config)
        if heal:
            healed = asyncio.run(_heal(settings))
            found, answer = healed.after, _shown_healed(healed)
        else:
            found = asyncio.run(_look(settings))
            answer = {"clean": found.is_clean, **_shown(found)}

        def render(out: Console) -> None:
            if heal:
                _print_findings(out, healed.before)
                out.print(f"mended in {healed.rounds} rounds; now:")
                for problem in healed.problems:
                    out.print(problem, style="yellow", markup=False, soft_wrap=True)
            _print_findings(out, found)

        emit(answer, as_json=as_json, render=render)
        if not found.is_clean:
            raise typer.Exit(EXIT_UNVERIFIED)


def doctor(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Look for what commonly goes wrong, node running or not. Exit 1: something is."""
    from hashlight_node.cli.examination import Found, Mark, examine
    from hashlight_node.config import SettingsError

    with reported(as_json=as_json):
        try:
            settings = read_settings(config)
        except SettingsError as error:
            advice = "deploy/hashlight.example.toml explains every setting"
            found = [
                Found("configuration", Mark.FAIL, problem, advice)
                for problem in error.problems
            ]
        else:
            found = asyncio.run(examine(settings, config, _now))
        rows: list[Json] = [{**asdict(one), "mark": one.mark.value} for one in found]
        healthy = all(one.mark is not Mark.FAIL for one in found)

        def render(out: Console) -> None:
            from hashlight_node.cli.tables import print_rows

            print_rows(out, rows, "name", "mark", "detail", "advice")

        emit({"healthy": healthy, "checks": rows}, as_json=as_json, render=render)
        if not healthy:
            raise typer.Exit(EXIT_FAILED)


async def _look(settings: Settings) -> Findings:
    from hashlight_node.app.maintenance import opened_for_reading

    async with opened_for_reading(settings) as checker:
        return await checker.run()


async def _heal(settings: Settings) -> Healed:
    from hashlight_node.app.maintenance import opened_for_healing

    async with opened_for_healing(settings, _now) as healer:
        return await healer.run()


def _shown(found: Findings) -> Json:
    return {
        "logs": found.logs,
        "leaves": found.leaves,
        "records": found.records,
        "signals": found.signals,
        "counts": {kind.value: count for kind, count in found.counts.items()},
        "damage": [_shown_damage(one) for one in found.damage],
    }


def _shown_damage(damage: Damage) -> Json:
    return {
        key: value for key, value in asdict(damage).items() if value not in {None, ""}
    }


def _shown_healed(healed: Healed) -> Json:
    return {
        "clean": healed.after.is_clean,
        "rounds": healed.rounds,
        "problems": list(healed.problems),
        "before": _shown(healed.before),
        **_shown(healed.after),
    }


def _print_checked(out: Console, checked: Checked) -> None:
    manifest = checked.manifest
    stamp = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(manifest.made_at))
    out.print(f"backup of {manifest.node} of {stamp}, schema {manifest.schema}")
    _print_findings(out, checked.findings)


def _print_findings(out: Console, found: Findings) -> None:
    out.print(
        f"{found.logs} logs, {found.leaves:,} entries, {found.records:,} records, "
        f"{found.signals:,} signals"
    )
    for damage in found.damage:
        shown = _shown_damage(damage)
        kind = shown.pop("kind")
        places = ", ".join(f"{key} {value}" for key, value in shown.items())
        out.print(
            f"damaged {kind}: {places}", style="red", markup=False, soft_wrap=True
        )
    more = sum(found.counts.values()) - len(found.damage)
    if more:
        out.print(f"and {more:,} more", style="red")
    if found.is_clean:
        out.print("every byte is what the logs say", style="green")


def _print_guard(out: Console, guard: Sequence[Guarded]) -> None:
    for one in guard:
        signed = (
            "nothing is known" if one.signed_size is None else f"{one.signed_size:,}"
        )
        here = "not in it" if one.size is None else f"at {one.size:,}"
        style = "yellow" if one.needs_recovery else "green"
        said = f"{one.origin}: {one.verdict}; {here}, signed last: {signed}"
        out.print(said, style=style, markup=False, soft_wrap=True)
    if any(one.needs_recovery for one in guard):
        out.print("Lists that are not ok are signed again after `hashlight recover`.")


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(backup)
    app.command()(restore)
    app.command()(fsck)
    app.command()(doctor)
