"""Messages of the lab, byte by byte, and setups and commands as they are checked."""

import io
import json
import struct
import subprocess
import sys

import numpy as np
import pytest

from elegan.errors import DataError, OptionError
from elegan.studio import setup, wire


def test_a_message_is_what_its_specification_says():
    """Read with struct alone."""
    points = np.array([[0.5, -1.0], [0.25, 0.0], [1.0, 0.125]])
    message = wire.pack({"kind": "frame", "step": 3}, {"0/fake": points, "0/surface": np.arange(9, dtype=np.uint8)})
    (length,) = struct.unpack_from("<I", message)
    assert (4 + length) % 8 == 0
    head = json.loads(message[4 : 4 + length])
    assert head["kind"] == "frame"
    assert head["step"] == 3
    fake, surface = head["arrays"]
    assert fake == {"name": "0/fake", "type": "i2", "shape": [3, 2], "scale": 1 / 32_767, "at": 0}
    numbers = struct.unpack_from("<6h", message, 4 + length)
    assert np.allclose(np.array(numbers) * fake["scale"], points.ravel(), atol=0.5 / 32_767)
    assert surface == {"name": "0/surface", "type": "u1", "shape": [9], "scale": 1.0, "at": 16}  # 12 bytes, padded
    assert struct.unpack_from("<9B", message, 4 + length + 16) == tuple(range(9))
    assert len(message) == 4 + length + 16 + 16


@pytest.mark.parametrize("kind", ["empty", "zero", "huge", "not finite"])
def test_numbers_of_any_size_come_through(kind):
    points = {
        "empty": np.zeros((0, 2)),
        "zero": np.zeros((4, 2)),
        "huge": np.array([[1e30, -2e30]]),
        "not finite": np.array([[np.nan, 2.0], [np.inf, -1.0]]),
    }[kind]
    head, arrays = wire.unpack(wire.pack({}, {"points": points}))
    expected = np.where(np.isfinite(points), points, 0)
    assert arrays["points"].shape == points.shape
    assert np.abs(arrays["points"] - expected).max(initial=0) <= np.abs(expected).max(initial=0) / 32_767
    assert head.keys() == {"arrays"}


def test_a_header_holds_no_nan():
    with pytest.raises(ValueError, match="JSON compliant"):
        wire.pack({"loss": float("nan")})


def test_on_a_pipe_a_message_stands_behind_its_length():
    pipe = io.BytesIO()
    for k in range(3):
        wire.write(pipe, wire.pack({"k": k}))
    content, found = pipe.getvalue(), []
    while content:
        (length,) = struct.unpack_from("<I", content)
        found.append(wire.header(content[4 : 4 + length])["k"])
        content = content[4 + length :]
    assert found == [0, 1, 2]


WHOLE = wire.pack({"kind": "frame"}, {"points": np.ones((4, 2))})


@pytest.mark.parametrize(
    "message",
    [b"", b"\x01", WHOLE[:20], WHOLE[:-9], b"\xff\xff\xff\xff" + WHOLE[4:], WHOLE.replace(b'"i2"', b'"f8"'),
     WHOLE.replace(b'"shape":[4,2]', b'"shape":[4,9]'), WHOLE.replace(b'"at":0', b'"at":9'),
     WHOLE.replace(b'"at":0', b'"at":z'), wire.pack({})[:4] + b"[1]     "],
)  # fmt: skip
def test_what_is_no_message_is_refused(message):
    with pytest.raises(DataError, match="damaged"):
        wire.unpack(message)


def test_an_empty_setup_is_the_labs_own():
    found = setup.setup("{}")
    assert found == setup.Setup()
    assert found.benches == [setup.DEFAULT]
    assert setup.setup(found.model_dump_json()) == found


