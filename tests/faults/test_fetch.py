"""Fetching from a server on this machine that stops, lies or is not there: what is kept is what was meant."""

import contextlib
import hashlib
import http.server
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from elegan.data import fetch as fetching
from elegan.data.fetch import Remote, fetch
from elegan.errors import DataError, OptionError, ResourceError

RNG = np.random.default_rng(0)
BODY = RNG.integers(0, 256, 700_000, dtype=np.uint8).tobytes()


class Shop(http.server.BaseHTTPRequestHandler):
    """Serves `BODY`, or a part of it, or what a test says."""

    asked: list[str] = []
    body, status, stop, ranges = BODY, 200, None, True

    def do_GET(self):
        asked = self.headers.get("Range")
        type(self).asked.append(asked or "all")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        body = self.body[start:]
        self.send_response(206 if start else self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body[: self.stop])

    def log_message(self, *_):
        pass


@pytest.fixture
def shop(monkeypatch, tmp_path) -> Iterator[type[Shop]]:
    monkeypatch.setenv("ELEGAN_DATA", str(tmp_path / "shelf"))
    monkeypatch.setenv("no_proxy", "*")
    kind = type("Here", (Shop,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        remote = Remote(
            f"http://127.0.0.1:{server.server_port}/cifar-10-binary.tar.gz", len(BODY), hashlib.sha256(BODY).hexdigest()
        )
        monkeypatch.setattr(fetching, "REMOTE", {"cifar10": remote})
        yield kind
        server.shutdown()


def test_a_file_is_fetched_once_and_found_by_name(shop, tmp_path, cli):
    said = cli("data", "fetch", "cifar10")
    path = tmp_path / "shelf" / "cifar-10-binary.tar.gz"
    assert (said.code, said.out.strip()) == (0, str(path))
    assert path.read_bytes() == BODY
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert fetch("cifar10") == path
    assert shop.asked == ["all"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_fetch_that_was_stopped_goes_on(shop, tmp_path, ranges):
    shop.stop, shop.ranges = 300_000, ranges
    with pytest.raises(ResourceError, match="ended after 300,000 of 700,000 bytes"):
        fetch("cifar10")
    shop.stop = None
    assert fetch("cifar10").read_bytes() == BODY
    assert shop.asked == ["all", "bytes=300000-"]


@pytest.mark.parametrize("body", [BODY[:-1] + b"x", BODY + b"more"])
def test_what_has_another_checksum_is_not_kept(shop, tmp_path, body):
    shop.body = body
    with pytest.raises(DataError, match="SHA-256 is another"):
        fetch("cifar10")
    assert list((tmp_path / "shelf").iterdir()) == []
    shop.body = BODY
    assert fetch("cifar10").read_bytes() == BODY


def test_a_file_that_is_there_is_never_overwritten(shop, tmp_path):
    (tmp_path / "shelf").mkdir()
    path = tmp_path / "shelf" / "cifar-10-binary.tar.gz"
    path.write_text("mine")
    with pytest.raises(DataError, match="move it away"):
        fetch("cifar10")
    assert path.read_text() == "mine"
    assert shop.asked == []


def test_a_network_that_is_not_there_ends_with_6_and_says_what_to_do_by_hand(shop, tmp_path, cli, monkeypatch):
    shop.status, shop.body = 404, b"gone"
    said = cli("data", "fetch", "cifar10")
    path = tmp_path / "shelf" / "cifar-10-binary.tar.gz"
    assert said.code == 6
    assert "Not Found" in said.line
    assert f"by hand and put it at {str(path)!r}" in said.line
    nowhere = Remote("http://127.0.0.1:9/cifar-10-binary.tar.gz", 9, "0" * 64)
    monkeypatch.setattr(fetching, "REMOTE", {"cifar10": nowhere})
    said = cli("data", "fetch", "cifar10")
    assert said.code == 6
    assert "http://127.0.0.1:9/" in said.line


def test_a_folder_that_cannot_be_written(shop, tmp_path, cli):
    (tmp_path / "shelf").write_text("a file")
    said = cli("data", "fetch", "cifar10")
    assert said.code == 6
    assert "cannot be written" in said.line


def test_only_what_has_a_known_checksum_is_fetched(cli):
    assert {name: len(remote.sha256) for name, remote in fetching.REMOTE.items()} == {"cifar10": 64, "cifar100": 64}
    assert all(remote.address.startswith("https://") for remote in fetching.REMOTE.values())
    with pytest.raises(OptionError, match="for want of a known checksum"):
        fetch("imagenet")
    assert cli("data", "fetch", "cifar1").code == 2
