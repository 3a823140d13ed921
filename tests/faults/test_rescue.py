"""Rescue: an alarm applies its remedy, says so, and a run killed on the way ends where the straight one does."""

import json
import warnings

import pytest

import elegan
from elegan.run import checkpoint, events, saving
from elegan.training import alarms, probe
from elegan.training.rules import Rule
from tests.conftest import state, tensors

STEPS = 22
TOY = dict(preset="none", z_dim=2, widths=(8,), judge_widths=(8,), batch=16, threads=1, precision="fp32", steps=STEPS)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A probe each second step and a checkpoint at each; an alarm from step 12 to step 20, with two remedies."""
    monkeypatch.setattr(saving, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(saving, "SAVES_COST", 0)
    for room in (alarms, probe):
        monkeypatch.setattr(room, "EVERY", 2)
        monkeypatch.setattr(room, "LISTENED", 1)
    monkeypatch.setattr(alarms, "PAUSE", 2)
    raise_as(monkeypatch, "oscillation")


def raise_as(monkeypatch, name):
    rule = Rule(
        name, lambda s: f"a diagnosis of {s.readings[-1].spread:.9f}" if 10 <= s.step < 20 else "", raised=2, over=1
    )
    monkeypatch.setattr(alarms, "RULES", (rule,))


def trained(out, **options):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        elegan.train("gan", "ring", out=out, **{**TOY, **options})
    return [str(w.message) for w in said]


def lines(run, *kinds):
    return [line for line in events.read(run / "events.jsonl") if line["kind"] in kinds]


def test_an_alarm_is_logged_with_diagnosis_remedy_and_figures_and_said_once(tmp_path):
    said = trained(tmp_path / "run")
    raised, over = lines(tmp_path / "run", "alarm")
    assert (raised["step"], over["step"]) == (12, 20)
    assert raised["name"] == over["name"] == "oscillation"
    assert raised["why"].startswith("a diagnosis of ")
    assert raised["remedy"] == "try --beta1 0, or --gamma 0.1, or --lr 0.0001, or --preset stable"
    assert raised["figures"]["step"] == 12
    assert raised["change"] == over["figures"] == {}
    assert said == [f"step 12, oscillation: {raised['why']}; {raised['remedy']}."]
    assert not lines(tmp_path / "run", "change")


def test_no_checkpoint_is_called_healthy_while_an_alarm_is_on(tmp_path):
    ailing = {}

    def look(event):
        if event.step > 1:
            ailing[event.step] = checkpoint.newest(tmp_path / "run" / "checkpoints").facts["ailments"]

    with pytest.warns(UserWarning, match="oscillation"):
        elegan.train("gan", "ring", out=tmp_path / "run", listeners=[look], **TOY)
    assert {step for step, names in ailing.items() if names == ["oscillation"]} == set(range(12, 20))


def test_a_rescue_applies_its_remedies_in_turn_and_logs_them(tmp_path):
    said = trained(tmp_path / "run", rescue=True)
    changes = [(line["step"], line["change"]) for line in lines(tmp_path / "run", "change")]
    assert changes == [(12, {"beta1": 0.0}), (16, {"rates": 0.5})]
    assert [line["change"] for line in lines(tmp_path / "run", "alarm")] == [{"beta1": 0.0}, {"rates": 0.5}, {}]
    assert state(tmp_path / "run")["changes"] == {"beta1": 0.0, "rates": 0.5}
    assert len(said) == 2
    assert said[0].endswith("; rescue: beta1 = 0.0.")
    again = json.loads((tmp_path / "run" / "options.json").read_text())
    assert again["options"]["beta1"] == 0.5, "what the run was made with"


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The run that was never disturbed, made once for each alarm."""
    made = {}

    def run(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("straight") / name
            trained(made[name], rescue=True)
        return made[name]

    return run


@pytest.mark.parametrize(("name", "cut"), [("oscillation", 11), ("oscillation", 12), ("oscillation", 16),
                                           ("collapse", 12), ("collapse", 13), ("collapse", 16)])  # fmt: skip
def test_a_killed_rescue_ends_where_the_straight_one_does(tmp_path, monkeypatch, straight, name, cut):
    """Cut before, at and after the steps at which something is done; of a collapse that is a rollback, too."""
    raise_as(monkeypatch, name)
    whole = straight(name)
    assert [line["step"] for line in lines(whole, "rollback")] == ([11] if name == "collapse" else [])

    def fall(event):
        if event.step == cut:
            raise KeyboardInterrupt  # as a second Ctrl-C: nothing is saved after it

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "cut", rescue=True, listeners=[fall])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        elegan.resume(tmp_path / "cut")
    assert state(tmp_path / "cut") == state(whole)
    assert tensors(tmp_path / "cut") == tensors(whole)
    kept = [[(line["step"], line.get("why"), line.get("change")) for line in lines(run, "alarm", "change")]
            for run in (tmp_path / "cut", whole)]  # fmt: skip
    assert kept[0] == kept[1]
