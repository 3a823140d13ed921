"""The page a run leaves: told where it is, its command repeats the run to the bit, a real browser draws it."""

import re
import shlex
from html import unescape
from pathlib import Path

import pytest

import elegan
from elegan.run import events
from tests.browser import dump
from tests.conftest import TINY, tensors
from tests.oracle.test_page import Parsed, rewrite


def commands(page: Path) -> list[list[str]]:
    """The command lines a page prints, as a shell reads them."""
    found = re.findall(r"<code>(.*?)</code>", page.read_text(encoding="utf-8"), re.S)
    return [shlex.split(unescape(re.sub(r"</?span>", "", line))) for line in found]


@pytest.mark.parametrize(
    ("flags", "out"),
    [
        (["--seed", 7, "--shards", 2, "--lr", "1e-3", "--no-judge-norm", "--loss", "hinge", "--size", 16], "one"),
        (["--images", 50, "--half-life-images", 0, "--stem"], "a 'b' & <c>"),
    ],
)
def test_the_printed_command_repeats_the_run_to_the_bit(cli, small, tmp_path, monkeypatch, flags, out):
    steps = [] if "--images" in flags else ["--steps", 3]
    assert cli("train", "dcgan", small, *TINY, *steps, *flags, "--out", out).code == 0
    again, further, draw = commands(Path(out) / "index.html")
    assert again[0] == "elegan"
    assert cli(*again[1:], "--out", "again").code == 0
    assert tensors(Path("again")) == tensors(Path(out))
    monkeypatch.chdir(tmp_path)  # the others work from anywhere
    assert cli(*further[1:]).code == 0
    assert cli(*draw[1:]).code == 0


def test_presets_of_the_data_are_in_the_command(cli):
    """`gan ring` takes the preset for vectors by itself; the command spells it out and takes none."""
    assert cli("train", "gan", "ring", "--steps", 2, "--threads", 1, "--precision", "fp32", "--out", "run").code == 0
    (again, *_) = commands(Path("run/index.html"))
    assert again[again.index("--preset") + 1] == "none"
    assert cli(*again[1:], "--out", "again").code == 0
    assert tensors(Path("again")) == tensors(Path("run"))


def test_the_terminal_says_where_the_page_is(cli, small):
    said = cli("train", "dcgan", small, *TINY, "--steps", 2, "--out", "run")
    assert "page: run/index.html" in said.out.splitlines()
    assert "done after step 2. Look at run/index.html" in said.out.splitlines()
    assert Path("run/index.html").is_file()


def test_in_python(tiny_run):
    (tiny_run / "index.html").unlink()
    assert elegan.page(tiny_run) == tiny_run / "index.html"
    assert (tiny_run / "index.html").is_file()


@pytest.mark.process
def test_a_browser_draws_the_curves(tiny_run, tmp_path):
    lines = list(events.read(tiny_run / "events.jsonl"))
    next(line for line in lines if line["kind"] == "step" and line["step"] == 3)["terms"]["G.adv"] = "nan"
    rewrite(tiny_run, lines)
    page = elegan.page(tiny_run)
    dom = dump(page.as_uri(), tmp_path).stdout
    panels = Parsed(page).data()["panels"]
    names = [curve["name"] for curves in panels.values() for curve in curves]
    assert {"D.adv", "G.adv", "D.grad", "G.grad", "D.lr", "G.lr"} <= {*names}
    paths = re.findall(r'class="curve" d="([^"]*)"', dom)
    assert len(paths) == len(names)
    whole = [path for path in paths if re.fullmatch(r"M[\d.]+ [\d.]+(L[\d.]+ [\d.]+){3}", path)]
    assert len(whole) == len(names) - len(panels["speeds"]) - 1, "four steps each"
    assert len([path for path in paths if re.fullmatch(r"M[^ML]+L[^ML]+M[^ML]+", path)]) == 1, "a gap is no line"
    assert 'aria-label="Terms of the losses over 4 steps: D.adv, last ' in dom
    assert re.search(r'<button type="button" id="theme">Theme: <b>system</b>', dom), "the script ran to its end"
    assert len(re.findall(r'class="at"[^>]*>step 4<', dom)) == sum(map(bool, panels.values())), (
        "the cursor marks the step of the samples shown"
    )
