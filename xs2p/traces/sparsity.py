"""How sparse spikes are to be: a penalty on all of them, or a smallest one; checked."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import attributes, check_each_roi, check_number

NOISE = "noise"


class Sparsity(NamedTuple):
    """A penalty or a smallest spike, checked; none by default."""

    penalty: str | float | None = None
    """``"noise"``, or the Lagrange multiplier in the units of the traces."""
    s_min: float | None = None
    """The smallest spike, in the units of the traces; None where each ROI has its own."""
    each: np.ndarray | None = None
    """The smallest spike of each ROI, float64, where they have their own."""

    @property
    def wanted(self) -> bool:
        """Whether there is anything of it."""
        return self.penalty is not None or bool(self.least.any())

    @property
    def of_all_time(self) -> bool:
        """Whether a frame can depend on others at any distance."""
        return self.penalty == NOISE or bool(self.least.any())

    @property
    def least(self) -> np.ndarray:
        """Smallest spike ``(roi or 1, 1)``, float64."""
        return np.full((1, 1), self.s_min or 0.0) if self.each is None else self.each[:, None]

    def of_rois(self, positions: np.ndarray) -> Sparsity:
        """Keep what is said of some ROIs."""
        return self if self.each is None else self._replace(each=self.each[positions])

    @property
    def attrs(self) -> dict[str, Any]:
        """What results say of it."""
        if not self.wanted:
            return {}
        s_min = self.s_min if self.each is None else "of each ROI"
        return {**attributes(penalty=self.penalty, s_min=s_min or None)}


NOT_SPARSE = Sparsity()


def check_sparsity(penalty: Any, s_min: Any, F: xr.DataArray) -> Sparsity:
    """Check ``penalty`` and ``s_min`` for traces."""
    if penalty is not None and not isinstance(penalty, str):
        check_number("penalty", penalty, 0.0, unit="the units of F")
        penalty = float(penalty)
    elif isinstance(penalty, str) and penalty != NOISE:
        raise ValueError(
            f"penalty must be 'noise', a number in the units of F, or None; got {penalty!r}"
        )
    each = None
    if isinstance(s_min, xr.DataArray) and s_min.ndim:
        each, s_min = _of_each(s_min, F), None
    else:
        s_min = s_min.item() if isinstance(s_min, xr.DataArray) else s_min
        check_number("s_min", s_min, 0.0, unit="the units of F")
        s_min = float(s_min)
    found = Sparsity(penalty, s_min, each)
    if penalty is not None and found.least.any():
        raise ValueError(
            f"penalty={penalty!r} and s_min are two ways to the same end; give one: s_min= for "
            "spikes of a size that is known, penalty='noise' where only the noise is"
        )
    return found


def _of_each(s_min: xr.DataArray, F: xr.DataArray) -> np.ndarray:
    check_each_roi("s_min", s_min, F)
    values = np.asarray(s_min.values, dtype=np.float64)
    wrong = np.flatnonzero(~(np.isnan(values) | (np.isfinite(values) & (values >= 0))))
    if wrong.size:
        raise ValueError(
            f"every s_min must be a number, 0 or more, or NaN; it is {values[wrong[0]]} for the "
            f"ROI at position {wrong[0]}"
        )
    return values
