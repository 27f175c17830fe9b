"""On which cluster the command line computes."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def cluster(
    scheduler: str | None, workers: int | None, threads: int | None, say: Callable[[str], None]
) -> Iterator[None]:
    """Compute on a running cluster, on processes of this machine, or just here."""
    if scheduler is None and workers is None:
        if threads is None:
            yield
            return
        import dask

        with dask.config.set(scheduler="threads", num_workers=_positive("threads", threads)):
            yield
        return
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise ImportError(
            "--scheduler and --workers need distributed: pip install 'xs2p[distributed]'"
        ) from None
    if scheduler is not None:
        if workers is not None or threads is not None:
            raise ValueError(
                "--workers and --threads-per-worker start processes here; with --scheduler the "
                "cluster has its own"
            )
        try:
            client = Client(scheduler, timeout="20s")
        except (OSError, ValueError) as error:
            raise ValueError(
                f"--scheduler {scheduler}: no Dask scheduler answers there ({error})"
            ) from error
        with client:
            say(f"dashboard at {client.dashboard_link}")
            yield
        return
    _positive("workers", workers)
    if threads is not None:
        _positive("threads-per-worker", threads)
    with (
        LocalCluster(n_workers=workers, threads_per_worker=threads, dashboard_address=":0") as own,
        Client(own) as client,
    ):
        client.register_plugin(_deaf())
        say(f"dashboard at {client.dashboard_link}")
        yield


def _deaf() -> Any:
    """Let workers not hear Ctrl-C: a terminal sends it to them too, and they are to finish."""
    from distributed import WorkerPlugin

    class Deaf(WorkerPlugin):  # type: ignore[misc]
        name = "xs2p-deaf"

        def setup(self, worker: Any) -> None:
            with contextlib.suppress(ValueError):  # a worker in a thread
                signal.signal(signal.SIGINT, signal.SIG_IGN)

    return Deaf()


def _positive(option: str, value: int | None) -> int:
    if value is None or value < 1:
        raise ValueError(f"--{option} must be 1 or more, got {value}")
    return value
