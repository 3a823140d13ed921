"""The lab in a real browser: everything a person does with it, from the ring to a link that restores it.

With ELEGAN_PICTURES=docs/images the pictures of the documentation are made anew.
"""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.browser import FLAGS, WATCH, Studio, chromium, studio, wait

pytestmark = pytest.mark.process
WEB = Path(__file__).parents[2] / "src" / "elegan" / "studio" / "web"
SECONDS = 30_000  # milliseconds that anything may take on a crowded machine
PICTURES = os.environ.get("ELEGAN_PICTURES")
SMALL = {"benches": [{"game": "gan", "preset": "gan-lab"}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with studio(tmp_path_factory.mktemp("lab") / "runs") as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def visit(server, browser):
    """Opens the lab in a tab of a person of their own; at the end says whether anything went wrong in it."""
    contexts, wrong = [], []

    def opened(setup: dict | None = None, **settings) -> Page:
        if setup is not None:
            server.open(setup)
        else:
            server.close_labs()
        context = browser.new_context(**{"viewport": {"width": 1_440, "height": 900}, "locale": "en-GB", **settings})
        contexts.append(context)
        context.set_default_timeout(SECONDS)
        page = context.new_page()
        page.add_init_script(WATCH)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda told: wrong.append(told.text) if is_fault(told) else None)
        page.on("request", lambda asked: None if asked.url.startswith((server.base, "blob:", "data:"))
                else wrong.append(f"asks {asked.url}"))  # fmt: skip
        page.goto(server.link)
        ready(page)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not wrong


def is_fault(told) -> bool:
    """Whether a message of the console is one; a browser also writes there that an answer was a refusal."""
    return told.type in ("error", "warning") and "status of 422" not in told.text


def ready(page: Page) -> None:
    """Until a frame has been drawn."""
    wait(page, "() => window.__seen?.drawn.length > 0")


def tell(page: Page, **command) -> None:
    page.evaluate("told => window.__socket.send(JSON.stringify(told))", command)


def newest(page: Page) -> dict:
    return page.evaluate("window.__seen.frames.at(-1)")


def until(page: Page, condition: str, argument: object = None) -> None:
    """Until something holds of the newest frame, `f`, and of an argument, `a`."""
    wait(page, f"a => {{ const f = window.__seen.frames.at(-1); return {condition} }}", argument)


def button(page: Page, name: str):
    return page.get_by_role("button", name=name, exact=True)


def picture(page: Page, name: str, first: str = "") -> None:
    """A picture of the page, where the documentation's are asked for; what is to hold of the newest frame first."""
    if PICTURES:
        if first:
            button(page, "Play").click()
            until(page, first)
            button(page, "Pause").click()
        page.wait_for_timeout(500)  # what moves has come to rest
        page.screenshot(path=Path(PICTURES) / name)


def pixels(page: Page) -> str:
    return page.locator("#plane canvas").first.evaluate("canvas => canvas.toDataURL()")


# ---- training


def test_the_ring_is_learnt(visit):
    page = visit()
    page.keyboard.press("Space")
    until(page, "f.measures?.modes === 8 && f.measures.quality > 0.5")
    until(page, "f.measures.js < 0.25")
    button(page, "Pause").click()
    expect(page.get_by_label("How it stands")).to_contain_text("8/8")
    expect(page.locator(".charts canvas").first).to_be_visible()
    picture(page, "lab.png", first="f.measures.quality > 0.85")


@pytest.mark.parametrize(("name", "player"), [("Judge", "D"), ("Generator", "G")])
def test_a_player_moves_alone(visit, name, player):
    """The judge's surface changes and no point does, or the other way round."""
    page = visit(SMALL)
    tell(page, do="view", average=False)
    before = arrays(page)
    page.locator("#transport").get_by_role("button", name=name).click()
    page.wait_for_timeout(300)
    after = arrays(page)
    assert (after["0/fake"] == before["0/fake"]) == (player == "D")
    assert (after["0/surface"] == before["0/surface"]) == (player == "G")
    assert newest(page)["step"] == 0, "the round goes on"
    button(page, "Round").click()
    until(page, "f.step === 1")


def arrays(page: Page) -> dict[str, list[int]]:
    """Some arrays of the newest frame, as bytes."""
    return page.evaluate("""() => {
      const bytes = window.__seen.bytes.get(window.__seen.frames.at(-1).seq)
      const length = new DataView(bytes).getUint32(0, true)
      const head = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length)))
      return Object.fromEntries(head.arrays.map(a => [a.name, [...new Uint8Array(bytes, 4 + length + a.at,
        a.shape.reduce((x, y) => x * y, 1) * (a.type === 'u1' ? 1 : 2))]]))
    }""")


def test_slow_motion_shows_ten_stages_in_order(visit):
    page = visit(SMALL)
    names = ["Draw", "Judge", "Loss", "Gradient", "Update"]
    for player in ("D", "G"):
        for number, name in enumerate(names, 1):
            button(page, "Slow motion").click()
            until(page, "f.stage && f.stage.player === a[0] && f.stage.number === a[1]", [player, number])
            card = page.locator("section.stage")
            expect(card.get_by_role("heading", name=f"Turn of {player}")).to_be_visible()
            expect(card.get_by_role("heading", name=name, exact=True)).to_be_visible()
            expect(card.locator("li.now")).to_have_text(str(number))
            assert len(card.locator("p").inner_text()) > 40, "it is explained"
            if (player, name) == ("G", "Gradient"):
                picture(page, "lab-slow.png")
    assert newest(page)["step"] == 1, "the round is over"
    button(page, "Slow motion").click()
    until(page, "f.stage.player === 'D' && f.stage.number === 1")
    tell(page, do="play", until=5)
    until(page, "f.step === 5 && f.stage === null")


def test_rates_and_options_change_while_it_trains(visit):
    page = visit(SMALL)
    button(page, "Play").click()
    until(page, "f.step > 20")
    field = page.get_by_label("Judge moves a round")
    field.fill("3")
    field.press("Tab")
    page.get_by_label("Loss", exact=True).select_option("least-squares")
    rates = page.get_by_role("group", name=re.compile("Learning rates now"))
    rates.get_by_label("D", exact=True).fill("0.025")
    rates.get_by_label("D", exact=True).press("Tab")
    page.wait_for_timeout(500)
    until(page, "f.step > 60")
    said = page.get_by_label("Notices").all_inner_texts()
    assert not [text for text in said if text.strip()], "nothing was refused"
    page.reload()
    ready(page)
    expect(rates.get_by_label("D", exact=True)).to_have_value("0.025")
    expect(page.get_by_label("Judge moves a round")).to_have_value("3")
    expect(page.get_by_label("Loss", exact=True)).to_have_value("least-squares")
    assert re.search(r"k = 3 of game 1 after \d+, loss = least-squares of game 1 after", spelled(page)["note"])


def spelled(page: Page) -> dict:
    return page.evaluate("""async () => {
      const [lab] = await (await fetch('/api/labs')).json()
      return await (await fetch(`/api/labs/${lab.id}/spelled`)).json()
    }""")


# ---- data


def test_what_is_drawn_by_hand_is_learnt(visit):
    page = visit()
    page.get_by_role("tab", name="Draw").click()
    sheet = page.get_by_label("Draw your own", exact=False).or_(page.get_by_role("application")).first
    sheet.scroll_into_view_if_needed()
    box = sheet.bounding_box()
    assert box is not None
    for x in (0.25, 0.75):  # two strokes, down the left and the right
        page.mouse.move(box["x"] + x * box["width"], box["y"] + 0.2 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + x * box["width"], box["y"] + 0.8 * box["height"], steps=20)
        page.mouse.up()
    page.get_by_role("button", name="Train on this").click()
    until(page, "f.step === 0")
    page.wait_for_timeout(500)
    button(page, "Play").click()
    until(page, "f.measures?.js < 0.45")
    button(page, "Pause").click()
    picture(page, "lab-drawn.png")


def test_points_from_text_and_formulas_are_learnt(visit):
    page = visit(SMALL)
    page.get_by_role("tab", name="CSV").click()
    panel = page.get_by_role("tabpanel")
    panel.get_by_label("Points, one a line").fill("x;y\n" + "\n".join(f"{k / 10};{k % 3}" for k in range(300)))
    panel.get_by_role("button", name="Train on this").click()
    expect(page.get_by_text("Open now: 300 points")).to_be_visible()
    page.get_by_role("tab", name="Equation").click()
    panel.get_by_role("button", name="rose").click()
    panel.get_by_role("button", name="Train on this").click()
    expect(page.get_by_text("Open now: 10,000 points")).to_be_visible()
    button(page, "Round").click()
    until(page, "f.step === 1 && f.measures.js !== null")


def test_a_trained_start_is_there_at_once(visit):
    page = visit()
    page.get_by_label("Pre-trained start").check()
    button(page, "Restart").first.click()
    until(page, "f.measures?.modes === 8 && f.measures.quality > 0.85 && f.measures.js < 0.06")


@pytest.mark.parametrize(
    ("tab", "fields", "said"),
    [
        ("CSV", {"Points, one a line": "x,y\n1,2\n3,oops\n"}, "line 3"),
        ("Equation", {"x": "cos(2*pi*t", "y": "sin(t)"}, "cos(2*pi*t"),
    ],
)
def test_data_that_does_not_parse_is_refused_where_it_stands(visit, tab, fields, said):
    page = visit(SMALL)
    page.get_by_role("tab", name=tab).click()
    panel = page.get_by_role("tabpanel")
    for name, text in fields.items():
        panel.get_by_label(re.compile(f"^{name}")).fill(text)
    expect(panel.get_by_role("alert")).to_contain_text(said)
    button(page, "Round").click()
    until(page, "f.step === 1")


# ---- what it says of itself


def test_a_collapse_is_said_in_words_with_its_cure(visit):
    options = {"loss": "minimax", "gamma": 0.0, "k": 5, "judge_lr": 0.015}
    page = visit({"benches": [{"game": "gan", "preset": "lab", "options": options}]})
    tell(page, do="play", until=3_000)
    alert = page.get_by_role("alert").filter(has_text="Remedy:")
    expect(alert.first).to_be_visible(timeout=SECONDS)
    assert len(alert.first.inner_text()) > 60


def test_the_duality_gap_is_measured_when_asked_for(visit):
    page = visit(SMALL)
    button(page, "Measure the duality gap").click()
    expect(page.get_by_text("Duality gap of game 1:")).to_be_visible(timeout=SECONDS)


def test_the_generator_shows_how_noise_becomes_samples(visit):
    page = visit(SMALL)
    generator = page.get_by_role("button", name="Generator G: watch noise become samples")
    generator.hover()
    expect(page.locator(".morph canvas")).to_be_visible()
    canvas = page.locator(".morph canvas")
    first = canvas.evaluate("c => c.toDataURL()")
    page.wait_for_timeout(700)
    assert canvas.evaluate("c => c.toDataURL()") != first, "it moves"
    page.mouse.move(5, 5)
    expect(page.locator(".morph")).to_have_count(0)


# ---- time


def test_a_replay_is_what_was_seen_live(visit):
    page = visit(SMALL)
    tell(page, do="play", until=400)
    until(page, "f.step === 400")
    same = page.evaluate("""async () => {
      const [lab] = await (await fetch('/api/labs')).json()
      const recorded = await (await fetch(`/api/labs/${lab.id}/frames`)).json()
      let [alike, other] = [0, 0]
      for (const {seq} of recorded) {
        const live = window.__seen.bytes.get(seq)
        if (!live) continue
        const found = await (await fetch(`/api/labs/${lab.id}/frames/${seq}`)).arrayBuffer()
        const [a, b] = [new Uint8Array(live), new Uint8Array(found)]
        if (a.length === b.length && a.every((byte, k) => byte === b[k])) alike++
        else other++
      }
      return [alike, other]
    }""")
    assert same[0] >= 3
    assert same[1] == 0
    live = pixels(page)
    tell(page, do="play", until=600)
    until(page, "f.step === 600")
    page.wait_for_timeout(200)
    slider = page.get_by_label("Round of the recording")
    slider.evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})) }", "400")
    expect(page.get_by_text("Round 400 of 600")).to_be_visible()
    page.wait_for_timeout(300)
    assert pixels(page) == live
    button(page, "Back to live").click()
    page.wait_for_timeout(200)
    assert pixels(page) != live
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_text(re.compile("Round [45]\\d\\d of 600"))).to_be_visible()


