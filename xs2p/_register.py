"""``.s2p`` of xarray's objects, whose methods are imported when the first is asked for."""

from __future__ import annotations

from typing import Any

import xarray as xr


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
