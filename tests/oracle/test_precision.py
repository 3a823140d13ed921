"""The choice of precision, threads and device: asks are honoured, and the probe is made once and remembered."""

import json

import pytest
import torch
from torch import nn

from elegan.errors import OptionError, ResourceError
from elegan.training import precision
from elegan.training.precision import Choice, choose
from tests.conftest import write_probe

TIMES = [("fp32", 1, 0.020), ("bf16", 1, 0.010), ("fp32", 4, 0.008), ("bf16", 4, 0.004), ("fp32", 8, 0.009),
         ("bf16", 8, 0.0039)]  # fmt: skip


@pytest.fixture
def never(monkeypatch):
    """Nothing may be measured."""
    monkeypatch.setattr(precision, "probe", lambda *_: pytest.fail("probed"))


@pytest.fixture
def counted(monkeypatch):
    made = []

    def probe():
        made.append(1)
        return {(kind, threads): seconds for kind, threads, seconds in TIMES}

    monkeypatch.setattr(precision, "probe", probe)
    return made


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
@pytest.mark.parametrize("threads", [1, 3])
def test_what_is_asked_is_used_unprobed(tmp_path, never, kind, threads):
    choice = choose("cpu", kind, threads, tmp_path / "none")
    assert choice == Choice("cpu", kind, threads, "as asked")
    assert not (tmp_path / "none").exists()


def test_a_written_probe_decides(tmp_path, never):
    cache = write_probe(tmp_path / "probe.json", TIMES)
    choice = choose("cpu", cache=cache)
    assert (choice.device, choice.precision, choice.threads) == ("cpu", "bf16", 4)  # 8 threads are not clearly faster
    assert "4.0 ms" in choice.why
    assert "20.0 ms" in choice.why
    assert choose("cpu", "fp32", cache=cache).threads == 4
    assert choose("cpu", "fp32", cache=cache).precision == "fp32"
    assert choose("cpu", threads=1, cache=cache).threads == 1


def test_simpler_wins_unless_another_is_clearly_faster(tmp_path, never):
    cache = write_probe(tmp_path / "probe.json", [("fp32", 1, 0.010), ("bf16", 1, 0.0095), ("fp32", 2, 0.0091)])
    assert choose("cpu", cache=cache).precision == "fp32"
    assert choose("cpu", cache=cache).threads == 1


@pytest.mark.parametrize(("asked", "measured"), [(1, 1), (2, 1), (3, 1), (4, 4), (6, 4), (8, 8), (64, 8)])
def test_any_number_of_threads_can_be_asked_for(tmp_path, never, asked, measured):
    """On a machine where 1, 4 and 8 were measured; the precision is that of the nearest measured below."""
    times = [(kind, n, s * (0.1 if (kind, n) == ("fp32", measured) else 1)) for kind, n, s in TIMES]
    choice = choose("cpu", threads=asked, cache=write_probe(tmp_path / "probe.json", times))
    assert (choice.threads, choice.precision) == (asked, "fp32")
    times = [(kind, n, s * (0.1 if (kind, n) == ("bf16", measured) else 1)) for kind, n, s in TIMES]
    choice = choose("cpu", threads=asked, cache=write_probe(tmp_path / "probe.json", times))
    assert (choice.threads, choice.precision) == (asked, "bf16")


def test_the_probe_is_made_once_and_remembered(tmp_path, counted):
    cache = tmp_path / "deep" / "er" / "probe.json"
    first = choose("cpu", cache=cache)
    assert counted == [1]
    kept = json.loads(cache.read_text())
    assert kept["machine"] == precision.machine()
    assert sorted(map(tuple, kept["seconds"])) == sorted(TIMES)
    assert choose("cpu", cache=cache) == first
    assert counted == [1]
    assert [p.name for p in cache.parent.iterdir()] == ["probe.json"], "no temporary left"


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b"3", b"\xff\xfe\x00", b'{"machine": "MACHINE"}',
        b'{"machine": "MACHINE", "seconds": []}', b'{"machine": "MACHINE", "seconds": null}',
        b'{"machine": "MACHINE", "seconds": [["fp32", 1]]}', b'{"machine": "MACHINE", "seconds": [["fp32", 1, "x"]]}',
        b'{"machine": "MACHINE", "seconds": [["fp32", 1, NaN]]}',
        b'{"machine": "MACHINE", "seconds": [["bf16", 1, 1.0]]}',
        b'{"machine": "MACHINE", "seconds": [["fp32", 1, 0.1], ["fp8", 0, 0.001]]}',
        b'{"machine": "another machine", "seconds": [["fp32", 1, 0.1], ["bf16", 1, 0.001]]}',
    ],
)  # fmt: skip
def test_a_damaged_or_foreign_cache_is_measured_anew(tmp_path, counted, content):
    cache = tmp_path / "probe.json"
    cache.write_bytes(content.replace(b"MACHINE", precision.machine().encode()))
    choice = choose("cpu", cache=cache)
    assert (choice.precision, choice.threads) == ("bf16", 4)
    assert counted == [1]
    assert choose("cpu", cache=cache) == choice
    assert counted == [1], "the cache is whole again"


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path, counted):
    (tmp_path / "file").write_text("")
    assert choose("cpu", cache=tmp_path / "file" / "below" / "probe.json").threads == 4
    (tmp_path / "folder").mkdir()
    assert choose("cpu", cache=tmp_path / "folder").threads == 4
    assert counted == [1, 1]


