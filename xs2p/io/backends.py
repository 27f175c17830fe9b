"""xarray's own doors: ``xr.open_dataset`` and ``xr.open_datatree`` of movies and suite2p's folders.

xarray finds them by the entry points of the installed package, and asks each of them about every
file that is opened without an ``engine``: nothing heavy is imported before one is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from xs2p.movie.open import open_movie
from xs2p.movie.sources import plane_folders

_TRACES = ("F.npy", "Fneu.npy", "spks.npy", "stat.npy")


class MovieBackend(BackendEntrypoint):
    """``engine="xs2p"``: a movie of any format that :func:`xs2p.open_movie` reads.

    Of ``xr.open_datatree`` a store with a group for each plane or session.
    """

    supports_groups = True
    description = "Calcium-imaging movies: TIFF, HDF5, Zarr, suite2p's binaries, microscopes' files"

    def open_dataset(  # type: ignore[override]
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        shape: Any = None,
        fs: float | None = None,
        dtype: Any = None,
        variable: str | None = None,
        channels: int | None = None,
        planes: int | None = None,
        order: Any = None,
        dims: Any = None,
        segments: Any = None,
        registration: Any = None,
    ) -> xr.Dataset:
        """Open a movie as the variable ``movie`` of a Dataset, lazily.

        Parameters
        ----------
        filename_or_obj
            What :func:`xs2p.open_movie` takes for a path.
        drop_variables
            Coordinates that are not wanted.
        shape, fs, dtype, variable, channels, planes, order, dims, segments, registration
            As there. ``chunks`` is xarray's: ``{}`` for those that xs2p would choose, None for
            an array that is read where it is sliced, without Dask.

        Returns
        -------
        Dataset
            ``movie`` with dims ``(time, y, x)``, in front of them ``channel`` and ``plane`` where
            there are several, in the file's dtype; its coordinates and attributes are those of
            :func:`xs2p.open_movie`.
        """
        movie = open_movie(
            filename_or_obj,
            shape=shape,
            fs=fs,
            dtype=dtype,
            variable=variable,
            channels=channels,
            planes=planes,
            order=order,
            dims=dims,
            segments=segments,
            registration=registration,
        )
        found = movie.to_dataset(name="movie")
        found["movie"] = _undasked(movie)
        return found.drop_vars(_named(drop_variables), errors="ignore")

    def open_groups_as_dict(
        self, filename_or_obj: Any, *, drop_variables: str | Iterable[str] | None = None
    ) -> dict[str, xr.Dataset]:
        """Open a store of ``tree.s2p.extract_to_zarr``: a Dataset of traces for each group.

        A store of one movie is the group ``"/"``; of one that is not complete, groups that are not
        begun are left out.
        """
        from xs2p.disk.traces import open_groups

        name = os.fspath(filename_or_obj)
        try:
            found = open_groups(name, over_dask=False)
        except Exception as error:
            raise ValueError(
                f"{name!r} is no store of traces: engine='xs2p' opens trees that "
                "tree.s2p.extract_to_zarr made; xr.open_dataset opens movies, and engine='suite2p' "
                "the folders of all planes"
            ) from error
        unwanted = _named(drop_variables)
        return {path: ds.drop_vars(unwanted, errors="ignore") for path, ds in found.items()}

    def open_datatree(self, filename_or_obj: Any, **options: Any) -> xr.DataTree:
        """Open a store of ``tree.s2p.extract_to_zarr`` as a DataTree.

        ``options`` are the parameters of :meth:`open_groups_as_dict`.
        """
        return xr.DataTree.from_dict(self.open_groups_as_dict(filename_or_obj, **options))


class Suite2pBackend(BackendEntrypoint):
    """``engine="suite2p"``: what :func:`xs2p.read_suite2p` reads, lazily."""

    description = "Traces, ROIs and images of a folder of suite2p's"
    supports_groups = True

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether it is a folder of suite2p's, of one plane or of several."""
        try:
            return bool(_planes_in(os.fspath(filename_or_obj)))
        except (TypeError, OSError):
            return False

    def open_dataset(  # type: ignore[override]
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        shape: tuple[int, int] | None = None,
        segments: Any = None,
        movie: bool = False,
    ) -> xr.Dataset:
        """Open the folder of one plane, or of all planes with their ROIs numbered through.

        Parameters
        ----------
        filename_or_obj
            A folder such as ``"suite2p/plane0"`` or ``"suite2p"``, or a ``Fall.mat``.
        drop_variables
            Variables that are not wanted.
        shape, segments
            As for :func:`xs2p.read_suite2p`.
        movie
            Whether the registered movie of the folder, ``data.bin``, is the variable ``movie``.

        Returns
        -------
        Dataset
            As :func:`xs2p.read_suite2p` returns it. ``F``, ``Fneu`` and ``spks`` are read from
            their files where they are sliced or computed.
        """
        from xs2p.io.suite2p.folder import read_folder
        from xs2p.io.suite2p.lazy import open_rows

        name = os.fspath(filename_or_obj)
        if movie and not os.path.isdir(name):
            raise ValueError(
                f"movie=True needs a folder of suite2p's, with data.bin; {name} is none"
            )
        found = read_folder(name, shape, segments, open_rows)
        if movie:
            registered = open_movie(name, shape=shape)
            if "time" in found.coords:  # of F, which are the same frames
                registered = registered.drop_vars("time", errors="ignore")
            found = found.assign(movie=_undasked(registered))
        return found.drop_vars(_named(drop_variables), errors="ignore")

    def open_groups_as_dict(self, filename_or_obj: Any, **options: Any) -> dict[str, xr.Dataset]:
        """Open each plane folder as a group, ``"/plane0"`` and so on.

        ``options`` are the parameters of :meth:`open_dataset`.
        """
        name = os.fspath(filename_or_obj)
        planes = _planes_in(name)
        if not planes:
            raise FileNotFoundError(
                f"{name!r} has no plane folder of suite2p's with any of {', '.join(_TRACES)}"
            )
        root = xr.Dataset(attrs={"source": name})
        return {"/": root} | {
            f"/{os.path.basename(os.path.abspath(path))}": self.open_dataset(path, **options)
            for path in planes
        }

    def open_datatree(self, filename_or_obj: Any, **options: Any) -> xr.DataTree:
        """Open the planes of a folder as a DataTree with a group for each plane.

        ``options`` are the parameters of :meth:`open_dataset`.
        """
        return xr.DataTree.from_dict(self.open_groups_as_dict(filename_or_obj, **options))


