"""Weights of other programs, converted: against the networks that torch computes, and what its libraries read."""

import hashlib
import io
import itertools
import json
import pickle
import re
import shlex
import sys
import types
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn

import elegan
from elegan.errors import CheckpointError, OptionError, ResourceError
from elegan.exporting.foreign.files import read_tensors
from elegan.exporting.foreign.layouts import STYLEGAN2
from tests.conftest import everything

DOCUMENT = Path(__file__).parents[2] / "docs" / "convert.md"
WAYS = ("archive", "stream", "pickle 2", "pickle 5")


def saved(value: object, way: str) -> bytes:
    file = io.BytesIO()
    if way.startswith("pickle"):
        pickle.dump(value, file, int(way[-1]))
    else:
        torch.save(value, file, _use_new_zipfile_serialization=way == "archive")
    return file.getvalue()


def converted(value: object, folder: Path, way: str = "archive", **options) -> dict[str, torch.Tensor]:
    source = folder / "source.pth"
    source.write_bytes(saved(value, way))
    made = elegan.convert(source, out=folder / "made.safetensors", **options)
    return safetensors.torch.load_file(made.path)


def same(made: dict, wanted: dict) -> None:
    """The same names, types and values, to the bit."""
    assert made.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert made[name].dtype == tensor.dtype
        assert made[name].shape == tensor.shape
        ours, theirs = (t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (made[name], tensor))
        assert torch.equal(ours, theirs), name


# ---- files


def odd_tensors() -> dict[str, torch.Tensor]:
    """Of every type, and laid out in every way that torch has."""
    torch.manual_seed(0)
    x = torch.randn(3, 4, 5)
    types_ = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8)
    more = (torch.uint8, torch.bool, torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2)
    return {
        **{str(kind).removeprefix("torch."): (x * 9).clamp(0, 99).to(kind) for kind in (*types_, *more)},
        "permuted": x.permute(2, 0, 1),
        "strided": x[:, ::2, 1::3],
        "channels last": torch.randn(2, 8, 3, 3).to(memory_format=torch.channels_last),
        "channels last of doubles": torch.randn(2, 3, 2, 2).double().to(memory_format=torch.channels_last),
        "slice": torch.arange(10)[3:7],
        "scalar": torch.tensor(2.5),
        "one": torch.ones(1, 1, 1).transpose(0, 2),
        "none": torch.zeros(0, 3),
        "parameter": nn.Parameter(torch.randn(2, 3)),
    }


@pytest.mark.parametrize("way", WAYS)
def test_every_type_and_layout_arrives_as_it_was(tmp_path, way):
    wanted = odd_tensors()
    same(converted(OrderedDict(wanted), tmp_path, way, layout="plain"), wanted)


@pytest.mark.parametrize("way", WAYS)
def test_a_whole_network_gives_its_state_dict(tmp_path, way):
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Embedding(3, 2)})
    )
    net.register_buffer("kept", torch.ones(2))
    net.register_buffer("scratch", torch.ones(5), persistent=False)
    same(converted(net, tmp_path, way, layout="plain"), net.state_dict())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_numpy_are_tensors(tmp_path, protocol):
    arrays = {"c": np.arange(6.0).reshape(2, 3), "f": np.asfortranarray(np.arange(6, dtype="i2").reshape(2, 3))}
    (tmp_path / "source.pkl").write_bytes(pickle.dumps({**arrays, "step": 3, "rate": np.float32(2)}, protocol))
    made = elegan.convert(tmp_path / "source.pkl", layout="plain")
    same(
        safetensors.torch.load_file(made.path),
        {n: torch.from_numpy(np.ascontiguousarray(a)) for n, a in arrays.items()},
    )


def test_safetensors_pass_through(tmp_path):
    wanted = {n: t.contiguous() for n, t in odd_tensors().items() if n != "parameter"}
    safetensors.torch.save_file(wanted, tmp_path / "source.safetensors", {"a": "b"})
    made = elegan.convert(tmp_path / "source.safetensors", out=tmp_path / "made.safetensors", layout="plain")
    same(safetensors.torch.load_file(made.path), wanted)