def test_a_reload_loses_nothing(visit):
    page = visit(SMALL)
    button(page, "Play").click()
    until(page, "f.step > 100")
    step = newest(page)["step"]
    page.reload()
    ready(page)
    assert newest(page)["step"] >= step, "it went on"
    expect(button(page, "Pause")).to_be_visible()
    button(page, "Pause").click()
    assert page.locator(".charts canvas").count() >= 2


def test_a_job_that_is_killed_says_so_and_starts_again(visit, server):
    page = visit(SMALL)
    button(page, "Play").click()
    until(page, "f.step > 50")
    for child in children(server):
        os.kill(child, signal.SIGKILL)
    alert = page.get_by_role("alert").filter(has_text="The process that trains is gone")
    expect(alert).to_be_visible()
    slider = page.get_by_label("Round of the recording")
    slider.evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})) }", "20")
    expect(page.get_by_text(re.compile(r"Round \d+ of"))).to_be_visible()
    alert.get_by_role("button", name="Restart").click()
    expect(alert).to_have_count(0)
    until(page, "f.step < 50")
    button(page, "Round").click()
    until(page, "f.step >= 1")


def children(server: Studio) -> list[int]:
    """The processes of the server's labs, and the spare one."""
    command = ["ps", "-o", "pid=,args=", "--ppid", str(server.process.pid)]
    told = subprocess.run(command, capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in told.splitlines() if "elegan.studio.lab" in line]


