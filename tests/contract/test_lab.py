"""A lab trains what `elegan train` trains, to the bit, however it is watched, stepped, slowed down or kept."""

import contextlib
import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import elegan
from elegan import zoo
from elegan.data.batches import Batches
from elegan.data.sources import open_data
from elegan.errors import DataError, OptionError
from elegan.metrics.duality_gap import duality_gap
from elegan.run.checkpoint import newest
from elegan.run.saving import named_state
from elegan.studio.lab import bench as bench_room
from elegan.studio.lab.bench import LARGEST, live
from elegan.studio.lab.catalogue import catalogue, playable
from elegan.studio.lab.lab import Lab
from elegan.studio.lab.stages import STAGES
from elegan.studio.lab.views import Shown
from elegan.studio.setup import Setup
from elegan.training.alarms import Alarm
from tests.contract.labs import ALL, BN, CUSTOM, GAN, R3GAN, SMALL, WGAN, frame, lab, played, weights

# ---- the same as the command line's


@pytest.mark.parametrize("bench", [GAN, R3GAN])
def test_a_bench_trains_bit_for_bit_what_elegan_train_trains(tmp_path, bench):
    preset, options = bench.get("preset"), {n: tuple(v) for n, v in bench["options"].items()}
    model = elegan.train(
        bench["game"], "ring", out=tmp_path / "run", steps=60, batch=16, seed=3, preset=preset, half_life_images=20,
        threads=1, precision="fp32", device="cpu", **options,
    )  # fmt: skip
    made = lab(bench, seed=3, half_life_images=20)
    played(made, 60)
    trained = newest(tmp_path / "run" / "checkpoints").tensors
    readings = trained["alarms"]["readings"]
    assert np.array_equal(made.benches[0].alarms.tensors()["readings"].numpy(), readings, equal_nan=True)
    assert np.isfinite(readings[:, -1]).all(), "how much the judge knows by heart is read off held-out samples"
    for part, game in (("weights", made.benches[0].game), ("average", model.game)):
        for name, tensor in named_state(game).items():
            assert np.array_equal(tensor.numpy(), trained[part][name]), name
    for name, tensor in named_state(made.benches[0].average).items():
        assert np.array_equal(tensor.numpy(), trained["average"][name]), name
    assert made.benches[0].plan["options"] == model.plan["options"]


def test_benches_in_lockstep_do_not_know_of_each_other():
    together = played(lab(GAN, R3GAN, WGAN), 12)
    assert together == [played(lab(bench, batch=16), 12)[0] for bench in (GAN, R3GAN, WGAN)]
    assert len({weights["place"] for weights in together[:2]}) == 1


def test_looking_changes_nothing_of_a_training():
    watched, alone = lab(BN, WGAN), lab(BN, WGAN)
    state = torch.get_rng_state()
    for k in range(8):
        watched.shown = Shown(average=bool(k % 2), points=16 + k)
        watched.frame(k, True, 0.0)
        watched.measure()
        assert torch.equal(torch.get_rng_state(), state), "the random state is as it was"
        watched.round()
        alone.round()
        torch.set_rng_state(state)
    assert [weights(bench) for bench in watched.benches] == [weights(bench) for bench in alone.benches]
    modes = [[m.training for m in made.benches[0].game.modules()] for made in (watched, alone)]
    assert modes[0] == modes[1]
    assert any(modes[0])


# ---- step by step


def test_single_moves_make_the_round_that_play_makes():
    by_hand, at_once = lab(BN, WGAN), played(lab(BN, WGAN), 2)
    for who in ("D", "G", "D"):
        by_hand.turn(who)
    assert [bench.state.step for bench in by_hand.benches] == [1, 1]
    by_hand.turn("both")
    assert [weights(bench) for bench in by_hand.benches] == at_once