def _planes_in(name: str) -> list[str]:
    """Plane folders with results; the folder itself where it is one."""
    if not os.path.isdir(name):
        return []
    here = set(os.listdir(name))
    if set(_TRACES) & here:
        # Any program may write an F.npy; what suite2p writes has its ROIs or its ops beside it.
        return [name] if {"stat.npy", "ops.npy"} & here else []
    return [path for path in plane_folders(name) if set(_TRACES) & set(os.listdir(path))]


def _named(drop_variables: str | Iterable[str] | None) -> list[str]:
    if drop_variables is None:
        return []
    return [drop_variables] if isinstance(drop_variables, str) else list(drop_variables)


def _undasked(movie: xr.DataArray) -> xr.DataArray:
    """Let xarray make the chunks: a movie over Dask as an array that is read where it is sliced."""
    if movie.chunks is None:
        return movie
    made = movie.copy(data=indexing.LazilyIndexedArray(_OfDask(movie.data)))
    made.encoding["preferred_chunks"] = {
        str(dim): max(sizes) for dim, sizes in zip(movie.dims, movie.chunks, strict=True)
    }
    return made


class _OfDask(BackendArray):
    """Frames of a Dask array, computed where they are sliced."""

    def __init__(self, array: Any) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray[Any, Any]:
        support = indexing.IndexingSupport.OUTER_1VECTOR
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray[Any, Any]:
        import threading

        # In a task of Dask's, its threads are at work already.
        alone = threading.current_thread() is threading.main_thread()
        part = self.array[key]
        return np.asarray(part.compute() if alone else part.compute(scheduler="synchronous"))