def test_a_checkpoint_gives_its_networks_and_leaves_the_rest(tmp_path):
    net = nn.Linear(2, 2)
    moments = {"state": {0: {"exp_avg": torch.ones(2, 2)}}, "param_groups": [{"lr": 1e-3, "params": [0, 1]}]}
    held = {"model": net.state_dict(), "optimizer": moments, "epoch": 3, "path": Path("x"), "tags": {"a", "b"}}
    wanted = {f"model.{name}": tensor for name, tensor in net.state_dict().items()}
    same(converted(held, tmp_path, layout="plain"), wanted)


def test_a_file_says_where_its_tensors_come_from(tmp_path):
    converted({"w": torch.ones(2)}, tmp_path, layout="plain")
    with safetensors.safe_open(tmp_path / "made.safetensors", "pt") as file:
        about = file.metadata()
    digest = hashlib.sha256((tmp_path / "source.pth").read_bytes()).hexdigest()
    assert about["source"] == f"source.pth sha256:{digest}"
    assert (about["layout"], about["elegan"]) == ("plain", elegan.__version__)


# ---- the DCGAN of the tutorial


def generator(z: int = 100, width: int = 64, channels: int = 3, ups: int = 4) -> nn.Module:
    """As its text has it: ConvT(z, 8·width, 4, 1, 0), then halved widths and doubled sizes, BatchNorm, ReLU, tanh."""
    widths = [width * 2**k for k in reversed(range(ups))]
    layers: list[nn.Module] = [nn.ConvTranspose2d(z, widths[0], 4, 1, 0, bias=False)]
    for before, after in zip(widths, [*widths[1:], channels], strict=True):
        layers += [nn.BatchNorm2d(before), nn.ReLU(True), nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)]
    return main_of(*layers, nn.Tanh())


def discriminator(width: int = 64, channels: int = 3, downs: int = 4) -> nn.Module:
    widths = [width * 2**k for k in range(downs)]
    layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
    for before, after in itertools.pairwise(widths):
        layers += [
            nn.Conv2d(before, after, 4, 2, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.LeakyReLU(0.2, inplace=True),
        ]
    return main_of(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=False), nn.Sigmoid())


def main_of(*layers: nn.Module) -> nn.Module:
    net = nn.Module()
    net.main = nn.Sequential(*layers)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):  # as if trained: statistics and gains of its own
            nn.init.normal_(part.weight, 1, 0.3)
            nn.init.normal_(part.bias, 0, 0.3)
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.3, 2)
            part.num_batches_tracked.fill_(7)
    return net.eval()


def written(path: Path, value: object) -> Path:
    path.write_bytes(saved(value, "archive"))
    return path


@pytest.mark.parametrize(("width", "channels", "levels"), [(64, 3, 4), (8, 1, 3)])
def test_a_run_from_the_tutorials_files_is_the_same_function(tmp_path, width, channels, levels):
    torch.manual_seed(0)
    G, D = generator(20, width, channels, levels), discriminator(width, channels, levels)
    paths = [written(tmp_path / f"net{n}.pth", net.state_dict()) for n, net in (("G", G), ("D", D))]
    made = elegan.convert(*paths, out=tmp_path / "run")
    assert (made.players, made.fresh) == (("G", "D"), ())
    game = elegan.load(tmp_path / "run").game
    z = torch.randn(5, 20)
    with torch.no_grad():
        wanted = G.main(z[:, :, None, None])
        assert wanted.shape == (5, channels, 4 * 2**levels, 4 * 2**levels)
        assert wanted.std() > 0.1
        torch.testing.assert_close(game.G(z), wanted, atol=1e-5, rtol=0)
        torch.testing.assert_close(game.D(wanted).sigmoid(), D.main(wanted).flatten(), atol=1e-5, rtol=0)
        torch.testing.assert_close(game.train().G(z), G.train().main(z[:, :, None, None]), atol=1e-5, rtol=0)


