"""The front door to embedders, and networks of one's own, against the modules that they were exported from."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from elegan.embedders import names, natural, open_embedder, weights
from elegan.embedders.pt2 import Graph
from elegan.embedders.resize import resize
from elegan.spec import Field, Spec


class Small(nn.Module):
    """Features and logits, with every kind of tensor a file may keep: parameters, buffers, constants."""

    def __init__(self, channels: int = 3):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, 8, 3), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)
        self.register_buffer("shift", torch.randn(8))
        self.register_buffer("gain", torch.rand(8) + 1, persistent=False)
        self.scale = torch.rand(1)
        nn.init.normal_(self.norm.running_mean)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.norm(self.conv(x)).relu().mean((2, 3)) * self.gain + self.shift
        return features, self.head(features) * self.scale


class Shapes(nn.Module):
    """Sizes that are computed, lists of tensors, constants of other types."""

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        means = x.view(b, c, h // 2, 2, w // 2, 2).mean((3, 5)).reshape(b, -1)
        first, *_ = means.split(c * 2, 1)
        return torch.cat([first.double().float(), torch.where(means > 0.5, means, -1.0).clamp(min=-0.5)], 1)


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, 4)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu")
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.token = nn.Parameter(torch.randn(1, 1, 32))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        return self.body(torch.cat([self.token.expand(len(x), -1, -1), x], 1))[:, 0]


class Resized(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, size=(9, 7), mode="bilinear", align_corners=False)
        return F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 2).flatten(1).softmax(1)


def exported(net: nn.Module, *shape: int, free: bool = True) -> bytes:
    sizes = ({0: torch.export.Dim("n", min=1)},) if free else None
    program = torch.export.export(net.eval(), (torch.rand(*shape),), dynamic_shapes=sizes)
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def pictures(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)


# ---- .pt2


@pytest.mark.parametrize(
    ("made", "free"), [(Small, True), (Small, False), (Shapes, True), (Transformer, False), (Resized, True)]
)
def test_a_graph_computes_what_its_module_does(made, free):
    net = made()
    graph = Graph(exported(net, 2, 3, 16, 16, free=free))
    assert graph.shape == (None if free else 2, 3, 16, 16)
    for _ in range(2):  # a call leaves nothing behind
        x = torch.rand(2 if not free else 5, 3, 16, 16)
        with torch.no_grad():
            wanted, found = net(x), graph(x)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        for one, other in zip(wanted, found, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_of_ones_own_is_shown_images_in_0_to_1_of_its_size(free, channels, tmp_path):
    """Also in blocks of the only size it takes, the last of which is filled up."""
    net = Small()
    path = tmp_path / "mine.pt2"
    path.write_bytes(exported(net, 4, 3, 16, 16, free=free))
    images = pictures(18, channels, 24, 20)
    embedder = open_embedder(str(path), shape=(channels, 24, 20))
    features, probabilities = embedder.embed(images)
    with torch.no_grad():
        wanted = net(torch.from_numpy(resize(images, 16, 16) / 255).expand(-1, 3, -1, -1))
    np.testing.assert_allclose(features, wanted[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(probabilities, wanted[1].softmax(1), rtol=1e-4, atol=1e-5)
    assert embedder.features == 8
    assert embedder.name == f"mine-{embedder.sha256[:8]}"
    assert "16x16, bicubic" in embedder.about
    np.testing.assert_allclose(embedder.embed(images[:1]).features, features[:1], rtol=1e-4, atol=1e-5)


def test_features_alone_have_no_probabilities(tmp_path):
    path = tmp_path / "shapes.pt2"
    path.write_bytes(exported(Shapes(), 2, 3, 16, 16))
    embedder = open_embedder(str(path), shape=(3, 16, 16))
    assert embedder.embed(pictures(2, 3, 16, 16)).probabilities is None
    assert "16x16, as it is" in embedder.about


# ---- .onnx


def test_onnx_computes_what_its_operators_say(tmp_path):
    """Means over the map through a matrix, of images of any size."""
    pytest.importorskip("onnxruntime")
    path, matrix = onnx_file(tmp_path)
    images = pictures(18, 3, 12, 10)
    embedder = open_embedder(str(path), shape=(3, 12, 10))
    features, probabilities = embedder.embed(images)
    wanted = images.mean((2, 3)) / 255 @ matrix
    np.testing.assert_allclose(features, wanted, rtol=1e-5)
    assert probabilities is not None
    odds = np.exp(-wanted)
    np.testing.assert_allclose(probabilities, odds / odds.sum(1, keepdims=True), rtol=1e-4)
    assert "12x10, as it is" in embedder.about


def onnx_file(folder: Path) -> tuple[Path, np.ndarray]:
    onnx = pytest.importorskip("onnx")
    matrix = np.random.default_rng(1).random((3, 5)).astype(np.float32)
    node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [
            node("ReduceMean", ["x"], ["means"], axes=[2, 3], keepdims=0),
            node("MatMul", ["means", "matrix"], ["features"]),
            node("Neg", ["features"], ["logits"]),
        ],
        "means",
        [info("x", onnx.TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [info(name, onnx.TensorProto.FLOAT, ["n", 5]) for name in ("features", "logits")],
        [onnx.numpy_helper.from_array(matrix, "matrix")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    path = folder / "means.onnx"
    path.write_bytes(model.SerializeToString())
    return path, matrix


# ---- the front door


def images_of(*shape: int) -> Spec:
    return Spec(real=Field("image", shape))


def test_data_is_measured_by_what_was_made_for_it(monkeypatch):
    monkeypatch.setattr(weights, "packaged", lambda package, file: None)
    assert natural("digits", images_of(1, 28, 28)) == "digits-cnn"
    assert natural("stacked-digits", images_of(3, 28, 28)) == "digits-cnn"
    assert natural("fashion", images_of(1, 28, 28)) == "fashion-cnn"
    assert natural("digits", images_of(1, 32, 32)) == "pixels"
    assert natural("photos/", images_of(3, 64, 64)) == "pixels"
    assert natural("ring", Spec(real=Field("vector", (2,)))) == "pixels"
    monkeypatch.setattr(weights, "packaged", lambda package, file: Path(package) / file)
    assert natural("photos/", images_of(3, 64, 64)) == "efflite0"
    assert natural("digits", images_of(1, 32, 32)) == "efflite0"
    assert natural("layers.npz", images_of(4, 64, 64)) == "pixels"
    assert natural("ring", Spec(real=Field("vector", (2,)))) == "pixels"
    assert set(names()) >= {"digits-cnn", "fashion-cnn", "efflite0", "pixels"}


def test_the_choice_of_an_embedder_imports_no_torch():
    code = (
        "import sys; from elegan.embedders import names, natural; from elegan.spec import Field, Spec; "
        "names(); natural('photos', Spec(real=Field('image', (3, 8, 8)))); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("name", "shape"),
    [("digits-cnn", (1, 28, 28)), ("digits-cnn", (3, 28, 28)), ("fashion-cnn", (1, 28, 28)), ("pixels", (3, 40, 40))],
)
def test_an_embedder_keeps_its_word_and_leaves_the_caller_alone(name, shape):
    """d as stated, float32, the same twice, in any number at a time, constant images too; threads and seeds stay."""
    torch.manual_seed(5)
    before = torch.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled()
    embedder = open_embedder(name, shape=shape)
    images = pictures(120, *shape)
    images[0] = 7
    given = images.copy()
    features = embedder.embed(images).features
    assert features.shape == (120, embedder.features)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    np.testing.assert_array_equal(embedder.embed(images).features, features)
    np.testing.assert_allclose(embedder.embed(images[95:105]).features, features[95:105], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(images, given)
    assert embedder.name == name
    assert len(embedder.sha256) == (0 if name == "pixels" else 64)
    assert embedder.about
    assert "\n" not in embedder.about
    after = torch.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