def test_a_step_moves_one_player_and_no_other():
    made = lab(GAN)
    bench = made.benches[0]
    before = copy.deepcopy(named_state(bench.game))
    made.turn("D")
    moved = {name for name, tensor in named_state(bench.game).items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(name.startswith("D.") for name in moved)
    assert bench.state.step == 0
    judge = copy.deepcopy(named_state(bench.game.D))
    made.turn("D")
    assert any(not torch.equal(tensor, judge[name]) for name, tensor in named_state(bench.game.D).items()), "again"
    assert bench.state.step == 0
    assert not frame(made)[0]["average"], "in the middle of a round only the live players have moved"
    made.turn("G")
    assert bench.state.step == 1
    assert frame(made)[0]["average"]


def test_who_is_not_there_cannot_move():
    made = lab({"game": "vae"})
    with pytest.raises(OptionError, match="no judge to move"):
        made.turn("D")
    made.turn("G")
    assert made.step == 1


def test_a_round_in_slow_motion_is_a_round():
    slow = lab(BN)
    stages = []
    for _ in range(5 * 3 * 2):  # five stages of three moves, two rounds
        slow.stage()
        stages.append(frame(slow)[0]["stage"])
    names = [(s["player"], s["move"], s["moves"], s["name"], s["number"], s["of"]) for s in stages]
    one = [
        (player, move, moves, name, k, 5)
        for player, move, moves in (("D", 1, 2), ("D", 2, 2), ("G", 1, 1))
        for k, name in enumerate(STAGES, 1)
    ]
    assert names == one * 2
    assert slow.step == 2
    assert [weights(slow.benches[0])] == played(lab(BN), 2)


@pytest.mark.parametrize("stages", range(1, 16))
def test_play_finishes_a_round_that_was_begun_in_slow_motion(stages):
    slow = lab(BN)
    for _ in range(stages):
        slow.stage()
    if stages < 15:
        assert slow.step == 0
        slow.round()
    assert slow.step == 1
    assert frame(slow)[0]["stage"] is None or stages == 15
    slow.round()
    assert [weights(slow.benches[0])] == played(lab(BN), 2)


def test_a_step_after_the_last_move_of_slow_motion_is_of_the_next_round():
    slow, by_hand = lab(BN), lab(BN)
    for _ in range(12):  # of the third and last move, not yet all stages
        slow.stage()
    assert slow.step == 0
    slow.turn("D")
    assert slow.step == 1
    by_hand.round()
    by_hand.turn("D")
    assert weights(slow.benches[0]) == weights(by_hand.benches[0])


def test_a_game_of_fewer_moves_waits_in_slow_motion():
    slow = lab(GAN, WGAN)
    for _ in range(5 * 4):
        slow.stage()
    assert [bench.state.step for bench in slow.benches] == [1, 1]
    assert [weights(bench) for bench in slow.benches] == played(lab(GAN, WGAN), 1)


def test_stages_show_what_the_very_move_did():
    """Recomputed by hand from the batch, the noise and the weights before."""
    made = lab({"game": "gan", "preset": "vector", "options": {**SMALL, "lr": 0.01}}, data=CUSTOM)
    bench, view = made.benches[0], made.views[0]
    was = copy.deepcopy(bench.game)
    seen = {}
    for _ in range(10):
        made.stage()
        head, arrays = frame(made)
        seen[head["stage"]["player"], head["stage"]["name"]] = head["benches"][0]["figures"], arrays
    real = bench.loop.batches(0, 0, 0, 16)["real"]
    assert np.allclose(seen["D", "draw"][1]["0/batch_real"], view.raw(real), atol=1e-3)
    assert "0/batch_judged_fake" not in seen["D", "draw"][1]
    surfaces = {name: seen["D", name][1]["0/surface"] for name in STAGES}
    before = view.arrays(was, ALL)
    assert all(np.array_equal(surfaces[name], before["surface"]) for name in STAGES[:4]), "as it was before the move"
    assert not np.array_equal(surfaces["update"], before["surface"])
    assert np.allclose(seen["G", "gradient"][1]["0/fake"], before["fake"], atol=1e-3)
    assert not np.allclose(seen["G", "update"][1]["0/fake"], before["fake"], atol=1e-3)
    figures, arrays = seen["D", "update"]
    fake = view.codec.encode(torch.from_numpy(arrays["0/batch_fake"]))
    with torch.no_grad():
        said = torch.cat([was.D(real), was.D(fake)])
    shown = np.concatenate([arrays["0/batch_judged_real"], arrays["0/batch_judged_fake"]])
    assert np.abs(shown / 255 - torch.sigmoid(said).numpy()).max() < 0.01
    softplus = torch.nn.functional.softplus
    loss = (softplus(-said[:16]).mean() + softplus(said[16:]).mean()) / 2
    assert figures["adv"] == pytest.approx(float(loss), abs=1e-4)
    moved = [now - before for now, before in zip(bench.game.D.parameters(), was.D.parameters(), strict=True)]
    assert figures["moved"] == pytest.approx(float(torch.stack([m.detach().norm() for m in moved]).norm()), rel=1e-4)
    figures, arrays = seen["G", "gradient"]
    fake = view.codec.encode(torch.from_numpy(arrays["0/batch_fake"])).requires_grad_()
    (gradient,) = torch.autograd.grad(softplus(-bench.game.D(fake)).mean(), fake)
    assert np.allclose(
        arrays["0/batch_arrows"] / view.scale, -gradient.numpy(), atol=1e-4 * gradient.abs().max().item() + 1e-5
    )
    assert "0/batch_real" not in arrays, "the generator's loss reads no real samples"
    assert figures["grad"] > 0


# ---- changes


def test_changes_steer_the_loop_as_the_command_line_would():
    made, other = lab(GAN), lab(GAN)
    for one, options in ((made, {"k": 3, "loss": "hinge", "D.lr": 1e-4}), (other, {})):
        one.round()
        if options:
            one.benches[0].change(options)
        one.round()
    assert made.benches[0].state.images == 16 + 3 * 16
    assert other.benches[0].state.images == 2 * 16
    assert made.benches[0].rates()["D.lr"] == 1e-4
    assert made.benches[0].average.loss == "hinge"
    assert made.benches[0].info()["options"]["k"] == 3


def test_all_rates_are_scaled_together():
    made = lab(GAN)
    before = made.benches[0].rates()
    made.benches[0].change({"rates": 0.25})
    assert made.benches[0].rates() == {name: rate / 4 for name, rate in before.items()}
    made.round()
    assert made.benches[0].event.rates == made.benches[0].rates(), "which is what the loop trains with"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"widths": [4]}, "fixed when gan is built"),
        ({"augment": "light"}, "fixed when gan is built"),
        ({"gama": 1.0}, "gamma"),
        ({"stop": True}, "no change named 'stop'"),
        ({"rollback": "x"}, "no change named 'rollback'"),
        ({"k": 5_000}, "too long to watch"),
        ({"k": -1}, "k"),
        ({"k": 1.5}, "k"),
        ({"D.lr": -1.0}, "lr"),
        ({"gamma": 1.0, "loss": "l7"}, "loss"),
        ({"k": 0, "generator_k": 0}, "nobody"),
    ],
)
def test_what_cannot_change_changes_nothing(change, said):
    made = lab(GAN)
    made.round()
    with pytest.raises(OptionError, match=said) as caught:
        made.benches[0].change(change)
    assert "\n" not in str(caught.value)
    made.round()
    assert made.benches[0].state.changes == {}
    assert [weights(made.benches[0])] == played(lab(GAN), 2)