# ---- side by side, and shared


def test_two_games_fight_side_by_side_in_lockstep(visit):
    page = visit(SMALL)
    button(page, "+ beside").click()
    page.get_by_role("combobox", name="Game", exact=True).select_option("r3gan")
    button(page, "Restart").first.click()
    expect(page.locator("#plane canvas")).to_have_count(2)
    page.wait_for_timeout(300)
    tell(page, do="play", until=60)
    until(page, "f.step === 60")
    found = arrays(page)
    assert {"0/fake", "1/fake", "0/surface", "1/surface"} <= found.keys()
    assert found["0/fake"] != found["1/fake"]
    assert len(json.loads(spelled(page)["json"])["benches"]) == 2
    assert len(spelled(page)["commands"]) == 2
    picture(page, "lab-two.png", first="f.step > 1500")


def test_a_link_restores_the_lab(visit, server):
    page = visit({"data": {"kind": "preset", "name": "grid"}, "seed": 7, **SMALL})
    button(page, "Real").click()  # a layer off
    button(page, "Share").click()
    page.wait_for_url("**/#lab=*")
    link, before = page.url, json.loads(spelled(page)["json"])
    assert server.base in link
    page.close()
    server.close_labs()
    other = visit()
    server.close_labs()
    other.goto("about:blank")
    other.goto(link)
    ready(other)
    assert json.loads(spelled(other)["json"]) == before
    expect(button(other, "Real")).to_have_attribute("aria-pressed", "false")