DRAWN = {"kind": "drawn", "points": [[0.1, 0.2]]}


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ("{", "all of it: Invalid JSON"),
        ("[]", "should be an object"),
        ("[" * 100_000, "all of it"),
        ('{"seed": "5"}', "seed: Input should be a valid integer"),
        ('{"seed": true}', "seed"),
        ('{"seed": -1}', "seed: Input should be greater than or equal to 0"),
        ('{"seed": 2147483648}', "seed: Input should be less than"),
        ('{"batch": 0}', "batch"),
        ('{"batch": 4097}', "batch"),
        ('{"version": 2}', "version"),
        ('{"sed": 1}', "sed: Extra inputs are not permitted"),
        ('{"benches": []}', "benches: List should have at least 1 item"),
        (json.dumps({"benches": [{"game": "gan"}] * 5}), "benches: List should have at most 4"),
        ('{"benches": [{"game": "gan", "options": {"lr": NaN}}]}', "benches.0.options.lr"),
        ('{"benches": [{"game": "gan", "options": {"lr": {"a": 1}}}]}', "benches.0.options.lr"),
        (json.dumps({"benches": [{"game": "gan", "options": {"widths": [1] * 33}}]}), "benches.0.options.widths"),
        ('{"benches": [{"game": "' + "g" * 65 + '"}]}', "benches.0.game"),
        ('{"data": {"kind": "url", "url": "file:///etc/passwd"}}', "data: Input tag 'url'"),
        ('{"data": {"kind": "preset", "name": "ring", "path": "/etc/passwd"}}', "data.preset.path: Extra inputs"),
        (json.dumps({"data": DRAWN | {"points": [[0, 1.5]]}}), "data.drawn.points.0.1"),
        (json.dumps({"data": DRAWN | {"points": [[0]]}}), "data.drawn.points.0"),
        (json.dumps({"data": DRAWN | {"points": []}}), "data.drawn.points"),
        (json.dumps({"data": DRAWN | {"points": [[0, 0]] * 5_001}}), "data.drawn.points"),
        (json.dumps({"data": DRAWN | {"spread": 0}}), "data.drawn.spread"),
        (json.dumps({"data": DRAWN | {"samples": 50_001}}), "data.drawn.samples"),
        (json.dumps({"data": {"kind": "csv", "text": ""}}), "data.csv.text"),
        (json.dumps({"data": {"kind": "equation", "x": "t" * 201, "y": "t"}}), "data.equation.x"),
    ],
)
def test_a_setup_that_is_wrong_is_refused_in_a_line_that_names_the_place(wrong, where):
    with pytest.raises(OptionError) as refused:
        setup.setup(wrong)
    assert where in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "right",
    [
        {"do": "open"}, {"do": "open", "setup": {"seed": 3}}, {"do": "play"}, {"do": "play", "until": 10, "rate": 5.5},
        {"do": "pause"}, {"do": "step", "who": "D"}, {"do": "slow"}, {"do": "change", "bench": 1, "change": {"k": 3}},
        {"do": "view", "average": True, "points": 64}, {"do": "measure", "what": "gap"}, {"do": "save"},
        {"do": "seen", "seq": 4},
    ],
)  # fmt: skip
def test_commands(right):
    found = setup.command(json.dumps(right)).model_dump()
    assert {name: found[name] for name in right if name != "setup"} == {n: v for n, v in right.items() if n != "setup"}


@pytest.mark.parametrize(
    "wrong",
    [
        {}, {"do": "load", "path": "/etc"}, {"do": "catalogue"}, {"do": "play", "until": 0}, {"do": "play", "rate": 0},
        {"do": "step", "who": "E"}, {"do": "change", "change": {}}, {"do": "change", "bench": 4, "change": {"k": 1}},
        {"do": "view", "points": 2_000}, {"do": "seen"}, {"do": "save", "path": "/tmp/x"}, {"do": "exec", "code": "1"},
    ],
)  # fmt: skip
def test_what_is_no_command_is_refused(wrong):
    with pytest.raises(OptionError, match=r"^the command does not read: "):
        setup.command(json.dumps(wrong))


def test_neither_needs_torch():
    code = "import sys, elegan.studio.setup, elegan.studio.wire; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