@pytest.mark.parametrize("name", playable())
def test_every_game_of_the_catalogue_trains_shows_and_changes(name):
    file = zoo.describe(name)
    made = lab({"game": name}, batch=8)
    bench = made.benches[0]
    for option in live(name):
        value = getattr(bench.game, option)
        if type(value) in (int, float):
            bench.change({option: value * 2 if type(value) is int else value / 2})
    made.round()
    made.turn("both")
    made.stage()
    made.round()
    made.measure()
    head, arrays = frame(made)
    info = bench.info()
    assert made.step == 3
    assert arrays["0/fake"].shape == (16, 2)
    assert np.isfinite(arrays["0/fake"]).all()
    assert ("0/surface" in arrays) == made.views[0].judged
    assert head["benches"][0]["measures"]["js"] <= math.log(2)
    assert {p["name"] for p in info["players"]} <= {n for n, _ in bench.game.named_children()}
    assert set(info["live"]) <= {option.name for option in file.options}
    assert set(info["rates"]) == {rate for player in info["players"] if (rate := player["rate"])}


def test_the_catalogue_is_what_the_page_is_promised():
    found = catalogue()
    games = {game["name"]: game for game in found["games"]}
    assert {"gan", "wgan-gp", "r3gan", "vae"} <= games.keys()
    assert not {"dcgan", "cgan", "cyclegan"} & games.keys()
    options = {option["name"]: option for option in games["gan"]["options"]}
    assert options["loss"]["choices"] == ["minimax", "non-saturating", "least-squares", "hinge"]
    assert options["judge_lr"] | {"help": ""} == {
        "name": "judge_lr", "type": "float", "choices": None, "optional": True, "default": None, "help": "",
    }  # fmt: skip
    assert options["widths"]["default"] == [256, 512, 1024]
    assert games["gan"]["paper"] == "1406.2661"
    assert games["vae"]["players"] == ["G"]
    assert games["wgan-gp"]["players"] == ["D", "G"]
    assert Setup.model_validate(found["setup"]) == Setup()
    assert "ring" in {data["name"] for data in found["data"]}


# ---- what makes no lab


