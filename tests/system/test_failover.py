"""A database server is lost, and its synchronous replica takes its place."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import pytest

from support.companies import MakeCompany, until
from support.replicated import replicated
from support.sharing import make_sharing
from support.sharing_traffic import (
    CUT_OFF,
    Traffic,
    check_in_the_end,
    follow,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(300)
def test_nothing_answered_is_lost_with_the_server_that_had_it(
    tmp_path: Path, make_running: MakeCompany
) -> None:
    with replicated() as servers:
        shield = make_sharing(
            tmp_path, "shield.example", 2, url=servers.create("hashlight")
        )
        shield.balancer.start()
        try:
            for process in shield.processes:
                process.start()
            until(lambda: len(shield.leaders()) == 1)
            peer = follow(shield, make_running("beta.example"))
            with Traffic(shield, (*CUT_OFF, "503")) as traffic:
                until(lambda: traffic.has_published(20))
                written = len(traffic.published)
                failed_at = time.monotonic()
                servers.fail_over()
                # The first was perhaps committed already, the second began after it.
                until(lambda: traffic.has_published(written + 2), seconds=60)
                seconds = list(traffic.published.values())[written + 1] - failed_at
                until(lambda: traffic.has_published(written + 20), seconds=60)
            sys.stdout.write(f"writing again {seconds:.1f} s after the server died\n")
            assert len(shield.leaders()) == 1
            check_in_the_end(shield, peer, traffic)
        finally:
            for process in shield.processes:
                process.stop()
            shield.balancer.stop()
