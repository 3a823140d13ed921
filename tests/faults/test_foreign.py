"""Model files of strangers, converted: nothing in them runs, and what cannot be read is one line, exit 4. FAULTS 18.

The child that reads a file does so under an audit hook here: from the moment it has its limits until its end it may
ask the system for nothing but the two files that it was given.
"""

import ast
import hashlib
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import elegan
from elegan.exporting.foreign import pickled, reading
from elegan.exporting.foreign.files import read_tensors
from tests.conftest import everything
from tests.faults.corpus_foreign import (
    ATTACKS,
    GOOD,
    MALFORMED,
    PICKLED,
    SYSTEM,
    Code,
    archive,
    call,
    code,
    name,
    stream,
    tensor,
    tensors,
    whole,
)  # fmt: skip

SOURCE = Path(elegan.__file__).parent
QUIET = ("builtins.id", "cpython._PySys_ClearAuditHooks")
AUDITED = f"""
import os, sys
sys.path.append(sys.argv[1])
from elegan.exporting.foreign import child

def heard(event, given):
    if event not in {QUIET!r} and not (event == "open" and type(given[0]) is int):
        os._exit(77)

limit = child.restrict
def restrict(*given, **named):
    limit(*given, **named)
    sys.addaudithook(heard)

child.restrict = restrict
child.main()
"""
UNHEARD = reading.START.replace("; ", "\n")


def doing(what: str, start: str = AUDITED) -> str:
    """A child that does something else where it would read."""
    return start.replace("child.main()", f"import os\nchild.read_tensors = lambda content: {what}\nchild.main()")


UNPICKLED = """
import os, pickle, sys
for path in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            pickle.loads(open(path, "rb").read())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.fixture
def audited(monkeypatch):
    monkeypatch.setattr(reading, "START", AUDITED)


def order(mark: Path) -> tuple[str, str]:
    """What would create a file: a command of the shell, and a line of Python."""
    return f"touch {mark}", f"open({str(mark)!r}, 'w').close()"


def refused(said, path: Path) -> str:
    """The one line of a refusal, whose file it names."""
    assert said.code == 4, said
    assert "ended by" not in said.line
    assert said.line.startswith(f"{path} cannot be converted: ")
    return said.line


# ---- attacks


def test_each_attack_would_succeed_where_a_pickle_is_unpickled(tmp_path):
    marks = []
    for k, attack in enumerate(PICKLED.values()):
        marks.append(tmp_path / f"mark{k}")
        (tmp_path / f"{k}.pkl").write_bytes(attack(*order(marks[-1])))
    paths = [str(tmp_path / f"{k}.pkl") for k in range(len(marks))]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([sys.executable, "-c", UNPICKLED, *paths], check=True, **quiet)
    ends = time.monotonic() + 5
    while time.monotonic() < ends and not all(mark.exists() for mark in marks):  # some wait for nobody
        time.sleep(0.02)
    assert [key for key, mark in zip(PICKLED, marks, strict=True) if not mark.exists()] == []
    assert len(ATTACKS) >= 40


@pytest.mark.usefixtures("audited")
@pytest.mark.parametrize("kind", ATTACKS)
def test_an_attack_runs_nothing_and_is_refused(tmp_path, cli, kind):
    mark, path = tmp_path / "mark", tmp_path / "evil.pth"
    path.write_bytes(ATTACKS[kind](*order(mark)))
    before = everything(tmp_path)
    line = refused(cli("convert", path), path)
    assert everything(tmp_path) == before, "no mark, and nothing is left behind"
    if kind in ("os.system", "posix.system", "archive", "stream", "among tensors", "archive, hooks", "memo"):
        assert re.search(r"it asks to call '(os|posix)\.system', which no model needs: not run", line)
    assert ("which is code" in line) == (kind == "TorchScript")
    with pytest.raises((ValueError, zipfile.BadZipFile)):  # without the child and its limits too
        read_tensors(path.read_bytes())
    assert not mark.exists()


@pytest.mark.usefixtures("audited")
def test_source_code_beside_weights_is_not_run(tmp_path, cli):
    """StyleGAN2-ADA's files hold the source of their classes, and old files of torch that of whole networks."""
    mark = tmp_path / "mark"
    _, text = order(mark)
    one = Code(code(("storage", name("torch", "FloatStorage"), "0", "cpu", 4, None)) + b"Q")
    parameters = {"w": tensor(call(name("torch.storage", "_load_from_bytes"), stream(one)))}
    about = {"type": "class", "version": 6, "module_src": text, "class_name": "G", "state": net_of(parameters)}
    rebuilt = call(name("torch_utils.persistence", "_reconstruct_persistent_obj"), about)
    (tmp_path / "ada.pkl").write_bytes(whole({"G": rebuilt}))
    of_class = code(("module", name("evil", "Net"), "evil.py", text)) + b"Q"
    network = Code(of_class + b")\x81" + code(net_of({"w": tensor(one)})) + b"b")
    (tmp_path / "old.pth").write_bytes(stream(network))
    for file, key in (("ada.pkl", "G.w"), ("old.pth", "w")):
        said = cli("convert", tmp_path / file, "--layout", "plain")
        assert (said.code, said.err) == (0, "")
        made = safetensors.torch.load_file((tmp_path / file).with_suffix(".safetensors"))
        assert {n: t.tolist() for n, t in made.items()} == {key: [0, 1, 2, 3]}
    assert not mark.exists()


