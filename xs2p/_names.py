"""Other words for what arguments are called here: those of suite2p and of CaImAn."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

# What the field calls them elsewhere -> what they are called here.
_HERE = {
    "neucoeff": "neuropil_coefficient",
    "neuropil_coeff": "neuropil_coefficient",
    "neuropil_factor": "neuropil_coefficient",
    "r_neuropil": "neuropil_coefficient",
    "extract_neuropil": "neuropil_extract",
    "delta_f": "dff",
    "df_over_f": "dff",
    "inner_radius": "inner_neuropil_radius",
    "min_neuropil_pix": "min_neuropil_pixels",
    "min_neuropil": "min_neuropil_pixels",
    "circular": "circular_neuropil",
    "overlap": "allow_overlap",
    "allow_overlaps": "allow_overlap",
    "lam_prctile": "lam_percentile",
    "snr_thresh": "snr_threshold",
    "min_snr": "snr_threshold",
    "SNR_threshold": "snr_threshold",
    "window": "win_baseline",
    "sigma": "sig_baseline",
    "percentile": "prctile_baseline",
    "prctile": "prctile_baseline",
    "framerate": "fs",
    "frame_rate": "fs",
    "sampling_rate": "fs",
    "fr": "fs",
    "rate": "fs",
    "decay_time": "tau",
    "tau_decay": "tau",
    "chan2": "movie_chan2",
    "f_reg_chan2": "movie_chan2",
    "reg_file_chan2": "movie_chan2",
    "f_reg": "movie",
    "reg_file": "movie",
    "stat": "rois",
    "Ly": "shape",
    "Lx": "shape",
    "dims": "shape",
    "use_gpu": "device",
    "torch_device": "device",
    "gpu": "device",
}
_NOT_NEEDED = {
    "batch_size": "chunks of the movie come one by one; open_movie(chunks=...) sets them",
    "nbatch": "chunks of the movie come one by one; open_movie(chunks=...) sets them",
    "n_processes": "Dask's scheduler decides that: dask.config.set(num_workers=...), or a Client",
    "num_workers": "Dask's scheduler decides that: dask.config.set(num_workers=...), or a Client",
    "nplanes": "planes are the dim plane of the movie and the coordinate plane of the ROIs",
    "nchannels": "channels are the dim channel of the movie, or movie_chan2",
}


def without_other(function: F) -> F:
    """Leave ``**other`` out of the signature that help and completion show.

    A function takes it to explain names that it does not know, by `explain_names`.
    """
    signature = inspect.signature(function)
    shown = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    function.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    return function


def same_as(name: str, value: Any, default: Any, word: str, other: dict[str, Any]) -> Any:
    """Take an argument by another word for it; both at once is an error."""
    if word not in other:
        return value
    given = other.pop(word)
    if value != default:
        raise TypeError(f"{name}={value!r} and {word}={given!r} are the same thing; give one")
    return given


def explain_names(what: str, function: Callable[..., Any], other: Mapping[str, Any]) -> None:
    """Raise a TypeError where an argument was given that a function does not know.

    It says what that is called here, where another program's name for it is known, or which
    name is meant.
    """
    if not other:
        return
    name = next(iter(other))
    known = list(inspect.signature(function).parameters)
    if name in _NOT_NEEDED:
        hint = f"it is not needed here: {_NOT_NEEDED[name]}"
    elif _HERE.get(name) in known:
        hint = f"here it is called {_HERE[name]}"
    else:
        import difflib

        plain = {each.lower().replace("_", ""): each for each in known}
        near = difflib.get_close_matches(name.lower().replace("_", ""), list(plain), 1)
        near = [plain[word] for word in near]
        hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known)}"
    raise TypeError(f"{what}() got an unknown argument {name!r}; {hint}")


def keywords(function: Callable[..., Any]) -> dict[str, Any]:
    """Arguments that a function takes by name only, and their defaults."""
    known = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in known if p.kind is p.KEYWORD_ONLY}


def with_options_of(described: Callable[..., Any]) -> Callable[[F], F]:
    """Let ``**options`` of a function be seen as the keywords of another, by tools and by help."""
    own = inspect.signature(described).parameters.values()
    options = [p for p in own if p.kind is inspect.Parameter.KEYWORD_ONLY]

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        named = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        shown = signature.replace(parameters=[*named, *options])
        function.__signature__ = shown  # type: ignore[attr-defined]
        return function

    return decorate