def test_what_is_saved_is_a_run(visit, server, tmp_path):
    page = visit(SMALL)
    tell(page, do="play", until=30)
    until(page, "f.step === 30")
    button(page, "Save").click()
    notice = page.get_by_text("Saved as")
    expect(notice).to_be_visible()
    (name,) = re.findall(r"Saved as (\S+)\.", notice.inner_text())
    run = server.runs / name
    command = [sys.executable, "-m", "elegan", "sample", str(run), "-n", "5", "--out", str(tmp_path / "drawn")]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert len((tmp_path / "drawn" / "samples.csv").read_text().splitlines()) == 5
    tell(page, do="open", setup=None)
    until(page, "f.step === 0")
    button(page, "Load").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name=re.compile(name)).first.click()
    dialog.get_by_role("button", name="Open in the lab").click()
    until(page, "f.step === 30")


def test_any_run_is_looked_at_again(visit, server):
    """One that the command line made: its pictures under a slider, its curves; and it opens in the lab."""
    command = [sys.executable, "-m", "elegan", "train", "gan", "ring", "--steps", "60", "--out"]
    subprocess.run([*command, str(server.runs / "by-hand")], check=True, capture_output=True)
    page = visit(SMALL)
    button(page, "Load").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name=re.compile("by-hand")).click()
    slider = dialog.get_by_label("Which picture")
    slider.evaluate("(e) => { e.value = e.max; e.dispatchEvent(new Event('input', {bubbles: true})) }")
    shown = dialog.get_by_alt_text("Samples at step 60")
    expect(shown).to_be_visible()
    assert shown.evaluate("i => i.decode().then(() => i.naturalWidth)") > 100
    expect(dialog.locator(".uplot, canvas").first).to_be_visible()
    dialog.get_by_role("button", name="Open in the lab").click()
    until(page, "f.step === 60")
    assert spelled(page)["commands"][0].startswith("elegan train gan ring")


