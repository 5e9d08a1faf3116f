"""How near is near enough, list by list."""

from dataclasses import dataclass

from hashlight_node.matching.policy import fits_list


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Largest distances at which a PDQ hash of a list matches.

    Attributes:
        default: Of lists that no pattern names, 0 to 256.
        by_list: Patterns as in policy rules, with their distances; the first that
            fits a list counts.
    """

    default: int
    by_list: tuple[tuple[str, int], ...] = ()

    def of(self, list_id: str) -> int:
        """Give the distance for a list, which is named `<node>/<list>`."""
        fitting = (it for pattern, it in self.by_list if fits_list(pattern, list_id))
        return next(fitting, self.default)