@pytest.mark.parametrize(
    ("asks", "error", "words"),
    [
        (dict(device="tpu"), OptionError, "--device 'tpu'"),
        (dict(device="cpu:x"), OptionError, "--device 'cpu:x'"),
        (dict(device=""), OptionError, "--device ''"),
        (dict(device="meta"), OptionError, "--device 'meta' is not supported"),
        (dict(device="cuda:999"), ResourceError, "--device cuda:999: this machine has"),
        (dict(precision="fp8"), OptionError, "--precision 'fp8' is not one of auto, fp32, bf16"),
        (dict(precision=""), OptionError, "--precision ''"),
        (dict(threads=0), OptionError, "--threads 0 must be 1 or more"),
        (dict(threads=-2, precision="fp32"), OptionError, "--threads -2"),
    ],
)
def test_nonsense_is_refused_in_one_line(never, asks, error, words):
    with pytest.raises(error) as caught:
        choose(**asks)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has CUDA")
def test_cuda_where_there_is_none_is_a_lack(never):
    with pytest.raises(ResourceError, match="0 CUDA devices; use cpu"):
        choose("cuda")


def test_the_real_probe_measures_and_leaves_no_trace(monkeypatch):
    monkeypatch.setattr(precision, "cores", lambda: 1)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    times = precision.probe(repeats=1)
    assert set(times) == {("fp32", 1), ("bf16", 1)}
    assert all(0 < seconds < 10 for seconds in times.values())
    assert torch.get_rng_state().equal(before)
    assert torch.get_num_threads() == 1


def test_bf16_is_inside_the_players_only():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 64)
            self.seen = None

        def forward(self, x, fail=False):
            y = self.layer(x)
            self.seen = y.dtype
            if fail:
                raise ValueError
            return y, [y]

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.G = Net()
            self.parts = nn.ModuleList([Net()])

    x = torch.randn(8, 64)
    exact = Pair()
    precision.install(exact, "fp32")
    assert exact.G(x)[0].dtype == torch.float32
    assert exact.G.seen == torch.float32
    game = Pair()
    precision.install(game, "bf16")
    for part in (game.G, game.parts[0]):
        out, (inner,) = part(x)
        assert part.seen == torch.bfloat16
        assert out.dtype == inner.dtype == torch.float32
        assert not out.equal(part.layer(x))
    with pytest.raises(ValueError):  # noqa: PT011
        game.G(x, fail=True)
    assert not torch.is_autocast_enabled("cpu"), "an error closes the region too"
    assert (x @ x.T).dtype == torch.float32


@pytest.mark.parametrize(
    ("running", "cpus", "mine", "idle"), [(1, 4, 4, 4), (3, 4, 4, 2), (9, 4, 4, 1), (33, 64, 2, 1)]
)
def test_only_idle_cores_count(monkeypatch, tmp_path, running, cpus, mine, idle):
    load = tmp_path / "loadavg"
    load.write_text(f"0.5 0.4 0.3 {running}/200 4711\n")
    monkeypatch.setattr(precision, "LOAD", load)
    monkeypatch.setattr(precision, "cores", lambda: mine)
    monkeypatch.setattr(precision.os, "cpu_count", lambda: cpus)
    assert precision.idle_cores(seconds=0) == idle


def test_a_busy_machine_gets_fewer_threads_and_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "cores", lambda: 4)
    times = [(kind, threads, 0.01 / threads) for kind in ("fp32", "bf16") for threads in (1, 2, 4)]
    cache = write_probe(tmp_path / "probe.json", times)
    assert choose("cpu", cache=cache).threads == 4
    monkeypatch.setattr(precision, "idle_cores", lambda: 2)
    busy = choose("cpu", cache=cache)
    assert busy.threads == 2
    assert "2 of 4 cores are busy" in busy.why
    assert choose("cpu", threads=4, cache=cache).threads == 4


def test_a_probe_of_a_busy_machine_is_not_remembered(monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "probe", lambda: {("fp32", 1): 0.02, ("bf16", 1): 0.01})
    monkeypatch.setattr(precision, "cores", lambda: 4)
    monkeypatch.setattr(precision, "idle_cores", lambda: 3)
    cache = tmp_path / "probe.json"
    assert choose("cpu", cache=cache).precision == "bf16"
    assert not cache.exists()