def test_the_command_is_spelled(visit):
    page = visit(SMALL)
    button(page, "Copy as …").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("elegan train gan ring")
    dialog.get_by_text("Python", exact=True).click()
    expect(dialog).to_contain_text("elegan.train(")
    dialog.get_by_text("JSON", exact=True).click()
    expect(dialog).to_contain_text('"benches"')
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


@pytest.mark.parametrize(
    ("name", "first"), [("Picture (PNG)", b"\x89PNG"), ("Animation (GIF)", b"GIF8"), ("Video (MP4)", b"ftyp")]
)
def test_pictures_and_films_are_exported(visit, tmp_path, name, first):
    page = visit(SMALL)
    tell(page, do="play", until=200)
    until(page, "f.step === 200")
    button(page, "Export").click()
    with page.expect_download() as loaded:
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name=name).or_(dialog.get_by_role("link", name=name)).click()
    loaded.value.save_as(tmp_path / "file")
    assert first in (tmp_path / "file").read_bytes()[:12]


# ---- for everyone


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
def test_axe_finds_no_violation(visit, scheme, language):
    page = visit(SMALL, color_scheme=scheme, locale=language)
    tell(page, do="slow")
    until(page, "f.stage")
    violations(page)
    names = {"en-GB": ("Tour", "Copy as …", "Load", "Export"), "zh-CN": ("导览", "复制为…", "载入", "导出")}[language]
    for name in names:
        button(page, name).click()
        page.get_by_role("dialog").first.wait_for()
        violations(page)
        page.keyboard.press("Escape")


def violations(page: Page) -> None:
    page.evaluate((WEB / "node_modules/axe-core/axe.min.js").read_text())
    found = page.evaluate("axe.run().then(r => r.violations.map(v => [v.id, v.nodes.map(n => n.html.slice(0, 160))]))")
    assert not found


@pytest.mark.parametrize("width", [360, 390, 768, 1_440, 2_560, 3_840])
def test_it_fits_every_width(visit, width):
    page = visit(SMALL, viewport={"width": width, "height": 900})
    tell(page, do="play", until=100)
    until(page, "f.step === 100")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    plane = page.locator("#plane canvas").first.bounding_box()
    assert plane is not None
    assert plane["width"] >= 280
    if width == 390:
        picture(page, "lab-phone.png")


