"""A movie on S3 that is busy, stalls, or has lost a part: by a server of this machine."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import zarr

from xs2p.io import open_movie
from xs2p.movie import zarr_state

s3fs = pytest.importorskip("s3fs")
pytest.importorskip("moto.server")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
FRAMES = np.random.default_rng(0).integers(1, 400, (12, 8, 9)).astype("u2")
BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Be slower.</Message></Error>"


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A store on S3, and what goes wrong there: so many requests for chunks, and how."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    plain, now = DomainDispatcherApplication(create_backend_app), {"wrong": 0, "asked": 0, "for": 0}

    def serve(environ, start):
        if "/c/" in environ["PATH_INFO"] and environ["REQUEST_METHOD"] == "GET":
            now["asked"] += 1
            if now["asked"] <= now["wrong"]:
                time.sleep(now["for"])
                start("503 Slow Down", [("Content-Type", "application/xml")])
                return [BUSY]
        return plain(environ, start)

    class Quiet(WSGIRequestHandler):
        def log_request(self, *_):
            pass

    server = make_server("localhost", 0, serve, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://localhost:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(zarr_state, "PAUSES", (0.01, 0.01))
    monkeypatch.setattr(zarr_state, "STALLED", 2.0)
    s3fs.S3FileSystem.clear_instance_cache()
    remote = s3fs.S3FileSystem()
    if not remote.exists("lab"):  # the server keeps it from test to test
        remote.mkdir("lab")
    zarr.create_array(tmp_path / "m.zarr", data=FRAMES, chunks=(4, 8, 9))
    remote.put(str(tmp_path / "m.zarr"), "lab/m.zarr", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()
    yield now, remote
    server.shutdown()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("stalls", [0, 2])
def test_now_and_then(bucket, stalls):
    now, _ = bucket
    now.update({"wrong": 2, "for": stalls})
    found = open_movie("s3://lab/m.zarr", fs=10).compute(scheduler="sync")
    np.testing.assert_array_equal(found, FRAMES)
    assert now["asked"] >= 5


def test_for_ever(bucket):
    now, _ = bucket
    now["wrong"] = 10**6
    with pytest.raises(OSError, match=r"s3://lab/m\.zarr.*frames 0 to 11.*failed 3 times.*slower"):
        open_movie("s3://lab/m.zarr", fs=10).compute(scheduler="sync")
    assert now["asked"] < 100


def test_a_chunk_that_is_lost(bucket):
    _, remote = bucket
    remote.rm("lab/m.zarr/c/1/0/0")
    movie = open_movie("s3://lab/m.zarr", fs=10)
    with pytest.warns(UserWarning, match=r"s3://lab/m\.zarr: its chunk c/1/0/0 is not there"):
        movie.compute(scheduler="sync")
