"""A list goes on in a new log, by the command line alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from support.companies import cli, matches, until

if TYPE_CHECKING:
    from hashlight_node.demo.company import Company

ONE = "shield.example/hsf/v1/log/ncii/1"
TWO = "shield.example/hsf/v1/log/ncii/2"
THREE = "shield.example/hsf/v1/log/ncii/3"


def test_a_list_goes_on_and_its_old_references_still_work(
    pair: tuple[Company, Company], md5: str
) -> None:
    hotline, platform = pair
    (ref,) = cast("list[str]", cli(hotline, "publish", "ncii", "--signal", md5)["refs"])
    until(lambda: bool(matches(platform, md5)))
    unsure = hotline.run("list", "next-epoch", "ncii", "--yes")
    assert unsure.returncode == 2
    assert b"--frozen" in unsure.stderr
    odd = hotline.run("list", "next-epoch", "ncii", "--frozen", "--keep-own", "--yes")
    assert odd.returncode == 2
    asked = hotline.run("list", "next-epoch", "ncii", "--frozen")
    assert asked.returncode == 1  # Nobody was there to say yes.
    begun = cli(hotline, "list", "next-epoch", "ncii", "--frozen", "--yes")
    assert (begun["origin"], begun["ended"]) == (TWO, ONE)

    erased = hotline.run("erase", ref)
    assert erased.returncode == 0, erased.stderr.decode()
    assert f"goes on as {TWO}#" in erased.stdout.decode().replace("\n", "")
    until(lambda: not matches(platform, md5))

    again = hotline.run(
        "list", "next-epoch", "ncii", "--abandon-at", "1", "--keep-own", "--yes"
    )
    assert again.returncode == 0, again.stderr.decode()
    assert THREE in again.stdout.decode()