def test_keys(visit):
    page = visit(SMALL)
    steps = {"s": "f.step === 1", "d": "f.step === 1", "g": "f.step === 2", "l": "f.stage?.number === 1"}
    for key, condition in steps.items():
        page.keyboard.press(key)
        until(page, condition)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Space")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("Space")
    until(page, "f.step > 20")
    page.keyboard.press("Space")
    expect(button(page, "Play")).to_be_visible()
    for _ in range(3):
        page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_it_speaks_chinese_at_a_switch(visit):
    page = visit(SMALL)
    page.get_by_role("button", name="中文: change the language").click()
    expect(page.get_by_role("heading", name="elegan 实验室")).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    expect(button(page, "播放")).to_be_visible()
    page.reload()
    expect(button(page, "播放")).to_be_visible()


def test_the_tour_goes_to_its_end(visit):
    page = visit()
    button(page, "Tour").click()
    tour = page.get_by_role("dialog")
    expect(tour).to_contain_text("1 of ")
    of = int(re.search(r"1 of (\d+)", tour.inner_text()).group(1))
    assert of >= 8
    titles = set()
    for number in range(1, of + 1):
        expect(tour).to_contain_text(f"{number} of {of}")
        titles.add(tour.get_by_role("heading").first.inner_text())
        if number == 5:
            picture(page, "lab-tour.png")
        tour.get_by_role("button", name="Done" if number == of else "Next", exact=True).click()
    assert len(titles) == of
    expect(tour).to_have_count(0)


def test_the_tour_leaves_the_lab_as_it_was(visit, server):
    page = visit({**SMALL, "seed": 5})
    tell(page, do="play", until=80)
    until(page, "f.step === 80")
    page.get_by_label("Seed").fill("9")  # typed, and not yet opened
    button(page, "Tour").click()
    tour = page.get_by_role("dialog")
    expect(tour).to_contain_text("1 of ")
    until(page, "f.step === 0")
    assert len(server.client.get("/api/labs").json()) == 2
    page.keyboard.press("Escape")
    expect(tour).to_have_count(0)
    until(page, "f.step === 80")
    expect(page.get_by_label("Seed")).to_have_value("9")
    (left,) = server.client.get("/api/labs").json()
    assert left["setup"]["seed"] == 5


def test_a_game_that_diverged_starts_again_with_another_rate(visit):
    page = visit({"benches": [{"game": "gan", "preset": "gan-lab", "options": {"lr": 1e9, "loss": "least-squares"}}]})
    button(page, "Play").click()
    alert = page.get_by_role("alert").filter(has_text="This game trains no more")
    expect(alert).to_be_visible(timeout=SECONDS)
    page.get_by_label("Learning rate", exact=True).fill("0.05")
    page.get_by_label("Learning rate", exact=True).press("Tab")
    alert.get_by_role("button", name="Restart").click()
    expect(alert).to_have_count(0)
    tell(page, do="play", until=100)
    until(page, "f.step === 100 && f.measures.step === 100")


def test_a_link_that_is_refused_says_so_and_opens_the_default(visit, server):
    page = visit(SMALL)
    shared = json.dumps({"setup": {"seed": "no"}, "layers": {}, "average": True}).encode()
    packed = zlib.compressobj(wbits=-15)
    packed = packed.compress(shared) + packed.flush()
    link = f"{server.base}/#lab={base64.urlsafe_b64encode(packed).decode().rstrip('=')}"
    page.close()
    server.close_labs()
    other = visit()
    other.evaluate("sessionStorage.clear()")
    server.close_labs()
    other.goto("about:blank")
    other.goto(link)
    ready(other)
    expect(other.get_by_label("Notices")).to_contain_text("the setup does not read: seed")


def test_without_the_link_one_is_told_what_to_do(server, browser):
    page = browser.new_page()
    page.goto(server.base)
    expect(page.locator("body")).to_contain_text("elegan studio")
    assert page.evaluate("fetch('/api/labs').then(r => r.status)") == 401
    page.close()
