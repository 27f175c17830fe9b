"""What ``import xs2p`` gives to others: ``.s2p`` to xarray's objects, a reader to ROIs by path.

Either imports what it needs when it is used.
"""

from __future__ import annotations

from typing import Any

import xarray as xr

from xs2p._given import register_reader


class _Accessor:
    """Stands for a class of ``xs2p.accessor`` until somebody wants it."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def _class(self) -> Any:
        from xs2p import accessor

        return getattr(accessor, self.__name__)

    def __call__(self, of: Any) -> Any:
        return self._class()(of)

    def __getattr__(self, name: str) -> Any:  # of xr.DataArray.s2p, as in help and docs
        return getattr(self._class(), name)

    def __dir__(self) -> list[str]:
        return dir(self._class())


xr.register_dataarray_accessor("s2p")(_Accessor("S2pDataArray"))  # type: ignore[arg-type]
xr.register_dataset_accessor("s2p")(_Accessor("S2pDataset"))  # type: ignore[arg-type]
xr.register_datatree_accessor("s2p")(_Accessor("S2pDataTree"))  # type: ignore[arg-type]


def _read_rois(path: Any, **how: Any) -> xr.Dataset:
    from xs2p.io.rois.read import read_rois

    return read_rois(path, **how)


register_reader(_read_rois)