@pytest.mark.parametrize(
    ("setup", "said"),
    [
        ({"benches": [{"game": "gann"}]}, "'gan'"),
        ({"benches": [{"game": "dcgan"}]}, "needs images"),
        ({"benches": [{"game": "gan", "preset": "nine"}]}, "preset 'nine'"),
        ({"benches": [{"game": "gan", "options": {"widht": 3}}]}, "widht"),
        ({"benches": [{"game": "gan", "options": {"widths": [0]}}]}, "1 or more|nothing"),
        ({"benches": [{"game": "gan", "options": {"widths": [10**6, 10**6]}}]}, "parameters"),
        ({"benches": [{"game": "gan", "options": {"z_dim": 10**15}}]}, "gan"),
        ({"benches": [{"game": "lsgan", "options": {"targets": [1.0]}}]}, "lsgan"),
        ({"benches": [{"game": "gan", "options": {"k": 10**6}}]}, "too long to watch"),
        ({"data": {"kind": "preset", "name": "rong"}}, "'ring'"),
        ({"data": {"kind": "preset", "name": "ring", "samples": 12}}, "fewer than one batch"),
        ({"trained": True, "data": CUSTOM}, "no trained start"),
    ],
)
def test_what_makes_no_lab_is_said_in_one_sentence(setup, said):
    setup = dict(setup)
    with pytest.raises((OptionError, DataError), match=said) as caught:
        lab(*setup.pop("benches", [GAN]), **setup)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_the_size_of_a_game_is_known_before_it_is_built():
    with pytest.raises(OptionError, match=f"takes {LARGEST:,}"):
        lab({"game": "gan", "options": {"widths": [1_000, 2_000]}})


def test_a_bench_that_diverges_ends_and_the_others_go_on():
    made = lab({**GAN, "options": {**SMALL, "lr": 1e17}}, GAN)
    for _ in range(60):
        made.round()
    ended, other = made.benches
    assert "Try a lower --lr" in ended.ended
    assert other.state.step == 60
    assert made.training == [other]
    told = frame(made)[0]["benches"]
    assert told[0]["ended"]
    assert not told[1]["ended"]
    assert [weights(other)] == played(lab(GAN), 60)


def alarms(made: Lab) -> dict[str, dict]:
    return {alarm["name"]: alarm for alarm in frame(made)[0]["benches"][0]["alarms"]}


def test_a_slow_round_is_said_until_it_is_quick_again(monkeypatch):
    monkeypatch.setattr(bench_room, "SLOW", 0.0)
    made = lab(GAN)
    assert alarms(made)["slow"]["why"].startswith("a round takes 0.")
    assert "narrower" in alarms(made)["slow"]["remedy"]
    monkeypatch.undo()
    made.benches[0].change({"k": 1})
    assert not alarms(made)


def test_a_slow_round_is_forgotten_by_a_quick_one(monkeypatch):
    monkeypatch.setattr(bench_room, "SLOW", 0.0)
    made = lab(GAN)
    made.round()
    assert "slow" in alarms(made)
    monkeypatch.undo()
    made.round()
    assert not alarms(made)


def test_changes_that_are_fine_one_by_one_do_not_end_a_lab_together():
    """Whole numbers as rates multiply to what no optimiser takes as a number of its own."""
    made = lab(WGAN)
    for change in ({"D.lr": 10**10}, {"rates": 10**10}):
        with contextlib.suppress(OptionError):  # it may be refused
            made.benches[0].change(change)
        made.round()


def test_lost_modes_are_an_alarm_with_a_remedy_until_the_houses_own_is_raised(monkeypatch):
    made = lab(GAN)
    made.round()
    monkeypatch.setattr(made.measuring[0], "lost", lambda: "it draws 3 of 8")
    assert alarms(made)["collapse"]["why"] == "it draws 3 of 8"
    assert "--gamma 0.1" in alarms(made)["collapse"]["remedy"]
    made.benches[0]._hear(Alarm("collapse", 100, "they are alike", "do this"))
    assert alarms(made)["collapse"]["why"] == "they are alike"
    made.benches[0]._hear(Alarm("collapse", 200))
    assert alarms(made)["collapse"]["why"] == "it draws 3 of 8"


def test_what_is_remembered_of_a_long_training_is_little_and_from_all_of_it(monkeypatch):
    monkeypatch.setattr(bench_room, "KEPT", 110)
    made = lab(GAN)
    played(made, 450)
    steps = [kept[0] for kept in made.benches[0].kept]
    assert steps == [*range(1, 101), *range(120, 451, 40)]


def test_the_duality_gap_is_that_of_the_house_and_stays_until_it_is_asked_again():
    made = lab(GAN)
    played(made, 5)
    made.measure()
    bench = made.benches[0]
    held_out = Batches(replace(open_data("ring", split="test"), spec=bench.game.spec), rows=16)
    expected = duality_gap(bench.game, Batches(open_data("ring"), rows=16), held_out, seed=0).gap.value
    before = weights(bench)
    assert made.gap(0) == pytest.approx(expected, abs=1e-6)
    assert weights(bench) == before
    assert frame(made)[0]["benches"][0]["measures"]["gap"] == made.gap(0)
    with pytest.raises(OptionError, match="no duality gap"):
        lab({"game": "vae"}).gap(0)