def net_of(parameters: dict) -> dict:
    return {"_parameters": parameters, "_buffers": {}, "_modules": {}}


# ---- what makes no sense


@pytest.mark.usefixtures("audited")
@pytest.mark.parametrize("kind", [kind for kind in MALFORMED if kind not in ("many marks", "three million")])
def test_a_malformed_file_is_refused_for_what_it_is(tmp_path, cli, kind):
    content, reason = MALFORMED[kind]
    path = tmp_path / "odd.pth"
    path.write_bytes(content)
    before = everything(tmp_path)
    assert re.search(reason, refused(cli("convert", path), path))
    assert everything(tmp_path) == before


@pytest.mark.parametrize("kind", ["many marks", "three million"])
def test_a_pickle_of_too_many_instructions_is_refused(monkeypatch, kind):
    monkeypatch.setattr(pickled, "STEPS", 10_000)
    content, reason = MALFORMED[kind]
    with pytest.raises(ValueError, match=reason):
        read_tensors(content)


def test_the_good_files_of_the_corpus_are_good(tmp_path, cli):
    """So that each malformed one is refused for what was done to it."""
    for content in (archive(), stream(), tensors({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}})):
        path = tmp_path / f"{hashlib.sha256(content).hexdigest()[:8]}.pth"
        path.write_bytes(content)
        assert cli("convert", path, "--layout", "plain").code == 0
        made = safetensors.torch.load_file(path.with_suffix(".safetensors"))
        assert {n: t.tolist() for n, t in made.items()} == {"w": [0, 1, 2, 3]}


def test_what_is_no_file_is_refused(tmp_path, cli, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "closed").mkdir()
    monkeypatch.chdir(tmp_path)
    devices = [path for path in ("/dev/zero", "/dev/full") if Path(path).is_char_device()]
    for path in ("pipe", "closed", *devices, "missing.pth", "x" * 300, "closed/../pipe"):
        said = cli("convert", path, "--out", "made.safetensors")
        assert said.code == 4, path
        assert said.line.startswith(f"{path} is no file.") or "cannot be read" in said.line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["closed", "here", "pipe"]


def samples() -> dict[str, bytes]:
    """A file of each kind, as its own library writes it."""
    state = {"main.0.weight": torch.arange(12.0).reshape(3, 4), "main.0.bias": torch.ones(3).bfloat16()}
    made = {"safetensors": safetensors.torch.save(state)}
    for kind, new in (("archive", True), ("stream", False)):
        file = io.BytesIO()
        torch.save(state, file, _use_new_zipfile_serialization=new)
        made[kind] = file.getvalue()
    made["pickle"] = pickle.dumps({**state, "a": np.ones((2, 2), "f4")}, 4)
    return made


SAMPLES = samples()
ODD = (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, EOFError, RecursionError,
       NotImplementedError, RuntimeError, zipfile.BadZipFile, MemoryError, struct.error)  # fmt: skip