def test_elegan_draws_from_a_converted_run(tmp_path, cli):
    """As the module itself draws, with the statistics that are in the file."""
    torch.manual_seed(0)
    G = generator(10, 8)
    norms = [part for part in G.modules() if isinstance(part, nn.BatchNorm2d)]
    for part in norms:
        part.reset_running_stats()
        part.momentum = None
    with torch.no_grad():
        for _ in range(16):
            G.train().main(torch.randn(64, 10, 1, 1))
    G.eval()
    source = written(tmp_path / "netG.pth", G.state_dict())
    said = cli("convert", source, "--out", tmp_path / "run")
    assert (said.code, said.err) == (0, "")
    assert "26 tensors of G" in said.out
    assert "D was not given, and has first weights" in said.out
    assert cli("sample", tmp_path / "run", "-n", 3, "--seed", 4).code == 0
    model = elegan.load(tmp_path / "run")
    drawn, noise = model.sample(3, seed=4), []
    model.game.G = nn.Sequential(Heard(noise), model.game.G)
    assert np.array_equal(model.sample(3, seed=4).values, drawn.values)
    with torch.no_grad():
        wanted = ((G.main(noise[-1][:3, :, None, None]) + 1) * 127.5).round().clamp(0, 255).numpy()
    off = np.abs(drawn.values.astype(float) - wanted)
    assert off.max() <= 1  # a level of 255, by rounding
    assert off.mean() < 0.01


class Heard(nn.Module):
    def __init__(self, to: list):
        super().__init__()
        self.to = to

    def forward(self, z):
        self.to.append(z)
        return z


def test_a_converted_run_says_that_it_cannot_go_on(tmp_path, cli):
    written(tmp_path / "netG.pth", generator(4, 4).state_dict())
    elegan.convert(tmp_path / "netG.pth", out=tmp_path / "run")
    before = everything(tmp_path / "run")
    said = cli("resume", tmp_path / "run", "--steps", 9)
    assert said.code == 4
    assert "was converted from a model file: it has no moments and no data to go on with" in said.line
    assert everything(tmp_path / "run") == before
    assert json.loads((tmp_path / "run" / "options.json").read_text())["converted"]["fresh"] == ["D"]


def test_what_the_weights_are_kept_under_does_not_matter(tmp_path):
    G, D = generator(4, 4), discriminator(4)
    wanted = converted({"netG": G.state_dict(), "netD": D.state_dict()}, tmp_path)
    assert {name.partition(".")[0] for name in wanted} == {"G", "D"}
    for k, held in enumerate((
        {"epoch": 1, "state_dict": {f"module.{n}": t for n, t in G.state_dict().items()}},
        {"G": nn.ModuleDict({"module": G})},
        G,
    )):  # fmt: skip
        (tmp_path / f"{k}").mkdir()
        same(converted(held, tmp_path / f"{k}"), {n: t for n, t in wanted.items() if n.startswith("G.")})


def test_the_tutorials_weights_in_a_file_have_elegans_names(tmp_path):
    torch.manual_seed(0)
    G, D = generator(6, 4).state_dict(), discriminator(4).state_dict()
    made = converted({"G": G, "D": D}, tmp_path)
    assert made["G.first.0.weight"].shape == (32 * 16, 6)
    assert made["G.first.0.weight"][5 * 16 + 2 * 4 + 3, 1] == G["main.0.weight"][1, 5, 2, 3]
    assert torch.equal(made["G.ups.3.0.weight"], G["main.12.weight"])
    assert torch.equal(made["G.ups.0.1.running_var"], G["main.4.running_var"])
    assert made["G.ups.0.1.num_batches_tracked"] == 7
    assert made["G.ups.3.0.bias"].tolist() == [0, 0, 0]
    assert torch.equal(made["D.body.9.running_mean"], D["main.9.running_mean"])
    assert made["D.head.weight"][0, 7 * 16 + 2 * 4 + 3] == D["main.11.weight"][0, 7, 2, 3]
    with safetensors.safe_open(tmp_path / "made.safetensors", "pt") as file:
        about = file.metadata()
    assert [about[n] for n in ("players", "z_dim", "width", "size", "channels")] == ["G D", "6", "4", "64", "3"]


def test_weights_that_count_no_batches_are_from_before_that(tmp_path):
    state = {n: t for n, t in generator(4, 4).state_dict().items() if not n.endswith("tracked")}
    assert converted(state, tmp_path)["G.first.2.num_batches_tracked"] == 0


