"""Movies on a server that is busy, stands still or hangs up."""

from __future__ import annotations

import http.server
import logging
import threading
import time

import numpy as np
import pytest
import zarr
from loaders import opened

from xs2p.movie import zarr_state

pytest.importorskip("aiohttp")
FRAMES = np.random.default_rng(0).integers(0, 999, (12, 8, 9)).astype("i2")


class Failing(http.server.SimpleHTTPRequestHandler):
    """Gives files; of chunks, the first few requests go wrong as the test says."""

    protocol_version = "HTTP/1.1"
    wrong, asked, how = 0, 0, "503"

    def do_GET(self):
        cls = type(self)
        if "/c/" in self.path:
            cls.asked += 1
            if cls.asked <= cls.wrong:
                return self.fail()
        return super().do_GET()

    def fail(self):
        if self.how == "hangs up":
            self.close_connection = True
        elif self.how == "stalls":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"a")
            self.wfile.flush()
            time.sleep(1.0)
            self.close_connection = True
        else:
            self.send_error(int(self.how))

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A movie on a server, and the handler that says what goes wrong."""
    zarr.create_array(tmp_path / "m.zarr", data=FRAMES, chunks=(4, 8, 9))

    class Handler(Failing):
        def __init__(self, *args):
            super().__init__(*args, directory=tmp_path)

    monkeypatch.setattr(zarr_state, "PAUSES", (0.01, 0.01, 0.01))
    monkeypatch.setattr(zarr_state, "STALLED", 0.2)
    with http.server.ThreadingHTTPServer(("localhost", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}/m.zarr", Handler
        server.shutdown()


@pytest.mark.parametrize("how", ["503", "429", "500", "hangs up", "stalls"])
def test_a_server_that_fails_now_and_then(server, how, caplog):
    url, handler = server
    handler.how, handler.wrong = how, 2
    with caplog.at_level(logging.INFO, "xs2p"):
        movie = opened(url).compute(scheduler="sync")
    np.testing.assert_array_equal(movie, FRAMES)
    assert handler.asked > 3
    if how != "hangs up":  # then aiohttp asks again itself
        assert "another try in 0.01 s" in caplog.text


def test_a_server_that_goes_on_failing_is_named(server):
    url, handler = server
    handler.wrong = 10**6
    with pytest.raises(OSError, match=r"m\.zarr.*frames 0 to .*server failed 4 times.*503"):
        opened(url).compute(scheduler="sync")
    assert 4 <= handler.asked <= 12  # three chunks are asked for at once


def test_what_no_patience_helps_is_told_at_once(server):
    url, handler = server
    handler.how, handler.wrong = "403", 10**6
    with pytest.raises(OSError, match=r"m\.zarr.*frames 0 to .*403"):
        opened(url).compute(scheduler="sync")
    assert handler.asked <= 3


def test_opening_is_patient_too(server, monkeypatch):
    url, handler = server
    plain, asked = handler.do_GET, []

    def busy(self):
        asked.append(self.path)
        return self.send_error(503) if len(asked) < 3 else plain(self)

    monkeypatch.setattr(handler, "do_GET", busy)
    np.testing.assert_array_equal(opened(url), FRAMES)


def test_chunks_that_are_lost_are_told(server, tmp_path):
    url, _ = server
    movie = opened(url)
    lost = next(path for path in sorted(tmp_path.rglob("c/*/0/0")) if path.parts[-3] == "1")
    lost.unlink()
    with pytest.warns(UserWarning, match=r"m\.zarr.*its chunk c/1/0/0 is not there"):
        found = movie.compute(scheduler="sync")
    assert not np.array_equal(found, FRAMES)
