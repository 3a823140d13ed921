"""The documents: what they tell one to type runs, their links lead somewhere, and both languages say the same."""

import functools
import importlib
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from elegan import zoo
from elegan.data.sources import BUNDLED, open_data
from elegan.losses import least_squares_generator, least_squares_judge
from elegan.run import events
from elegan.training import precision
from tests.oracle.test_foreign import generator

ROOT = Path(__file__).parents[2]
GUIDE, OWN_GAME = "CONTRIBUTING.md", "docs/tutorials/write-your-own-game.md"


def found(*patterns: str) -> list[str]:
    """The documents of some patterns, by their paths from the root."""
    return sorted(path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern))


DOCUMENTS = found("*.md", "docs/**/*.md")
ENGLISH = ["README.md", *found("docs/tutorials/*.md")]
CHINESE = found("*.zh-CN.md", "docs/**/zh-CN/*.md")

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"(!?)\[([^]]*)\]\(([^)\s]+)\)")
LANGUAGES = re.compile(r"\A# .+\n\n\[English\]\((\S+)\) · \[简体中文\]\((\S+)\)\n\n")
SAME = re.compile(r"\$\$.+?\$\$|\$[^$]+\$|`[^`]+`|\d[\d,.]*\d")  # mathematics, code, and numbers of two digits or more


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(name: str) -> str:
    """A document without its blocks of code."""
    return FENCE.sub("", read(name))


def blocks(name: str, kind: str) -> list[str]:
    return [body for language, body in FENCE.findall(read(name)) if language == kind]


