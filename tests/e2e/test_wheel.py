"""What is shipped: a wheel, and a source archive that makes the same wheel, hold the lab's page and not its sources."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = "elegan/studio/page/"


def build(root: Path, kind: str, out: Path) -> Path:
    """By the build backend itself, in a process of its own."""
    code = f"import sys, hatchling.build; print(hatchling.build.build_{kind}(sys.argv[1]))"
    out.mkdir(exist_ok=True)
    made = subprocess.run([sys.executable, "-c", code, str(out)], cwd=root, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return out / made.stdout.split()[-1]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A wheel of the working tree, and one of its source archive where there is no npm."""
    folder = tmp_path_factory.mktemp("shipped")
    with pytest.MonkeyPatch.context() as patch:
        wheel = build(ROOT, "wheel", folder / "a")
        archive = build(ROOT, "sdist", folder / "b")
        with tarfile.open(archive) as tar:
            tar.extractall(folder / "unpacked", filter="data")
        (unpacked,) = (folder / "unpacked").iterdir()
        patch.setenv("PATH", str(folder / "nowhere"))
        return wheel, archive, build(unpacked, "wheel", folder / "c")


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_a_wheel_holds_the_page(shipped):
    page = {name for name in names(shipped[0]) if name.startswith(PAGE)}
    assert PAGE + "index.html" in page
    assert any(name.endswith(".js") for name in page)
    assert any(name.endswith(".css") for name in page)
    assert not [name for name in page if name.endswith((".map", ".ts", ".svelte"))]
    assert not [name for name in names(shipped[0]) if "/web/" in name or "node_modules" in name]


def test_a_source_archive_makes_the_same_wheel_without_npm(shipped):
    wheel, _, again = shipped
    assert names(again) == names(wheel)
    with zipfile.ZipFile(wheel) as a, zipfile.ZipFile(again) as b:
        assert all(a.read(name) == b.read(name) for name in names(wheel))


def test_a_source_archive_holds_what_the_page_is_made_of(shipped):
    with tarfile.open(shipped[1]) as tar:
        held = {name.partition("/")[2] for name in tar.getnames()}
    web = "src/elegan/studio/web/"
    assert {web + "package.json", web + "package-lock.json", "page.sh", "hatch_build.py"} <= held
    assert not [name for name in held if "node_modules" in name]