REFUSED = {
    "kernels": ({"main.3.weight": torch.ones(32, 16, 5, 5)}, "fits no layout"),
    "bias": ({"main.0.bias": torch.ones(32)}, "fits no layout"),
    "a layer more": ({"main.14.weight": torch.ones(3, 3, 4, 4)}, "fits no layout"),
    "broken chain": ({"main.3.weight": torch.ones(33, 16, 4, 4)}, "fits no layout"),
    "norm of another width": ({"main.1.weight": torch.ones(31)}, "fits no layout"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_another_network_is_not_taken_for_the_tutorials(tmp_path, what):
    changes, reason = REFUSED[what]
    with pytest.raises(CheckpointError, match=reason):
        converted({**generator(4, 4).state_dict(), **changes}, tmp_path)


def test_players_that_do_not_play_together_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="G and D have another width, 4 and 8"):
        converted({"G": generator(4, 4).state_dict(), "D": discriminator(8).state_dict()}, tmp_path)
    with pytest.raises(CheckpointError, match="two networks that could be G"):
        converted({"a": generator(4, 4).state_dict(), "b": generator(4, 4).state_dict()}, tmp_path)


def test_a_run_is_refused_where_elegan_has_no_such_game(tmp_path):
    """A sixth size doubles widths once more, which elegan's does not; the file takes it."""
    wide = written(tmp_path / "wide.pth", generator(4, 4, ups=5).state_dict())
    with pytest.raises(
        CheckpointError, match=r"G\.first\.0\.weight is \(512, 4\) in elegan's dcgan, and \(1024, 4\) here"
    ):
        elegan.convert(wide, out=tmp_path / "run")
    assert elegan.convert(wide).players == ("G",)
    alone = written(tmp_path / "netD.pth", discriminator(4).state_dict())
    with pytest.raises(OptionError, match="needs G"):
        elegan.convert(alone, out=tmp_path / "run")
    with pytest.raises(OptionError, match=r"plain is no game of elegan"):
        elegan.convert(alone, out=tmp_path / "run", layout="plain")
    assert not (tmp_path / "run").exists()


# ---- StyleGAN2-ADA


def stylegan2(resolution: int = 32, z: int = 12, w: int = 10, classes: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    """Every tensor of G and D of that layout, by its name there; the sizes are small, the layout is whole."""
    G: dict[str, tuple[int, ...]] = {"mapping.w_avg": (w,)}
    for k in range(3):
        G |= {f"mapping.fc{k}.weight": (w, (z + w * bool(classes)) if k == 0 else w), f"mapping.fc{k}.bias": (w,)}
    D: dict[str, tuple[int, ...]] = {}
    if classes:
        G |= {"mapping.embed.weight": (w, classes), "mapping.embed.bias": (w,)}
        D |= {
            "mapping.embed.weight": (6, classes),
            "mapping.embed.bias": (6,),
            "mapping.fc0.weight": (6, 6),
            "mapping.fc0.bias": (6,),
        }
    size, width = 4, {4: 8, 8: 8, 16: 6, 32: 4}
    while size <= resolution:
        b, c = f"synthesis.b{size}", width[size]
        into = width.get(size // 2, c)
        G |= {f"{b}.const": (c, 4, 4)} if size == 4 else {}
        G |= {f"{b}.resample_filter": (4, 4)}
        for conv, before in (("conv0", into), ("conv1", c)):
            if size == 4 and conv == "conv0":
                continue
            G |= {f"{b}.{conv}.weight": (c, before, 3, 3), f"{b}.{conv}.bias": (c,), f"{b}.{conv}.noise_strength": ()}
            G |= {f"{b}.{conv}.noise_const": (size, size), f"{b}.{conv}.resample_filter": (4, 4)}
            G |= {f"{b}.{conv}.affine.weight": (before, w), f"{b}.{conv}.affine.bias": (before,)}
        G |= {f"{b}.torgb.weight": (3, c, 1, 1), f"{b}.torgb.bias": (3,)}
        G |= {f"{b}.torgb.affine.weight": (c, w), f"{b}.torgb.affine.bias": (c,)}
        if size > 4:
            D |= {f"b{size}.fromrgb.weight": (c, 3, 1, 1), f"b{size}.fromrgb.bias": (c,)} if size == resolution else {}
            D |= {
                f"b{size}.conv0.weight": (c, c, 3, 3),
                f"b{size}.conv0.bias": (c,),
                f"b{size}.resample_filter": (4, 4),
            }
            D |= {f"b{size}.conv1.weight": (into, c, 3, 3), f"b{size}.conv1.bias": (into,)}
            D |= {f"b{size}.skip.weight": (into, c, 1, 1), f"b{size}.skip.resample_filter": (4, 4)}
        size *= 2
    D |= {"b4.conv.weight": (8, 9, 3, 3), "b4.conv.bias": (8,), "b4.fc.weight": (8, 128), "b4.fc.bias": (8,)}
    D |= {"b4.out.weight": (1, 8), "b4.out.bias": (1,)}
    torch.manual_seed(0)
    return {p: {n: torch.randn(shape) for n, shape in named.items()} for p, named in (("G", G), ("D", D), ("G_ema", G))}


class Tree(nn.Module):
    """A network of parameters and buffers by dotted names."""

    def __init__(self, tensors: dict[str, torch.Tensor]):
        super().__init__()
        for name, tensor in tensors.items():
            *path, last = name.split(".")
            part = self
            for word in path:
                if word not in part._modules:
                    part.add_module(word, nn.Module())
                part = part.get_submodule(word)
            if last in ("resample_filter", "noise_const", "w_avg"):
                part.register_buffer(last, tensor)
            else:
                part.register_parameter(last, nn.Parameter(tensor))


@pytest.fixture
def persistence(monkeypatch):
    """A package with the names that such files ask for: objects that carry the source of their class as a text."""
    there, util = types.ModuleType("torch_utils.persistence"), types.ModuleType("dnnlib.util")

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("it was called")

    _reconstruct_persistent_obj.__module__ = there.__name__
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    there._reconstruct_persistent_obj = _reconstruct_persistent_obj
    util.EasyDict = type("EasyDict", (dict,), {"__module__": util.__name__})
    for name, module in (("torch_utils", types.ModuleType("torch_utils")), ("torch_utils.persistence", there),
                         ("dnnlib", types.ModuleType("dnnlib")), ("dnnlib.util", util)):  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)

    def persistent(net: nn.Module, name: str, **more: object) -> object:
        about = dict(type="class", version=6, module_src="raise SystemExit('it was run')", class_name=name)
        meta = util.EasyDict(**about, state={**net.__dict__, "_init_kwargs": util.EasyDict(more)})

        class Persistent:
            def __reduce__(self):
                return _reconstruct_persistent_obj, (meta,)

        return Persistent()

    return persistent


def ours(player: str, name: str) -> str:
    """What a name becomes, by another way than the rules: word for word."""
    words = ["" if word in ("", "resample_filter") else re.sub(r"^(b|fc)(?=\d)", "", word) for word in name.split(".")]
    return ".".join([{"G": "G", "D": "D", "G_ema": "average"}[player], *words])


@pytest.mark.parametrize("classes", [0, 5])
def test_stylegan2_ada_gets_systematic_names(tmp_path, persistence, classes):
    networks = stylegan2(classes=classes)
    held = {p: persistence(Tree(tensors), "Net", z_dim=12) for p, tensors in networks.items()}
    (tmp_path / "net.pkl").write_bytes(
        pickle.dumps({"training_set_kwargs": {"path": "x"}, "augment_pipe": None, **held})
    )
    made = elegan.convert(tmp_path / "net.pkl")
    assert (made.layout, made.players) == ("stylegan2-ada", ("G", "D", "average"))
    wanted = {ours(p, n): t for p, named in networks.items() for n, t in named.items() if "resample" not in n}
    same(safetensors.torch.load_file(made.path), wanted)
    assert {"G.mapping.0.weight", "G.synthesis.8.conv0.affine.weight", "average.synthesis.4.const", "D.4.out.bias",
            "average.mapping.w_avg", "G.synthesis.32.torgb.bias", "D.32.fromrgb.weight"} <= wanted.keys()  # fmt: skip
    with safetensors.safe_open(made.path, "pt") as file:
        about = file.metadata()
    facts = {n: int(about[n]) for n in ("z_dim", "w_dim", "classes", "mapping_layers", "resolution", "channels")}
    assert facts == {"z_dim": 12, "w_dim": 10, "classes": classes, "mapping_layers": 3, "resolution": 32, "channels": 3}


@pytest.mark.parametrize("player", ["G", "D"])
def test_one_network_of_stylegan2_ada_on_its_own(tmp_path, player):
    tensors = stylegan2(classes=3)[player]
    made = converted(tensors, tmp_path)
    same(made, {ours(player, n): t for n, t in tensors.items() if "resample" not in n})


def test_every_rule_for_stylegan2_ada_is_needed(tmp_path):
    """The layout of residual blocks has what the others have not."""
    names = [n for named in stylegan2(classes=3).values() for n in named]
    names.append("synthesis.b8.skip.weight")
    used = [any(re.fullmatch(theirs, name) for name in names) for theirs, _ in STYLEGAN2]
    assert all(used)
    assert all(sum(bool(re.fullmatch(theirs, name)) for theirs, _ in STYLEGAN2) == 1 for name in names)


def test_a_name_without_a_rule_is_refused(tmp_path):
    networks = stylegan2()
    with pytest.raises(CheckpointError, match=r"'G\.synthesis\.b8\.extra' is no name of StyleGAN2-ADA"):
        converted({"G": {**networks["G"], "synthesis.b8.extra": torch.ones(1)}}, tmp_path)
    made = converted({"G": networks["G"], "augment_pipe": {"p": torch.ones(())}}, tmp_path)
    assert not [name for name in made if name[-1] == "p"]


# ---- where to


def test_nothing_is_overwritten(tmp_path, cli):
    source = written(tmp_path / "netG.pth", generator(4, 4).state_dict())
    (tmp_path / "netG.safetensors").write_bytes(b"mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes").write_text("mine")
    before = everything(tmp_path)
    for out, code in (((), 2), (("--out", tmp_path / "netG.safetensors"), 2), (("--out", source), 2),
                      (("--out", tmp_path / "run"), 7)):  # fmt: skip
        said = cli("convert", source, *out)
        assert said.code == code
        assert "choose another --out" in said.line
    assert everything(tmp_path) == before


def test_a_place_that_cannot_be_written_is_exit_6(tmp_path, cli):
    source = written(tmp_path / "netG.pth", generator(4, 4).state_dict())
    (tmp_path / "a file").write_text("")
    for out in ("a file/made.safetensors", "a file/run", "/proc/made.safetensors"):
        said = cli("convert", source, "--out", tmp_path / out)
        assert said.code == 6, out
        assert "choose another --out" in said.line
    with pytest.raises(ResourceError):
        elegan.convert(source, out=tmp_path / ("x" * 300 + ".safetensors"))


def test_layouts_and_files_that_do_not_go_together(tmp_path, cli):
    source = written(
        tmp_path / "net.pth", {"a": torch.ones(1), "b": torch.ones(1), "c": torch.ones(1), "d": torch.ones(1)}
    )
    assert cli("convert", source, "--layout", "plane").line == "--layout 'plane' is none. Did you mean 'plain'?"
    said = cli("convert", source)
    assert said.code == 4
    assert said.line == (
        f"{source}: what it holds, a, b, c and 1 more, fits no layout of dcgan-tutorial, stylegan2-ada, plain: "
        "--layout plain keeps the names."
    )
    assert "does not fit --layout dcgan-tutorial" in cli("convert", source, "--layout", "dcgan-tutorial").line
    assert cli("convert", source, source, "--layout", "plain").code == 2
    assert cli("convert").code == 2


# ---- the document


def test_the_commands_of_the_document_run(tmp_path, cli):
    """In their order, with the files that it speaks of."""
    written(Path("netG.pth"), generator(4, 4).state_dict())
    written(Path("netD.pth"), discriminator(4).state_dict())
    written(Path("checkpoint.pth"), {"model": {"w": torch.ones(2)}})
    Path("network-snapshot.pkl").write_bytes(saved(stylegan2(), "pickle 4"))
    text = DOCUMENT.read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines() if line]
    assert len(lines) >= 4
    for line in lines:
        said = cli(*shlex.split(line, comments=True)[1:])
        assert (said.code, said.err) == (0, ""), line


def test_the_document_names_every_rule():
    text = DOCUMENT.read_text(encoding="utf-8")
    for layout in ("dcgan-tutorial", "stylegan2-ada", "plain"):
        assert f"`{layout}`" in text


def test_reading_needs_neither_torch_nor_numpy():
    """So that the child starts quickly, and has little that could be asked of it."""
    import subprocess

    ask = "import sys; sys.path.append(sys.argv[1]); import elegan.exporting.foreign.child; print(*sys.modules)"
    root = str(Path(elegan.__file__).parents[1])
    said = subprocess.run([sys.executable, "-I", "-S", "-c", ask, root], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in said.stdout.split()}
    assert not loaded & {"torch", "numpy", "safetensors", "pydantic"}
    assert read_tensors(saved({"w": torch.ones(2)}, "archive"))["w"].shape == (2,)
