"""The contract, held by its hardest customers; and, of each, the thing that makes it hard."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from elegan.data.batches import Batches
from elegan.penalties import gradient_penalty, r1
from elegan.run import checkpoint
from elegan.run.directory import RunDirectory
from elegan.run.saving import load_into, save
from elegan.training.loop import Loop, train
from tests.contract import checks, customers
from tests.contract.checks import SOURCES, Case, bits, differing, fresh, only, snapshot


def mel(batch: dict[str, Tensor]) -> Tensor:
    return customers.spectrum(batch["real"])


def noise_of(batch: dict[str, Tensor]) -> Tensor:
    """Noise that belongs to the row, (B, 4): what a whole batch draws, its shards draw."""
    return batch["real"].flatten(1)[:, :4] * 1.7


TIMEGAN = Case("timegan", customers.TimeGAN, SOURCES["series"], steps=8, cuts=(1, 4, 6))
SEQGAN = Case("seqgan", customers.SeqGAN, SOURCES["tokens"])
HIFIGAN = Case("hifigan", customers.HiFiGAN, SOURCES["audio"], derived={"mel": mel})
STYLEGAN2 = Case("stylegan2-ada", customers.StyleGAN2ADA, SOURCES["images"], steps=9, cuts=(1, 4, 7))
PROGAN = Case("progan", customers.ProGAN, SOURCES["images"], steps=7)
CYCLEGAN = Case("cyclegan", customers.CycleGAN, SOURCES["unpaired"])
ADVGAN = Case("advgan", customers.AdvGAN, SOURCES["images"])
BIGGAN = Case("biggan", customers.BigGAN, SOURCES["images"], derived={"z": noise_of})
CASES = (TIMEGAN, SEQGAN, HIFIGAN, STYLEGAN2, PROGAN, CYCLEGAN, ADVGAN, BIGGAN)


@pytest.mark.parametrize("rule", checks.CONTRACT, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_contract(case, rule, tmp_path):
    rule(case, tmp_path)


def snapshots(case: Case, **options) -> list[tuple[str, dict[str, Tensor]]]:
    """The phase and everything a run consists of, before the first step and after each."""
    game = case.game(case.source.spec, **{**case.options, **options})
    state = fresh(game)
    seen = [("", snapshot(game, state))]
    for event in train(game, case.batches(), case.steps, state=state):
        seen.append((event.phase, snapshot(game, state)))
    return seen


def at_cut(case: Case, folder: Path, cut: int):
    """The game and state of a case, resumed from disk at a cut of a journey."""
    game = case.build(seed=99)
    state = fresh(game)
    load_into(game, state, checkpoint.newest(RunDirectory(folder / str(cut)).checkpoints))
    return game, state


# -- TimeGAN: phases, and a gate --------------------------------------------------------------------------------------


def test_timegan_phases_move_their_own_players():
    seen = snapshots(TIMEGAN, gate=0.0)
    changed = [differing(only(a, "weights"), only(b, "weights")) for (_, a), (_, b) in pairwise(seen)]
    moved = [{name.split("/")[1][0] for name in names} for names in changed]
    assert moved == [{"E", "R"}] * 2 + [{"S"}] * 2 + [{"G", "S", "E", "R", "D"}] * 4
    assert [phase for phase, _ in seen[1:]] == ["autoencode"] * 2 + ["supervise"] * 2 + ["joint"] * 4


def test_timegan_shut_gate_leaves_judge_and_moments_to_the_bit():
    game = TIMEGAN.build()
    state = fresh(game)
    running = train(game, TIMEGAN.batches(), 9, state=state)
    for event in running:
        if event.step == 6:
            break
    opened = snapshot(game, state)
    assert only(opened, "optim/Adam/D"), "two moves behind an open gate leave moments"
    assert event.terms["D.adv"] > 0.15

    event = running.send({"gate": 1e6})
    shut = snapshot(game, state)
    mine = ("weights/D", "optim/Adam/D")
    assert differing(only(opened, *mine), only(shut, *mine)) == []
    assert "weights/G.head.weight" in differing(opened, shut), "the others go on"
    assert event.terms["D.grad"] > 0
    running.send({"gate": 0.15})
    moved = differing(only(shut, *mine), only(snapshot(game, state), *mine))
    assert {"weights/D.head.weight", "optim/Adam/D.head.weight/exp_avg", "optim/Adam/D.head.weight/step"} <= set(moved)


# -- SeqGAN: tokens, and an estimator that is not pathwise ------------------------------------------------------------


def test_seqgan_reinforces_what_the_judge_likes():
    game = SEQGAN.game(SEQGAN.source.spec, pretrain=0, lr=0.05)

    class Likes(torch.nn.Module):
        def forward(self, tokens):  # sentences of word 3
            return 8 * (tokens == 3).float().mean(1) - 4

    game.D.forward = Likes().forward
    before = (game.sample(400) == 3).float().mean()
    loop = Loop(game, Batches(SEQGAN.source, rows=32))
    for _ in range(40):
        loop.begin()
        loop.advance(loop.turns[0])
        loop.end()
    assert (game.sample(400) == 3).float().mean() > before + 0.2


def test_seqgan_changes_from_likelihood_to_reward():
    game = SEQGAN.build()
    named = [set(event.terms) for event in train(game, SEQGAN.batches(), 4)]
    assert [{n for n in names if n.startswith("G.")} for names in named] == [{"G.nll", "G.grad"}] * 2 + [
        {"G.adv", "G.reward", "G.grad"}
    ] * 2


def test_tokens_arrive_as_whole_numbers():
    real = SEQGAN.batches()(0, 0, 0, 4)["real"]
    assert (real.dtype, real.shape) == (torch.int64, (4, 5))
    assert {tuple(row) for row in real.tolist()} <= {tuple(row) for row in SEQGAN.source.arrays["real"].tolist()}


# -- HiFi-GAN: lists of judges ----------------------------------------------------------------------------------------


def test_hifigan_every_judge_counts():
    game = HIFIGAN.build()
    batch = HIFIGAN.batches()(0, 0, 0, 4, ("real", "mel"))
    game.d_loss(**batch)["adv"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in game.D.parameters())
    assert all(p.grad is None for p in game.G.parameters())
    # by hand: every verdict of every judge, ½ (D(x) − 1)² + ½ D(G)²
    real, fake = game.judged(batch["real"]), game.judged(game.G(batch["mel"]))
    pairs = [(real[0][0], fake[0][0]), (real[1][0], fake[1][0]), *zip(real[2][0], fake[2][0], strict=True)]
    by_hand = sum((((r - 1) ** 2).mean() + (f**2).mean()) / 2 for r, f in pairs)
    torch.testing.assert_close(game.d_loss(**batch)["adv"], by_hand)
    layers = [(a, b) for k in (0, 1) for a, b in zip(real[k][1], fake[k][1], strict=True)]
    layers += [(a[0], b[0]) for a, b in zip(real[2][1], fake[2][1], strict=True)]
    matching = 2 * sum((a - b).abs().mean() for a, b in layers)
    torch.testing.assert_close(game.g_loss(**batch)["features"], matching)


def test_hifigan_penalties_take_lists():
    game = HIFIGAN.build()
    batch = HIFIGAN.batches()(0, 0, 0, 4)["real"]
    x = batch.clone().requires_grad_()
    outputs = game.judged(x)
    total = outputs[0][0].sum() + outputs[1][0].sum() + sum(scale.sum() for scale in outputs[2][0])
    by_hand = torch.autograd.grad(total, x)[0].square().flatten(1).sum(1).mean()
    torch.testing.assert_close(r1(game.judged, batch), by_hand)
    gradient_penalty(game.judged, batch, batch.flip(0)).backward()
    assert all(p.grad is not None for p in (game.D[0].body[0].weight, game.D[2].into.weight))


def test_hifigan_derived_fields_are_computed_only_when_named():
    asked = []

    def counting(batch):
        asked.append(set(batch))
        return mel(batch)

    batches = Batches(HIFIGAN.source, rows=4, derived={"mel": counting})
    batches(0, 0, 0, 4)
    assert asked == []
    assert batches(0, 0, 0, 4, ("mel",))["mel"].shape == (4, 5, 8)
    assert asked == [{"real"}]


# -- StyleGAN2-ADA: a lazy turn, and a strength that adapts -----------------------------------------------------------


def test_stylegan2_lazy_turn_is_rare_and_multiplied():
    game = STYLEGAN2.build()
    loop = Loop(game, STYLEGAN2.batches())
    seen = [loop.step() for _ in range(9)]
    assert [event.step - 1 for event in seen if "D.r1" in event.terms] == [0, 4, 8]

    game = STYLEGAN2.build()
    loop = Loop(game, STYLEGAN2.batches())
    lazy = loop.begin()[1]
    loop.advance(lazy)
    got = [p.grad.clone() for p in game.D.parameters() if p.grad is not None and p.ndim > 1]
    again = STYLEGAN2.build()
    terms = again.r1_loss(STYLEGAN2.batches()(0, 0, 0, 4)["real"])
    wanted = torch.autograd.grad(terms["r1"], [p for p in again.D.parameters() if p.ndim > 1])
    for g, w in zip(got, wanted, strict=True):
        assert w.abs().sum() > 0
        torch.testing.assert_close(g, 4 * w)


def test_stylegan2_strength_adapts_and_survives(tmp_path):
    case = Case(**{**vars(STYLEGAN2), "options": {"strength": 0.5, "target": 1.5}})  # no judge is so sure: it falls
    game = case.build()
    state = fresh(game)
    strengths = []
    for event in train(game, case.batches(), 6, state=state):
        strengths.append(float(game.augment.strength))
        if event.step == 5:
            save(RunDirectory(tmp_path), game, state, {})
    assert strengths == [pytest.approx(0.5 - 4 * k / 64) for k in range(1, 7)]
    again = case.build(seed=5)
    later = fresh(again)
    load_into(again, later, checkpoint.newest(RunDirectory(tmp_path).checkpoints))
    assert float(again.augment.strength) == strengths[4]
    assert float(later.average.game.augment.strength) == strengths[4]
    for _ in train(again, case.batches(), 6, state=later):
        pass
    assert float(again.augment.strength) == strengths[5]


# -- ProGAN: growth is a gate -----------------------------------------------------------------------------------------


def test_progan_all_parameters_exist_and_wait_their_turn():
    game = PROGAN.game(PROGAN.source.spec, fade=10**9)
    state = fresh(game)
    names = [n for n, _ in game.named_parameters()]
    before = snapshot(game, state)
    for _ in train(game, PROGAN.batches(), 3, state=state):
        pass
    game.before()
    moved = differing(only(before, "weights"), only(snapshot(game, state), "weights"))
    assert [n for n, _ in game.named_parameters()] == names
    assert "weights/G.to_image.0.weight" in moved
    assert "weights/D.from_image.0.weight" in moved
    assert not {"weights/G.to_image.2.weight", "weights/D.from_image.2.weight"} & set(moved)


def test_progan_fades_by_images_and_goes_on_in_mid_fade(tmp_path):
    checks.journey(PROGAN, tmp_path, PROGAN.cuts)
    for cut in PROGAN.cuts:
        game, state = at_cut(PROGAN, tmp_path, cut)
        loop = Loop(game, PROGAN.batches(), state=state)
        assert state.images == 4 * cut
        loop.begin()
        assert float(game.G.grown) == pytest.approx(4 * cut / 20)


def test_progan_average_is_drawn_as_far_as_it_has_grown():
    """What a run holds in memory at its end is what its checkpoint gives back: the gate stands where the images do."""
    game = PROGAN.build()
    state = fresh(game)
    for _ in train(game, PROGAN.batches(), 3, state=state):
        pass
    assert state.average.game.images == game.images == 12
    assert float(state.average.game.G.grown) == pytest.approx(0.6)


# -- CycleGAN: published tensors, and a pool --------------------------------------------------------------------------


def test_cyclegan_judge_sees_what_the_generator_has_just_drawn():
    game = CYCLEGAN.build()
    seen = []
    own = game.pooled
    game.pooled = lambda fresh_ones: seen.append(fresh_ones) or own(fresh_ones)
    loop = Loop(game, CYCLEGAN.batches())
    for step in range(2):
        generator, judge = loop.begin()
        with torch.no_grad():
            drawn = game.F(loop.batches(0, step, 0, 4)["b"])
        loop.advance(generator)
        loop.advance(judge)
        loop.end()
        assert bits(seen[-1]) == bits(drawn), "drawn before the generator moved"
        assert not seen[-1].requires_grad
    assert int(game.kept) == 8


def test_cyclegan_pool_is_equal_after_resume(tmp_path):
    whole = checks.finished(CYCLEGAN)
    checks.journey(CYCLEGAN, tmp_path, (5,))
    game, state = at_cut(CYCLEGAN, tmp_path, 5)
    assert int(game.kept) == 20
    assert game.pool_a.abs().sum(dim=(1, 2, 3)).gt(0).all(), "the pool is full"
    loop = Loop(game, CYCLEGAN.batches(), state=state)
    loop.step()
    assert bits(game.pool_a) == bits(whole["weights/pool_a"])


# -- AdvGAN: a helper that never moves --------------------------------------------------------------------------------


def test_advgan_frozen_classifier_stays_and_lets_gradients_through():
    game = ADVGAN.build()
    before = {n: t.clone() for n, t in game.C.state_dict().items()}
    loop = Loop(game, ADVGAN.batches())
    through = []
    game.C.register_forward_hook(lambda module, args, out: through.append((module.training, out.requires_grad)))
    for _ in range(4):
        loop.step()
    assert through == [(False, True)] * 4, "in eval mode, and part of the generator's graph"
    assert differing(before, game.C.state_dict()) == []
    assert all(not p.requires_grad and p.grad is None for p in game.C.parameters())
    assert game.G.training
    assert game.D.training

    moves = []
    for weight in (0.0, 1.0):  # by the classifier's verdict alone the generator's gradient differs
        game = ADVGAN.game(ADVGAN.source.spec, attack=weight)
        game.load_state_dict(ADVGAN.build().state_dict())
        loop = Loop(game, ADVGAN.batches())
        turn = loop.begin()[1]
        loop.advance(turn)
        moves.append(game.G[0].weight.grad.clone())
    assert not torch.equal(*moves)


# -- BigGAN: micro-batches --------------------------------------------------------------------------------------------


def test_biggan_four_shards_have_the_gradient_of_the_whole():
    big = Case(**{**vars(BIGGAN), "rows": 16})
    gradients, terms = [], []
    for shards in (1, 4):
        loop = Loop(big.build(), big.batches(shards=shards))
        generator, judge = loop.begin()
        terms.append([loop.advance(generator), loop.advance(judge)])
        gradients.append({n: p.grad.clone() for n, p in loop.game.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert sum(whole.abs().max() > 1e-3 for whole in gradients[0].values()) > 4
    for name, whole in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], whole, rtol=1e-5, atol=1e-6)
    for whole, parts in zip(*terms, strict=True):
        for name in whole:
            torch.testing.assert_close(parts[name], whole[name])


def test_biggan_published_tensors_stay_in_their_shard_and_the_first_keeps_the_pool():
    big = Case(**{**vars(BIGGAN), "rows": 16})
    game = big.build()
    seen = []
    own = game.d_loss
    loop = Loop(game, big.batches(shards=4))

    def watched(real, fake):
        seen.append((game.rows, bits(real), bits(fake)))
        return own(real, fake)

    game.d_loss = watched
    generator, judge = loop.begin()
    with torch.no_grad():
        batches = [loop.batches(0, 0, shard, 4, ("real", "label", "z")) for shard in range(4)]
        drawn = [game.G(b["z"], b["label"]) for b in batches]
    loop.advance(generator)
    loop.advance(judge)
    assert seen == [(4, bits(b["real"]), bits(f)) for b, f in zip(batches, drawn, strict=True)]
    assert bits(game.pool) == bits(drawn[0]), "every shard starts from the same buffers; shard 0's are kept"


def test_biggan_resumes_in_shards(tmp_path):
    big = Case(**{**vars(BIGGAN), "rows": 16, "steps": 4})
    ends = []
    for cut in (None, 2):
        game = big.build()
        state = fresh(game)
        for _ in train(game, big.batches(shards=4), cut or 4, state=state):
            pass
        if cut:
            save(RunDirectory(tmp_path), game, state, {})
            game = big.build(seed=99)
            state = fresh(game)
            load_into(game, state, checkpoint.newest(RunDirectory(tmp_path).checkpoints))
            for _ in train(game, big.batches(shards=4), 4, state=state):
                pass
        ends.append(snapshot(game, state))
    assert differing(*ends) == []
