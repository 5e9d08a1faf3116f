"""How near is near enough, list by list."""

from hashlight_node.matching.thresholds import Thresholds


def test_the_first_pattern_that_fits_counts() -> None:
    some = Thresholds(
        31, (("shield.example/ncii", 10), ("shield.example/*", 20), ("memes", 0))
    )
    assert some.of("shield.example/ncii") == 10
    assert some.of("shield.example/other") == 20
    assert some.of("alpha.example/memes") == 0
    assert some.of("shield.example/memes") == 20
    assert some.of("alpha.example/ncii") == 31
