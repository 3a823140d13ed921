"""Labs whose process dies, hangs or talks nonsense; clients that are slow; and how a studio begins and ends."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from itertools import pairwise

import httpx
import pytest

from elegan.studio.server.recording import Recording
from elegan.studio.server.stream import MOST_WAITING, Stream
from tests.faults.studio import gone, heard, messages, studio


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with studio(tmp_path_factory.mktemp("labs"), before="labs.OPENING = jobs.PATIENCE = 1.0") as found:
        yield found


@pytest.fixture
def house(running):
    yield running
    running.close_labs()


def order(stream, **change) -> None:
    stream.send(json.dumps({"do": "change", "change": change}))


def wait_for_the_spare(house) -> None:
    with house.client() as client:
        client.get("/api/catalogue")


def recorded(house, lab: str) -> list[dict]:
    with house.client() as client:
        return client.get(f"/api/labs/{lab}/frames").json()


DEATHS = {"crash": "status 3: RuntimeError: it broke", "noise": "no message", "long": "no message"}


@pytest.mark.parametrize("order_", DEATHS)
def test_a_lab_that_dies_says_so_keeps_its_recording_and_opens_anew(house, order_):
    lab = house.lab(seed=7)
    with house.stream(lab) as stream, house.stream(lab) as other:
        heard(stream, "frame")
        kept = recorded(house, lab)
        order(stream, **{order_: True})
        assert DEATHS[order_] in heard(stream, "failed")["error"]
        assert heard(other, "failed")
        assert recorded(house, lab) == kept
        with house.client() as client:
            assert [one["alive"] for one in client.get("/api/labs").json()] == [False]
            assert client.get("/").status_code == 200
        with house.stream(lab) as late:
            assert [head["kind"] for head, _ in messages(late, 0.3)] == ["opened", "failed", "frame"]
        stream.send('{"do": "pause"}')
        assert "open it anew" in heard(stream, "refused")["error"]
        stream.send('{"do": "open"}')
        assert heard(stream, "opened")["setup"]["seed"] == 7
        heard(other, "opened")
        heard(other, "frame")


def test_a_child_that_is_killed(house):
    lab = house.lab()
    with house.stream(lab) as stream:
        heard(stream, "opened")
        with house.client() as client:
            client.get("/api/catalogue")  # so that the spare is there as well
        for pid in house.children():
            os.kill(pid, signal.SIGKILL)
        assert "killed by SIGKILL" in heard(stream, "failed")["error"]
    assert house.lab()  # the spare was killed, too


def test_a_lab_that_hangs_can_be_closed(house):
    lab = house.lab()
    before = set(house.children())
    with house.stream(lab) as stream:
        heard(stream, "frame")
        order(stream, hang=True)
        time.sleep(0.2)
        with house.client() as client:
            assert client.delete(f"/api/labs/{lab}").status_code == 200
            assert client.delete(f"/api/labs/{lab}").status_code == 404
        assert [head for head, _ in messages_until_closed(stream)] == []
    assert any(gone(pid, 0.1) for pid in before)


def messages_until_closed(stream):
    from websockets.exceptions import ConnectionClosedOK

    with contextlib.suppress(ConnectionClosedOK):
        yield from messages(stream, 3)


@pytest.mark.parametrize(("game", "status", "said"), [("refuse", 422, "no game named"), ("die", 503, "status 4")])
def test_a_setup_that_does_not_open_leaves_no_lab(house, game, status, said):
    with house.client() as client:
        for _ in range(5):  # more often than there may be labs
            answer = client.post("/api/labs", json={"benches": [{"game": game}]})
            assert (answer.status_code, said in answer.json()["error"]) == (status, True)
        assert client.get("/api/labs").json() == []


def test_four_labs_and_no_more(house):
    """While somebody looks at each; else the oldest that nobody looks at makes room."""
    labs = [house.lab() for _ in range(4)]
    with house.client() as client, contextlib.ExitStack() as looking:
        for lab in labs:
            heard(looking.enter_context(house.stream(lab)), "opened")
        answer = client.post("/api/labs", json={})
        assert (answer.status_code, "close one" in answer.json()["error"]) == (429, True)
        client.delete(f"/api/labs/{labs[0]}")
        assert client.post("/api/labs", json={}).status_code == 200
        looking.close()
        end = time.monotonic() + 10
        while client.post("/api/labs", json={}).status_code != 200:
            assert time.monotonic() < end
        left = {lab["id"] for lab in client.get("/api/labs").json()}
        assert len(left) == 4
        assert labs[1] not in left
    assert len({*labs}) == 4
    assert all(len(lab) >= 12 for lab in labs)


def test_replay_gives_the_very_bytes_that_were_sent(house):
    lab, live = house.lab(), {}
    with house.stream(lab) as stream:
        stream.send('{"do": "play"}')
        for head, message in messages(stream):
            if head["kind"] == "frame":
                live[head["seq"]] = message
                stream.send(json.dumps({"do": "seen", "seq": head["seq"]}))
            if len(live) == 20:
                break
        stream.send('{"do": "pause"}')
    with house.client() as client:
        assert all(client.get(f"/api/labs/{lab}/frames/{seq}").content == frame for seq, frame in live.items())
        assert client.get(f"/api/labs/{lab}/frames/999999").status_code == 404
        entry = recorded(house, lab)[0]
    assert entry.keys() == {"seq", "step", "at", "benches"}
    assert entry["benches"] == [{"terms": {"D.adv": 0.5, "G.adv": 1.0}, "measures": None}]


def test_a_slow_client_gets_the_newest_frame_and_every_other_message(house):
    """Two frames at most are on their way; what the page has not drawn is skipped, what is no frame is not."""
    lab = house.lab()
    with house.stream(lab) as stream:
        first = heard(stream, "frame")["seq"]
        order(stream, spam=50)
        for k in range(3):
            stream.send(json.dumps({"do": "change", "change": {f"x{k}": "y" * 300}}))
        got = [head for head, _ in messages(stream, 1)]
        assert sorted(head["kind"] for head in got) == ["frame", "refused", "refused", "refused"]
        stream.send(json.dumps({"do": "seen", "seq": first}))
        newest = heard(stream, "frame")
        assert newest["seq"] == first + 50
        assert [head for head, _ in messages(stream, 0.3)] == []


def test_a_client_that_takes_nothing_is_dropped_before_it_costs_memory():
    stream = Stream()
    for seq in range(10_000):
        stream.show(seq, b"frame")
    for _ in range(MOST_WAITING):
        stream.tell(b"refused")
    assert not stream.dropped
    assert asyncio.run(stream.next()) == b"refused"
    stream.tell(b"refused")
    stream.tell(b"one too many")
    assert stream.dropped
    assert asyncio.run(stream.next()) is None


def test_what_belongs_to_the_lab_before_is_not_sent_after_it():
    async def told() -> list[bytes | None]:
        stream = Stream()
        stream.show(8, b"8")
        first = await stream.next()
        stream.show(9, b"old")
        stream.tell(b"opened", anew=True)
        second = [await stream.next()]
        coming = asyncio.create_task(stream.next())
        await asyncio.sleep(0)
        stream.show(1, b"1")
        second.append(await coming)
        stream.show(2, b"2")
        stream.show(3, b"3")
        return [first, *second, await stream.next()]

    assert asyncio.run(told()) == [b"8", b"opened", b"1", b"3"]


def test_points_are_asked_of_the_spare(house):
    with house.client() as client:
        for _ in range(3):
            told = client.post("/api/points", json={"kind": "csv", "text": "1,2"}).json()
            assert told == {"points": [[1, 0], [0, 1], [0, 0]], "samples": 3, "about": "three points"}
            answer = client.post("/api/points", json={"kind": "csv", "text": "bad"})
            assert (answer.status_code, answer.json()["error"]) == (422, "line 1: no numbers")


# the recording -------------------------------------------------------------------------------------------------------


def head_of(seq: int) -> dict:
    return {"seq": seq, "step": seq, "at": 0.0, "benches": [{"terms": {}, "measures": None}]}


@pytest.mark.parametrize(("frames", "size"), [(20, 1 << 20), (1_000, 4_000)])
def test_a_recording_is_thinned_evenly_and_stays_whole(frames, size):
    recording = Recording(frames, size)
    sent = {seq: bytes([seq % 256]) * (50 + seq % 100) for seq in range(1, 778)}
    for seq, frame in sent.items():
        recording.add(head_of(seq), frame)
        kept = [fact["seq"] for fact in recording.facts()]
        assert (kept[0], kept[-1]) == (1, seq)
        assert len(kept) <= frames
        assert recording.size <= size
        assert all(recording.frame(one) == sent[one] for one in kept[-3:])
    gaps = {b - a for a, b in pairwise(kept[:-1])}
    assert gaps == {recording.stride}
    assert len(kept) >= 10
    assert [recording.frame(seq) for seq in kept] == [sent[seq] for seq in kept]
    assert recording.frame(kept[1] + 1) is None
    assert recording.between(100, 500, 3)[-1] == sent[max(seq for seq in kept if seq <= 500)]
    assert len(recording.between(1, 777, 3)) == 3
    recording.clear()
    assert recording.facts() == []
    recording.add(head_of(1), b"anew")
    assert recording.frame(1) == b"anew"
    recording.close()


# the server's beginning and end ---------------------------------------------------------------------------------------


def test_ctrl_c_ends_it_quickly_with_its_children(tmp_path):
    """A stream that is open, and a child that does not listen, hold nothing up for long; torch was never imported."""
    with studio(tmp_path, before="jobs.PATIENCE = 0.3") as house:
        lab = house.lab()
        with house.stream(lab) as stream:
            order(stream, hang=True)
            wait_for_the_spare(house)
            children = house.children()
            assert len(children) == 2
            start = time.monotonic()
            house.process.send_signal(signal.SIGINT)
            assert house.process.wait(10) == 0, (tmp_path / "said.txt").read_text()
            assert time.monotonic() - start < 4
        assert all(gone(pid) for pid in children)


def test_no_child_outlives_a_server_that_is_killed(tmp_path):
    with studio(tmp_path) as house:
        house.lab()
        wait_for_the_spare(house)
        children = house.children()
        assert len(children) == 2
        house.process.kill()
        assert all(gone(pid) for pid in children)


def test_the_command_line_opens_in_three_seconds_and_says_where(tmp_path, probed):
    del probed
    command = [sys.executable, "-m", "elegan", "studio", "--no-browser", "--port", "0", "--runs", str(tmp_path)]
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            said = process.stdout.readline()
            link = said.split()[-1]
            assert httpx.get(link, follow_redirects=True, verify=False).status_code in (200, 503)
            assert time.monotonic() - start < 5, "seen 0.8 s on a quiet machine"
        finally:
            process.terminate()
        assert process.wait(10) == 0
        assert process.stdout.read() == "", "one line, once"


def test_a_port_in_use_is_one_sentence(cli):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = cli("studio", "--no-browser", "--port", taken.getsockname()[1])
    assert said.code == 6
    assert "is in use: choose another with --port" in said.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--port", "70000"], 2, "--port 70000 is no port"),
        (["--port", "-1"], 2, "is no port"),
        (["--port", "x"], 2, "--port"),
        (["--host", "no.such.host.invalid"], 6, "cannot be listened on"),
        (["--host", "203.0.113.7"], 6, "cannot be listened on"),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(cli, flags, code, said):
    answer = cli("studio", "--no-browser", *flags)
    assert answer.code == code
    assert said in answer.err.splitlines()[-1]
    assert "Traceback" not in answer.err


def test_an_open_host_is_warned_of(cli):
    """Before anything else: here the address is not ours, and so nothing is opened."""
    assert "the token in the link is all that guards" in cli("studio", "--no-browser", "--host", "203.0.113.7").err


def test_without_the_extra_its_name_is_said(cli, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("elegan.studio.server")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("elegan.studio.server", raising=False)
    monkeypatch.setitem(sys.modules, "starlette", None)
    for name in [name for name in sys.modules if name.startswith("starlette.")]:
        monkeypatch.setitem(sys.modules, name, None)
    said = cli("studio", "--no-browser", "--port", "0")
    assert said.code == 6
    assert 'pip install "elegan[studio]"' in said.line
