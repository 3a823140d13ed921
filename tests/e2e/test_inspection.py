"""The page of an inspection and of a quarantine list: safe, whole, labelled, and drawn by a real browser."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.browser import dump
from tests.oracle.test_page import Parsed


@pytest.fixture
def pages(cli, tmp_path) -> list[Path]:
    """Both pages, of data with an evil name, duplicates and a broken file."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "<script>alert(1)<"
    for k in range(40):
        path = folder / ("cat" if k % 2 else "d'og") / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((32 if k % 4 else 60, 60), Image.Resampling.BICUBIC).save(path)
    shutil.copy(folder / "cat/1.png", folder / 'cat/"><img src=x onerror=alert(1)>.png')
    (folder / "cat/zero.png").write_bytes(b"")
    assert cli("data", "inspect", folder, "--size", 32).code == 1
    assert cli("data", "clean", folder, "--size", 32, "--rules", "corrupt,duplicate").code == 0
    return [Path("inspection/index.html").resolve(), Path("quarantine.html").resolve()]


def test_pages_need_nothing_and_run_nothing_but_their_own(pages):
    for path in pages:
        page = Parsed(path)
        assert len(page.all("script")) == 2
        (policy,) = [m["content"] or "" for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
        images = page.all("img")
        assert images
        assert all((image["src"] or "").startswith("data:image/") and image["alt"] for image in images)
        assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on") or a == "style"]
        assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", path.read_text())


def test_what_was_found_is_on_the_page(pages):
    inspection, quarantine = (Parsed(path) for path in pages)
    text = inspection.text()
    assert "Inspection of" in text
    assert "1 exact duplicate in 1 group" in text
    assert "1 file cannot be read: empty" in text
    assert "cat/zero.png · the file is empty" in text
    drawn = [svg["aria-label"] or "" for svg in inspection.all("svg")]
    assert any(label.startswith("Brightness") for label in drawn)
    assert "Samples of each class; most are cat: 21" in drawn
    assert any(label.startswith("Width, in pixels; most are") and label.endswith(": 31") for label in drawn)
    assert len(inspection.all("rect")) == 2 + 7 * 32
    assert len(inspection.all("details")) >= 2, "findings open by keyboard"
    by_chance, of_classes, twins = 41, 2 * 8, 2
    assert len(inspection.all("img")) >= by_chance + of_classes + twins
    text = quarantine.text()
    assert "corrupt 1" in text
    assert "duplicate 1" in text
    assert len(quarantine.all("img")) == 2, "the duplicate beside its twin; the empty file has no picture"


def test_heights_of_bars_are_the_counts(pages):
    page = pages[0].read_text()
    (figure,) = re.findall(r'aria-label="Samples of each class.*?</svg>', page, re.S)
    heights = [float(height) for height in re.findall(r'<rect [^>]*height="([\d.]+)"', figure)]
    assert heights == pytest.approx([96.0, 96 * 20 / 21], abs=0.1)
    assert re.findall(r"<title>(.*?)</title>", figure) == ["cat: 21", "d&#x27;og: 20"]


@pytest.mark.process
def test_a_browser_shows_both_pages(pages, tmp_path):
    for path in pages:
        said = dump(path.as_uri(), tmp_path, "--enable-logging=stderr")
        assert re.search(r'<button type="button" id="theme">Theme: <b>system</b>', said.stdout), "the script ran"
        assert "CONSOLE" not in said.stderr, "no policy was broken, nothing failed"
        assert "<script>alert(1)" not in said.stdout