def commands(name: str) -> list[list[str]]:
    """Every `elegan …` of a document's sh blocks, also behind torchrun, as tokens."""
    asked = []
    for block in blocks(name, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            tokens = shlex.split(line, comments=True)
            if "elegan" in tokens:
                asked.append(tokens[tokens.index("elegan") + 1 :])
    return asked


def games(name: str) -> dict[str, str]:
    """The files that a document has one save into the zoo, by the names it gives them."""
    return dict(re.findall(r"`src/elegan/zoo/(\w+)\.py`:\n\n```python\n(.*?)^```", read(name), re.M | re.S))


def linked(name: str) -> list[tuple[str, str]]:
    """The links of a document below its languages: `!` for a picture, and where it leads, from the root."""
    return [(mark, resolved(name, to)) for mark, _, to in LINK.findall(LANGUAGES.sub("", prose(name)))]


def resolved(name: str, target: str) -> str:
    return target if "://" in target else os.path.normpath(Path(name).parent / target.partition("#")[0])


def translated(name: str) -> str:
    """Where the Chinese counterpart of a document is."""
    path = Path(name)
    return str(path.parent / "zh-CN" / path.name if path.parent.name else path.with_suffix(".zh-CN.md"))


# ---- what they tell one to type


@pytest.fixture(scope="module", autouse=True)
def digits_are_read_once() -> Iterator[None]:
    """Unpacking them takes most of a second, and half of the commands do."""
    about, reader = BUNDLED["digits"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BUNDLED, "digits", (about, functools.cache(reader)))
        yield


@pytest.fixture
def save_game(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Save a file into a zoo that holds nothing else."""
    shelf = tmp_path / "zoo"

    def save(name: str, text: str) -> None:
        if not shelf.exists():
            shelf.mkdir()
            monkeypatch.setattr(zoo, "HERE", shelf)
            monkeypatch.setattr(zoo, "__path__", [str(shelf), *zoo.__path__])
        (shelf / f"{name}.py").write_text(text, encoding="utf-8")
        importlib.invalidate_caches()

    yield save
    for path in shelf.glob("*.py"):
        sys.modules.pop(f"elegan.zoo.{path.stem}", None)


def cut_short(tokens: list[str]) -> list[str]:
    """The same command, small: few steps, small batches and pictures; of one that goes on until Ctrl-C, its help."""
    if tokens[0] == "studio":
        return [*tokens, "--help"]
    if "--help" in tokens or tokens[0] not in ("train", "resume", "sample"):
        return tokens
    if tokens[0] == "train":
        for flag, value in (("--steps", "1000"), ("--batch", "8")):
            tokens = tokens if flag in tokens else [*tokens, flag, value]
    small = {"--size": "16", "--batch": "8", "-n": "4", "--extend": "1"}
    if "--steps" in tokens:
        small["--steps"] = str(min(4, max(1, int(tokens[tokens.index("--steps") + 1]) // 1_000)))
    return [small.get(before, token) for before, token in zip(["", *tokens], tokens, strict=False)]


def pictures(folder: Path, n: int = 16) -> None:
    folder.mkdir(parents=True)
    for k in range(n):
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (20, 18, 3), dtype=np.uint8)).save(
            folder / f"{k}.png"
        )


@pytest.mark.parametrize("name", ENGLISH)
def test_the_commands_of_a_document_run(cli, monkeypatch, save_game, name):
    """In their order, in one empty folder, with pictures where the document has some."""
    monkeypatch.setattr(precision, "probe", lambda: {("fp32", 1): 0.01, ("bf16", 1): 0.02})
    for folder in ("photos", "horse2zebra/trainA", "horse2zebra/trainB", "horses"):
        pictures(Path(folder))
    torch.save(generator(10, 8).state_dict(), "netG.pth")
    for file, text in games(name).items():
        save_game(file, text)
    assert len(commands(name)) >= 3
    for tokens in commands(name):
        said = cli(*cut_short(tokens))
        assert (said.code, said.err) == (0, ""), shlex.join(["elegan", *tokens])


@pytest.mark.parametrize("name", [name for name in ENGLISH if blocks(name, "python") and not games(name)])
def test_the_python_of_a_document_runs(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks(name, "python"):
        smaller = re.sub(r"steps=(\d+)", lambda number: f"steps={max(2, int(number[1]) // 1_000)}", block)
        smaller = re.sub(r"sample\((\d[\d_]*)", lambda number: f"sample({min(10, int(number[1]))}", smaller)
        exec(compile(smaller, name, "exec"), names)


def test_the_game_of_the_guide_is_a_game(cli, save_game):
    """It trains, resumes, samples and shows its options, and no other file is touched."""
    ((file, text),) = games(GUIDE).items()
    game = file.replace("_", "-")
    save_game(file, text)
    assert zoo.names() == [game]
    tiny = ("--batch", "8", "--threads", "1", "--precision", "fp32")
    assert cli("train", game, "ring", *tiny, "--steps", 2, "--out", "run").code == 0
    assert cli("resume", "run", "--steps", 3).code == 0
    assert cli("sample", "run", "-n", 2).code == 0
    assert cli("train", game, "--help").code == 0
    assert game in cli("zoo", "list").out


def changed(text: str, *changes: tuple[str, str]) -> str:
    """A text with passages replaced, each of which it has once."""
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def test_the_changes_of_the_tutorial_are_changes_of_its_game(cli, save_game):
    """A penalty with an option of its own, five moves of the judge, and a rate that falls, put where the text says."""
    ((file, text),) = games(OWN_GAME).items()
    option, term, turn = (block.strip() for block in blocks(OWN_GAME, "")[:3])
    told = prose(OWN_GAME)
    (the_import,) = re.findall(r"`(from elegan\.penalties .*)` on top", told)
    (schedule,) = re.findall(r"`(cosine\(.*\))` from `elegan\.game`", told)
    text = changed(
        text,
        ("import Adam, Game, Turn\n", "import Adam, Game, Turn, cosine\n"),
        ("\n\n\nclass", f"\n{the_import}\n\n\nclass"),
        ("    ):  # fmt: skip", f"        {option}\n    ):  # fmt: skip"),
        ('"fake": self.D(fake).square().mean() / 2}', f'"fake": self.D(fake).square().mean() / 2, {term}}}'),
        ('Turn("D", self.d_loss, optim=Adam(self.lr))', turn),
        ('Turn("G", self.g_loss, optim=Adam(self.lr))', f'Turn("G", self.g_loss, optim=Adam({schedule}))'),
    )
    save_game(file, text)
    tiny = ("--batch", 8, "--threads", 1, "--precision", "fp32", "--steps", 2)
    assert cli("train", file, "ring", *tiny, "--gamma", 1, "--out", "run").code == 0
    first = next(line for line in events.read(Path("run/events.jsonl")) if line["kind"] == "step")
    assert first["terms"].keys() == {"D.real", "D.fake", "D.r1", "D.grad", "G.adv", "G.grad"}
    assert first["images"] == 5 * 8, "each of the judge's five moves reads a batch"

    data = open_data("ring")
    game, real = zoo.build(file, data.spec), torch.from_numpy(data.arrays["real"][:8]).requires_grad_()
    game.rows = len(real)
    torch.manual_seed(0)
    terms = game.d_loss(real)
    torch.manual_seed(0)
    scores, fake = game.D(real), game.D(game.sample(8))
    torch.testing.assert_close(terms["real"] + terms["fake"], least_squares_judge(scores, fake))
    (slopes,) = torch.autograd.grad(scores.sum(), real)
    torch.testing.assert_close(terms["r1"], 0.1 / 2 * slopes.square().sum(1).mean())
    torch.manual_seed(0)
    torch.testing.assert_close(game.g_loss()["adv"], least_squares_generator(fake))
    rates = []
    for game.images in (0, 500_000):
        judge, generator = game.turns()
        assert (judge.repeat, judge.optim.lr, judge.optim.betas) == (5, game.lr, (0.0, 0.9))
        rates.append(generator.optim.lr)
    assert rates == pytest.approx([1e-3, 1e-4])


# ---- where they lead


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    """Links and pictures of a document, also those to its other language, are files of the project."""
    targets = [resolved(name, to) for _, _, to in LINK.findall(prose(name))]
    missing = sorted({to for to in targets if "://" not in to and not (ROOT / to).exists()})
    assert not missing, f"{name} leads to {', '.join(missing)}"


# ---- two languages


def test_every_document_for_learners_is_there_in_both_languages():
    assert sorted(map(translated, ENGLISH)) == CHINESE


@pytest.mark.parametrize("name", ENGLISH)
def test_documents_begin_with_a_way_to_the_other_language(name):
    for document in (name, translated(name)):
        begin = LANGUAGES.match(read(document))
        assert begin, f"{document} does not begin with its title and its languages"
        assert [resolved(document, to) for to in begin.groups()] == [name, translated(name)]


def skeleton(name: str) -> list[str]:
    """The marks that begin the headings, the entries and the rows of a document, in their order."""
    return re.findall(r"^(#+|-|\|) ", prose(name), re.M)


def typed(name: str) -> list[tuple[str, str]]:
    """The blocks of code of a document with their languages, without comments."""
    return [(kind, re.sub(r"(^|[ \t]+)#.*$", "", body, flags=re.M)) for kind, body in FENCE.findall(read(name))]


def same(name: str) -> list[list[str]]:
    """What no translation changes, in each section: mathematics, code and numbers; their order is the language's."""
    text = LINK.sub(r"\2", prose(name))
    return [sorted(SAME.findall(section)) for section in re.split(r"^#+ ", text, flags=re.M)]


@pytest.mark.parametrize("name", ENGLISH)
def test_both_languages_say_the_same(name):
    """The same headings, lists and tables, the same code, the same pictures, and links to counterparts."""
    chinese = translated(name)
    assert skeleton(chinese) == skeleton(name)
    assert typed(chinese) == typed(name)
    there = {document: translated(document) for document in ENGLISH}
    assert linked(chinese) == [(mark, there.get(to, to)) for mark, to in linked(name)]
    assert same(chinese) == same(name)
    hanzi, letters = (len(re.findall(kind, prose(chinese))) for kind in ("[\u4e00-\u9fff]", "[A-Za-z]"))
    assert hanzi > letters / 2, "it is Chinese"
