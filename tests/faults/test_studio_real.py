"""The server with the child it is made for: a visit of a page, from the preview to a run opened again."""

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from elegan.run.directory import RunDirectory
from elegan.studio import wire
from tests.faults.studio import heard, messages, studio

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with studio(tmp_path_factory.mktemp("real"), [sys.executable, "-m", "elegan.studio.lab"]) as running:
        yield running


def test_a_visit(house):
    setup = {"data": {"kind": "equation", "x": "cos(2*pi*t)", "y": "sin(2*pi*t)", "spread": 0.0, "samples": 500},
             "benches": [{"game": "gan", "preset": "vector", "options": {"widths": [8]}}]}  # fmt: skip
    with house.client() as client:
        assert "gan" in {game["name"] for game in client.get("/api/catalogue").json()["games"]}
        seen = client.post("/api/points", json=setup["data"]).json()
        assert seen["samples"] == 500
        assert np.abs(np.hypot(*np.array(seen["points"]).T) - 1).max() < 1e-3, "a circle"
        answer = client.post("/api/points", json={**setup["data"], "x": "__import__('os')"})
        assert answer.status_code == 422
        lab = house.lab(**setup)
        with house.stream(lab) as stream:
            assert heard(stream, "opened")["setup"]["batch"] > 0
            stream.send('{"do": "play", "until": 40}')
            seq, live = 0, b""
            for head, message in messages(stream):
                stream.send(json.dumps({"do": "seen", "seq": head.get("seq", 0)}))
                if head["kind"] == "frame" and head["step"] == 40:
                    seq, live = head["seq"], message
                    break
            assert client.get(f"/api/labs/{lab}/frames/{seq}").content == live
            picture = Image.open(io.BytesIO(client.get(f"/api/labs/{lab}/export.png").content))
            assert picture.text["elegan:step"] == "40"
            assert "--steps 40" in client.get(f"/api/labs/{lab}/spelled").json()["commands"][0]
            stream.send('{"do": "save"}')
            (name,) = heard(stream, "saved")["runs"]
        assert RunDirectory.open(house.root / name).read_options()["game"] == "gan"
        (run,) = client.get("/api/runs").json()
        assert (run["name"], run["step"], run["plane"], run["error"]) == (name, 40, True, "")
        other = client.post(f"/api/runs/{run['id']}/open").json()
        with house.stream(other["id"]) as again:
            frame = next(message for head, message in messages(again) if head["kind"] == "frame")
    assert wire.header(frame)["step"] == 40
    then, now = (wire.unpack(one)[1]["0/fake"] for one in (live, frame))
    assert np.array_equal(then, now), "the same players draw the same points"