def read_or_refused(content: bytes) -> bool:
    """Whether a file reads; its tensors are then no larger than it, and their bytes are there. Nothing is imported."""
    modules = set(sys.modules)
    try:
        made = read_tensors(content)
    except ODD:
        return False
    finally:
        assert set(sys.modules) == modules
    assert sum(len(view.packed()) for view in made.values()) <= len(content)
    assert all(len(view.packed()) == view.size for view in made.values())
    return True


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_file_cut_at_each_tenth_is_refused(tmp_path, cli, kind):
    content = SAMPLES[kind]
    assert read_or_refused(content)
    for tenth in range(10):
        assert not read_or_refused(content[: len(content) * tenth // 10])
    path = tmp_path / "cut.pth"
    path.write_bytes(content[: len(content) * 9 // 10])
    refused(cli("convert", path), path)


HEADS = [b"", b"\x80\x02", b"\x80\x04", b"PK\3\4", b"\2\0\0\0\0\0\0\0{"]
FUZZ = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@FUZZ
@given(
    kind=st.sampled_from(sorted(SAMPLES)),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_a_file_with_any_bytes_changed_reads_or_is_refused(kind, changes):
    content = bytearray(SAMPLES[kind])
    for place, value in changes:
        content[place % min(len(content), 2_000)] = value
    read_or_refused(bytes(content))


@FUZZ
@given(
    head=st.sampled_from([b"", b"\x80\x02", b"\x80\x04", b"PK\3\4", b"\2\0\0\0\0\0\0\0{"]), body=st.binary(max_size=400)
)
def test_any_bytes_read_or_are_refused(head, body):
    read_or_refused(head + body)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    | st.tuples(inner, inner),
    max_leaves=8,
)  # fmt: skip


@FUZZ
@given(maker=st.sampled_from(sorted(pickled.CALLS)), given=st.lists(VALUES, max_size=8).map(tuple), state=VALUES)
def test_a_known_call_of_anything_reads_or_is_refused(maker, given, state):
    made = call(name(*maker.split(" ")), *given)
    read_or_refused(whole({"w": Code(made + code(state) + b"b")}))


# ---- the child's limits


def test_a_child_that_goes_on_and_on_is_ended(tmp_path, cli, monkeypatch):
    path = tmp_path / "good.pth"
    path.write_bytes(archive())
    busy = AUDITED.replace(
        "child.main()", "child.read_tensors = lambda content: sum(0 for _ in iter(int, 1)); child.main()"
    )
    monkeypatch.setattr(reading, "START", busy)
    monkeypatch.setattr(reading, "SECONDS", 1)
    said = cli("convert", path)
    assert said.code == 4
    assert re.search(r"what read it, under limits, was ended by SIG(KILL|XCPU)\.$", said.line)
    monkeypatch.setattr(reading, "START", "import time; time.sleep(60)")
    monkeypatch.setattr(reading, "PATIENCE", 0.2)
    said = cli("convert", path)
    assert (said.code, said.line) == (4, f"{path} cannot be converted: reading it took more than 0.2 s.")


def test_a_child_that_takes_too_much_says_so(tmp_path, cli, monkeypatch):
    path = tmp_path / "good.pth"
    path.write_bytes(archive())
    monkeypatch.setattr(reading, "START", doing("bytes(1 << 30)"))
    assert "takes too much memory" in refused(cli("convert", path), path)


def test_a_child_that_crashes_is_one_line(tmp_path, cli, monkeypatch):
    path = tmp_path / "good.pth"
    path.write_bytes(archive())
    for way, said in (("os.abort()", "SIGABRT"), ("os._exit(3)", "code 3"), ("raise SystemExit(9)", "code 9")):
        monkeypatch.setattr(reading, "START", f"import os; {way}")
        answer = cli("convert", path)
        assert answer.code == 4
        assert answer.line.endswith(f"was ended by {said}.")
    monkeypatch.setattr(reading, "START", "pass")  # nothing written is no safetensors either
    refused(cli("convert", path), path)


FORBIDDEN = {
    "a file": "open('{mark}', 'w')",
    "a file through the system": "os.open('{mark}', os.O_CREAT | os.O_WRONLY)",
    "a process": "os.fork()",
    "a command": "os.system('touch {mark}')",
    "an import": "__import__('decimal')",
    "a socket": "__import__('_socket').socket()",
    "code": "exec('1')",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_audit_hears_what_an_attack_would_do(tmp_path, cli, monkeypatch, what):
    """The hook of these tests works: were something run, the child would end by code 77."""
    path, mark = tmp_path / "good.pth", tmp_path / "mark"
    path.write_bytes(archive())
    monkeypatch.setattr(reading, "START", doing(FORBIDDEN[what].format(mark=mark)))
    said = cli("convert", path)
    assert said.line.endswith("was ended by code 77.")
    assert not mark.exists()


@pytest.mark.parametrize("what", ["a file", "a file through the system", "an import", "a socket"])
def test_the_child_cannot_open_anything_more(tmp_path, cli, monkeypatch, what):
    """Without the hook: the limits alone."""
    path, mark = tmp_path / "good.pth", tmp_path / "mark"
    path.write_bytes(archive())
    monkeypatch.setattr(reading, "START", doing(FORBIDDEN[what].format(mark=mark), UNHEARD))
    said = cli("convert", path)
    assert said.code in (4, 6)
    assert re.search("Too many open files|No module named|ImportError", said.line)
    assert not mark.exists()


def test_a_full_disk_is_exit_6_and_leaves_nothing(tmp_path, cli, monkeypatch):
    path = tmp_path / "good.pth"
    path.write_bytes(archive())
    before = everything(tmp_path)
    monkeypatch.setattr(reading, "HEADER", -2 * len(archive()) + 8)  # bytes that the child may write
    said = cli("convert", path, "--layout", "plain")
    assert (said.code, said.line) == (
        6, f"{path.with_suffix('.safetensors')} cannot be written (File too large): choose another --out."
    )  # fmt: skip
    assert everything(tmp_path) == before


# ---- nowhere else


@pytest.mark.parametrize("verb", ["sample", "resume"])
@pytest.mark.parametrize("kind", ["pickle", "archive", "stream", "safetensors"])
def test_no_such_file_is_taken_for_weights_of_a_checkpoint(tiny_run, tmp_path, cli, verb, kind):
    """Also where the manifest was forged to vouch for it."""
    mark = tmp_path / "mark"
    evil = call(SYSTEM, *order(mark)[:1])
    content = {
        "pickle": whole({"w": evil}),
        "archive": archive({"w": GOOD, "x": evil}),
        "stream": stream({"w": evil}),
        "safetensors": MALFORMED["tensors, beyond"][0],
    }[kind]
    for folder in (tiny_run / "checkpoints").glob("step-????????"):
        manifest = json.loads((folder / "manifest.json").read_text())
        for file in ("weights.safetensors", "average.safetensors"):
            (folder / file).write_bytes(content)
            manifest["files"][file] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        del manifest["sha256"]
        seal = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
        (folder / "manifest.json").write_text(json.dumps({**manifest, "sha256": seal}))
    said = cli(verb, tiny_run)
    assert said.code == 4
    assert "is no safetensors file" in said.line
    assert not mark.exists()


# what may unpickle: files of published checksums, or torch's own restricted reader; what may evaluate: checked names
STATED = {
    "embedders/vgg16.py": {"pickle"},
    "embedders/inception.py": {"torch.load"},
    "embedders/efflite0.py": {"torch.load"},
    "options.py": {"compile", "eval"},
}
UNSAFE_MODULES = {"pickle", "_pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "runpy", "code"}
UNSAFE_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "torch.load",
    "torch.jit.load",
    "torch.export.load",
    "torch.hub.load",
}


def unsafe(tree: ast.AST) -> set[str]:
    """What a module imports or calls that could run what a file holds."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found |= {n for n in names if n.split(".")[0] in UNSAFE_MODULES}
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            by_word = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if (called in UNSAFE_CALLS and by_word.get("weights_only") != "True") or called == "torch.load":
                found.add(called)
            if by_word.get("allow_pickle", "False") != "False":
                found.add("allow_pickle")
    return found


def test_nothing_else_in_elegan_unpickles_or_evaluates():
    found = {path.relative_to(SOURCE).as_posix(): unsafe(ast.parse(path.read_text())) for path in SOURCE.rglob("*.py")}
    assert {path: names for path, names in found.items() if names} == STATED
    assert unsafe(ast.parse("import pickle as p\nnumpy.load(f, allow_pickle=True)\ntorch.load(f)\nexec(x)")) == {
        "pickle", "allow_pickle", "torch.load", "exec",
    }  # fmt: skip
