"""Planes and sessions as the groups of a DataTree: each is extracted, and they stay together."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import xarray as xr

from xs2p._names import explain_names, with_options_of
from xs2p.movie.groups import apart
from xs2p.pipeline.extract import extract

_OF_ROIS = {"npix", "ypix", "xpix", "lam"}  # variables that an ROI set has


@with_options_of(extract)
def extract_tree(
    tree: xr.DataTree,
    rois: xr.Dataset | xr.DataTree | Mapping[str, Any] | None = None,
    *,
    movie: str = "movie",
    **options: Any,
) -> xr.DataTree:
    """Extract traces and spikes of every group that has a movie, as planes or sessions.

    Nothing is read before it is computed; then all groups are one graph of Dask's:
    ``traces.load()``, ``traces.s2p.compute()`` or ``traces.to_zarr("traces.zarr")``.

    Parameters
    ----------
    tree
        Groups with a variable ``movie`` of dims ``([channel, plane,] time, y, x)``.
    rois
        ROIs of all groups alike, or a DataTree or mapping with those of each group by its path, as
        ``{"day1/plane0": rois}``. By default those that the group itself carries, or the nearest
        one above it.
    movie
        The name of the movie's variable.
    **options
        Of :func:`xs2p.extract`, the same for all groups.

    Returns
    -------
    DataTree
        What :func:`xs2p.extract` returns, ``(roi, time)``, in the place of each group that has a
        movie. Groups without one are there where they lead to such; of them nothing but the
        attributes is kept.

    Raises
    ------
    ValueError
        No group has a movie of this name, or one has no ROIs, or ``rois`` has a path that no movie
        is at. What is wrong with a movie, ROIs or options is as :func:`xs2p.extract` says it, with
        the path of the group.

    Examples
    --------
    >>> import xarray as xr, xs2p
    >>> movie, rois = xs2p.sample_movie(), xs2p.sample_rois()
    >>> days = {name: movie.to_dataset(name="movie") for name in ("day 1", "day 2")}
    >>> traces = xr.DataTree.from_dict(days).s2p.extract(rois, tau=1.0)
    >>> traces.groups, traces["day 2"].spks.sizes
    (('/', '/day 1', '/day 2'), Frozen({'roi': 98, 'time': 500}))
    """
    known = inspect.signature(extract_tree).parameters
    explain_names("extract", extract_tree, {n: v for n, v in options.items() if n not in known})
    given = rois_of_groups(tree, rois, movie)
    movies = {path: tree[path].dataset[movie] for path in given}
    shared = _share(list(movies.values()))
    found: dict[str, xr.Dataset] = {}
    for path, its_rois in given.items():
        with naming_group(path), apart() if shared else contextlib.nullcontext():
            found[path] = extract(movies[path], its_rois, **options)
    check_beside(list(found))
    return xr.DataTree.from_dict({**groups_above(tree, found), **found}, name=tree.name)


def rois_of_groups(tree: xr.DataTree, rois: Any, movie: str) -> dict[str, Any]:
    """ROIs of each group that has a movie, by its path.

    Raises
    ------
    ValueError
        No group has one, or one has no ROIs, or ``rois`` names a group that is not there.
    """
    nodes = {node.path: node for node in tree.subtree if movie in node.data_vars}
    if not nodes:
        raise ValueError(
            f"no group of the DataTree has a variable {movie!r} to extract from: "
            f"{_groups(tree)}; movie= names it"
        )
    own = _by_path(rois, nodes)
    found = {p: own.get(p) if rois is not None else _nearest(node) for p, node in nodes.items()}
    for path, its_rois in found.items():
        if its_rois is None:
            raise ValueError(
                f"the group {path!r} has a movie and no ROIs; give them: rois={{{path!r}: …}}, or "
                "one ROI set for all"
            )
    return found


def groups_above(tree: xr.DataTree, paths: Iterable[str]) -> dict[str, xr.Dataset]:
    """Return the groups that lead to some, by their path: of each nothing but its attributes."""
    above = {parent.path: parent for path in paths for parent in tree[path].parents}
    return {path: xr.Dataset(attrs=node.attrs) for path, node in sorted(above.items())}


@contextlib.contextmanager
def naming_group(path: str) -> Iterator[None]:
    """Let errors say which group they are of."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"in the group {path!r} of the DataTree")
        raise


def _share(movies: list[xr.DataArray]) -> bool:
    """Whether lazy movies are parts of one, as planes in turn are, and read the same chunks."""
    layers = [set(movie.data.dask.layers) for movie in movies if movie.chunks is not None]
    return len(set().union(*layers)) < sum(map(len, layers))


def check_beside(paths: list[str]) -> None:
    """Raise where traces would lie in a group above those of others, whose labels differ."""
    for path in paths:
        under = [other for other in paths if other != path and _is_under(other, path)]
        if under:
            raise ValueError(
                f"the groups {path!r} and {under[0]!r} have a movie each, one in the other: traces "
                "of both cannot lie so, since ROIs and times of a group are those of all in it; "
                "put them beside each other"
            )


def _is_under(path: str, above: str) -> bool:
    return path.startswith(above if above.endswith("/") else f"{above}/")


def _groups(tree: xr.DataTree) -> str:
    """Say in a line what a tree has."""
    held = [
        f"{node.path} has {', '.join(map(str, node.data_vars)) or 'none'}" for node in tree.subtree
    ]
    more = f" and {len(held) - 5} more" if len(held) > 5 else ""
    return "; ".join(held[:5]) + more


def _by_path(rois: Any, nodes: Mapping[str, xr.DataTree]) -> dict[str, Any]:
    """ROIs of each group that has a movie, as they are given."""
    if rois is None:
        return {}
    if isinstance(rois, xr.DataTree):
        others = {node.path: node for node in rois.subtree}
        return {path: _nearest(others[path]) for path in nodes if path in others}
    if not isinstance(rois, Mapping) or isinstance(rois, xr.Dataset):
        return dict.fromkeys(nodes, rois)
    given = {f"/{str(path).strip('/')}": value for path, value in rois.items()}
    other = [path for path in given if path not in nodes]
    if other:
        raise ValueError(
            f"rois has the path {other[0]!r}, and the movies of the DataTree are at "
            f"{', '.join(map(repr, nodes))}"
        )
    return given


def _nearest(node: xr.DataTree) -> xr.Dataset | None:
    """ROIs that a group carries, or the nearest group above it does."""
    for each in (node, *node.parents):
        if set(each.dataset.variables) >= _OF_ROIS:
            held = each.to_dataset(inherit=False)
            wanted = {n for n, v in held.variables.items() if set(v.dims) <= {"roi", "pixel"}}
            return held[[]].assign(held[sorted(map(str, wanted))].variables)
    return None
