"""Accepting and rejecting ROIs one after another: the choices, their order, and undo."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xs2p.plot.flags import at_hand

KEYS = {
    "a": "accept",
    "r": "reject",
    "n": "next",
    "p": "previous",
    "u": "undo",
    "ArrowRight": "next",
    "ArrowDown": "next",
    "ArrowLeft": "previous",
    "ArrowUp": "previous",
}
CHOICES = ("accepted", "rejected")


def measures_at_hand(ds: xr.Dataset) -> dict[str, np.ndarray]:
    """Numbers of each ROI that are known without computing traces, float64, by name."""
    skipped = {"roi", "roi_id", "mask_id", "plane", "iplane", "iscell"}
    found = {}
    for name, variable in ds.variables.items():
        if variable.dims == ("roi",) and variable.dtype.kind in "iuf" and name not in skipped:
            if at_hand(ds, str(name)):
                found[str(name)] = ds[name].compute().as_numpy().values.astype(np.float64)
    return found


class Curation:
    """Which ROIs are accepted, which are gone through, and in which order.

    Parameters
    ----------
    accepted
        Of each ROI, bool ``(roi,)``.
    measures
        Numbers of each ROI, by name, to sort and filter by.
    """

    def __init__(self, accepted: np.ndarray, measures: dict[str, np.ndarray]) -> None:
        self.accepted = accepted.copy()
        self.measures = measures
        self._done: list[tuple[int, bool]] = []
        self._sort: tuple[str | None, bool] = (None, True)
        self._filter: tuple[str | None, float | None, float | None] = (None, None, None)
        self.order = np.arange(accepted.size)

    def sort(self, by: str | None, descending: bool = True) -> None:
        """Put the ROIs in the order of a measure; those without a number are last."""
        self._check(by)
        self._sort = by, descending
        self._arrange()

    def filter(self, by: str | None, low: float | None = None, high: float | None = None) -> None:
        """Go through ROIs within ends only, or through those accepted or rejected."""
        if by not in CHOICES:
            self._check(by)
        self._filter = by, low, high
        self._arrange()

    def decide(self, place: int, yes: bool) -> int:
        """Accept or reject an ROI; return the one that comes next."""
        after = self.step(place, 1)
        self._done.append((place, bool(self.accepted[place])))
        self.accepted[place] = yes
        if self._filter[0] in CHOICES:
            self._arrange()
        return after

    def undo(self) -> int | None:
        """Take the last choice back; return whose it was, None where there is none."""
        if not self._done:
            return None
        place, before = self._done.pop()
        self.accepted[place] = before
        self._arrange()
        return place

    def step(self, place: int, by: int) -> int:
        """Return the next ROI in the order, or the one before; at the ends the same."""
        at = np.flatnonzero(self.order == place)
        if not self.order.size:
            return place
        where = int(at[0]) + by if at.size else 0
        return int(self.order[min(max(where, 0), self.order.size - 1)])

    def _check(self, by: Any) -> None:
        if by is not None and by not in self.measures:
            raise ValueError(
                f"there are no numbers {by!r} over roi; there are "
                f"{', '.join(self.measures) or 'none'}; ds.assign(ds.s2p.quality()) adds measures"
            )

    def _arrange(self) -> None:
        name, low, high = self._filter
        some = np.ones(self.accepted.size, bool)
        if name in CHOICES:
            some = self.accepted == (name == "accepted")
        elif name is not None:
            values = self.measures[name]
            some = np.isfinite(values)
            some &= values >= (-np.inf if low is None else low)
            some &= values <= (np.inf if high is None else high)
        places = np.flatnonzero(some)
        by, descending = self._sort
        if by is not None:
            values = self.measures[by][places]
            values = np.where(np.isfinite(values), -values if descending else values, np.inf)
            places = places[np.argsort(values, kind="stable")]
        self.order = places
