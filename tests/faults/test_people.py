"""The page for people: every answer is kept once, none tells the truth; whatever is sent, whatever the disk does."""

import errno
import http.client
import io
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from elegan.errors import OptionError, ResourceError
from elegan.metrics.human import judged_by, summary
from elegan.view import people as room
from elegan.view.page import digest
from elegan.view.people import Handler, People, Server, serve
from tests.browser import dump

RNG = np.random.default_rng(17)
REAL = RNG.integers(0, 120, (30, 3, 10, 12), dtype=np.uint8)  # dark, and noisy
DRAWN = np.full((30, 3, 10, 12), 200, np.uint8) + np.arange(30, dtype=np.uint8)[:, None, None, None]  # light, and flat


class Client:
    """A browser of few words."""

    def __init__(self, server: Server):
        self.server = server
        self.host = f"127.0.0.1:{server.server_port}"

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str | None):
        """Status, headers and body of one request; a header of None is left out."""
        given = {"Host": self.host, "Content-Type": "application/json", **headers}
        if body is not None:
            given.setdefault("Content-Length", str(len(body)))
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=10)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in given.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def path(self, where: str = "") -> str:
        return f"/{self.server.token}/{where}"

    def tell(self, where: str, **told: str) -> tuple[int, dict]:
        status, _, body = self.send("POST", self.path(where), json.dumps(told).encode())
        return status, json.loads(body)

    def picture(self, name: str) -> tuple[dict, bytes]:
        status, headers, body = self.send("GET", self.path(f"picture/{name}"))
        assert status == 200
        return headers, body

    def play(self, person: str, say: Callable[[int, list[np.ndarray]], str], most: int = 1_000) -> dict:
        """Answer what is asked, by number and pictures, until the result."""
        status, told = self.tell("question", person=person)
        while status == 200 and "result" not in told and most:
            shown = [pixels(self.picture(name)[1]) for name in told["pictures"]]
            said = say(told["number"], shown)
            status, told = self.tell("answer", person=person, question=told["question"], answer=said)
            most -= 1
        assert status == 200
        return told


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture)


def bright(shown: np.ndarray) -> bool:
    return bool(shown.mean() > 150)


def right(_: int, shown: list[np.ndarray]) -> str:
    """What an eye would say that sees every difference."""
    if len(shown) == 1:
        return "drawn" if bright(shown[0]) else "real"
    return "right" if bright(shown[0]) else "left"


@pytest.fixture
def running() -> Iterator[Callable[..., Client]]:
    servers: list[Server] = []

    def start(people: People, score=summary) -> Client:
        servers.append(Server(people, score))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return Client(servers[-1])

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def kept(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


# ---- all goes well


@pytest.mark.parametrize(("style", "questions"), [("one", 12), ("one", 7), ("pair", 9)])
def test_a_study_from_the_first_question_to_the_result(running, tmp_path, style, questions):
    client = running(People(REAL, DRAWN, out=tmp_path / "people", style=style, questions=questions))
    told = client.play("Ada", right)
    assert told["result"]["yours"]["wrong"] == 0, "whoever sees the difference is never told wrong"
    assert told["result"]["yours"]["answers"] == questions
    told = client.play("Bo", lambda *_: "real" if style == "one" else "left")
    assert told["result"]["all"]["people"] == 2
    answers = kept(tmp_path / "people")
    assert len(answers) == 2 * questions
    assert [a["number"] for a in answers] == [*range(questions)] * 2
    assert len({a["question"] for a in answers}) == 2 * questions
    for a in answers:
        assert {"time", "person", "question", "truth", "answer", "seconds", "study"} <= set(a)
        assert 0 <= a["seconds"] < 60
    bo = [a for a in answers if a["person"] == "Bo"]
    truths = [a["truth"] for a in bo]
    if style == "one":
        assert truths.count("drawn") in {questions // 2, (questions + 1) // 2}
    assert len(set(truths)) == 2
    assert told["result"]["yours"]["wrong"] == sum(a["truth"] != a["answer"] for a in bo)
    assert judged_by(answers).error.value * len(answers) == pytest.approx(told["result"]["all"]["wrong"])


def test_no_picture_is_shown_twice_and_the_order_is_of_seed_and_person(tmp_path):
    plan = {}
    for seed in (0, 1):
        people = People(REAL, DRAWN, out=tmp_path, questions=60, seed=seed)
        for person in ("Ada", "Bo"):
            plan[seed, person] = people.plan(person)
            shown = [picture for question in plan[seed, person] for picture in question.pictures]
            assert len(set(shown)) == len(shown) == 60
            assert all(question.truth == question.pictures[0][0] for question in plan[seed, person])
    assert len({tuple(p) for p in plan.values()}) == 4
    assert People(REAL, DRAWN, out=tmp_path, questions=60).plan("Ada") == plan[0, "Ada"]
    pairs = People(REAL, DRAWN, out=tmp_path, questions=30, style="pair").plan("Ada")
    for question in pairs:
        assert {kind for kind, _ in question.pictures} == {"real", "drawn"}
        assert question.pictures[("left", "right").index(question.truth)][0] == "real"
    assert 5 < sum(question.truth == "left" for question in pairs) < 25


def test_who_comes_back_goes_on(running, tmp_path):
    """After a reload, and after a new start; other pictures are another study, in the same file."""
    client = running(People(REAL, DRAWN, out=tmp_path, questions=10))
    _, first = client.tell("question", person=" Ada ")
    assert client.tell("question", person="Ada")[1] == first, "a reload puts the same question"
    client.play("Ada", right, most=4)
    again = running(People(REAL, DRAWN, out=tmp_path, questions=10))
    status, told = again.tell("question", person="Ada")
    assert (status, told["number"], told["of"]) == (200, 4, 10)
    assert again.play("Ada", right)["result"]["yours"] == pytest.approx(
        {"wrong": 0, "answers": 10, "low": 0, "high": 0.2775}, abs=1e-3
    )
    assert again.tell("question", person="Ada")[1]["result"]["yours"]["answers"] == 10, "and stays done"
    other = running(People(REAL, DRAWN[::-1], out=tmp_path, questions=10))
    assert other.tell("question", person="Ada")[1]["number"] == 0
    other.play("Bo", right)
    assert other.server.people.answers() != again.server.people.answers()
    assert len(kept(tmp_path)) == 20


def test_who_gives_no_name_gets_one(running, tmp_path):
    client = running(People(REAL, DRAWN, out=tmp_path, questions=4))
    names = {client.tell("question", person=" ")[1]["person"] for _ in range(3)}
    assert len(names) == 3
    assert all(re.fullmatch(r"anonymous-[0-9a-f]{6}", name) for name in names)


# ---- no way to the truth


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_nothing_but_the_pixels_tells_what_is_real(running, tmp_path, channels):
    real, drawn = (rows[:, [0] * channels] for rows in (REAL, DRAWN))
    client = running(People(real, drawn, out=tmp_path, questions=40))
    seen: dict[str, list] = {"real": [], "drawn": []}
    said = []
    status, told = client.tell("question", person="Ada")
    while status == 200 and "result" not in told:
        assert set(told) == {"person", "of", "question", "number", "pictures"}
        assert not re.search("real|drawn|left|right|true|false", json.dumps(told))
        headers, content = client.picture(told["pictures"][0])
        headers.pop("Date")
        look = pixels(content)
        kind = "drawn" if look[..., 0].mean() > 150 else "real"
        seen[kind].append((sorted(headers.items()), len(content), look.shape, [*content[:33]]))
        chunks = re.findall(rb"IHDR|PLTE|IDAT|IEND|[a-z][A-Za-z]{3}(?=.)", content[:60])
        assert chunks[0] == b"IHDR"
        assert b"tEXt" not in content
        assert b"iTXt" not in content
        assert b"eXIf" not in content
        said.append((told["question"], *told["pictures"]))
        status, told = client.tell("answer", person="Ada", question=told["question"], answer="real")
    assert len(seen["real"]) == len(seen["drawn"]) == 20
    every = [row for rows in seen.values() for row in rows]
    assert all(row == every[0] for row in every), "one length, one size, one set of headers"
    names = [name for names in said for name in names]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[\w-]{16}", name) for name in names)


def test_random_names_are_of_no_seed(running, tmp_path):
    one, two = (running(People(REAL, DRAWN, out=tmp_path / str(k), questions=4)) for k in range(2))
    assert one.server.token != two.server.token
    asked = [client.tell("question", person="Ada")[1] for client in (one, two)]
    assert asked[0]["question"] != asked[1]["question"]
    assert asked[0]["pictures"] != asked[1]["pictures"]


def test_a_picture_is_there_while_its_question_is_open(running, tmp_path):
    client = running(People(REAL, DRAWN, out=tmp_path, questions=4))
    _, told = client.tell("question", person="Ada")
    path = client.path(f"picture/{told['pictures'][0]}")
    assert client.send("GET", path)[0] == 200
    client.tell("answer", person="Ada", question=told["question"], answer="real")
    assert client.send("GET", path)[0] == 404


def test_the_page_says_nothing_and_asks_nobody_else(running, tmp_path):
    client = running(People(REAL, DRAWN, out=tmp_path, questions=4, seed=99))
    status, headers, body = client.send("GET", client.path())
    text = body.decode()
    assert status == 200
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)|@import|url\(|https?://(?!www\.w3\.org)""", text)
    assert str(tmp_path) not in text
    assert client.server.people.study not in text
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    style, script = (re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S) for tag in ("style", "script"))
    assert [f"'{digest(part)}'" in policy for part in (*style, *script)] == [True, True]
    assert headers["Server"] == "elegan"
    assert (headers["Cache-Control"], headers["Referrer-Policy"]) == ("no-store", "no-referrer")
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    assert set(data) == {"style", "choices", "of", "width", "height", "texts"}
    assert (data["width"], data["height"], data["of"]) == (12, 10, 4)


def test_both_languages_say_everything_the_page_asks_for():
    texts = json.loads((room.HERE / "people.json").read_text(encoding="utf-8"))
    assert set(texts) == {"en", "zh-CN"}
    assert set(texts["en"]) == set(texts["zh-CN"])
    for name, text in texts["en"].items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", texts["zh-CN"][name])), name
        assert re.search(r"[\u4e00-\u9fff]", texts["zh-CN"][name]), name
    html, script = ((room.HERE / f"people.{kind}").read_text(encoding="utf-8") for kind in ("html", "js"))
    asked = set(re.findall(r'data-text="(\w+)"', html)) | set(re.findall(r'say\((?:[^()"]*\? )?"(\w+)"', script))
    asked |= set(re.findall(r'"(\w+)" : "(\w+)"', script)[0])
    assert asked <= set(texts["en"])
    assert {"title", "progress", "trouble", "gone", "between"} <= asked
    ids = set(re.findall(r'at\("(\w+)"\)', script))
    assert ids <= set(re.findall(r'id="(\w+)"', html))


@pytest.mark.process
@pytest.mark.parametrize(
    ("language", "title", "begin"),
    [("de,en,zh", "Real or generated?", "Begin"), ("zh-TW,en", "真实，还是生成？", "开始")],
)
def test_a_browser_runs_it_in_its_language(running, tmp_path, language, title, begin):
    """Its policy lets its own script and style run; the script takes the first language it knows."""
    client = running(People(REAL, DRAWN, out=tmp_path, questions=4))
    dom = dump(client.server.url, tmp_path, f"--accept-lang={language}").stdout
    assert f'<h1 data-text="title">{title}</h1>' in dom
    assert re.search(rf'<button type="submit"[^>]*>{begin}</button>', dom)
    assert '<section id="welcome">' in dom
    assert '<section id="question" hidden="">' in dom


# ---- what is refused


def test_strangers_are_refused(running, tmp_path):
    client = running(People(REAL, DRAWN, out=tmp_path, questions=4))
    asked = json.dumps({"person": "Ada"}).encode()
    good = client.path()
    for host in ("evil.example", f"evil.example:{client.server.server_port}", "127.0.0.1", None):
        assert client.send("GET", good, Host=host)[0] == 403
        assert client.send("POST", good + "question", asked, Host=host)[0] == 403
    assert client.send("GET", good, Host=f"localhost:{client.server.server_port}")[0] == 200
    assert client.send("POST", good + "question", asked, Origin="http://evil.example")[0] == 403
    assert client.send("POST", good + "question", asked, Origin=f"http://{client.host}")[0] == 200
    token = client.server.token
    for path in (
        "/",
        "/question",
        "//",
        "*",
        "/%C3%A9",
        f"/x{good}",
        f"/{token[:-1]}/",
        f"/{token}x/",
        f"/{token.lower()}/",
    ):
        assert client.send("GET", path)[0] == 403
        assert client.send("POST", path, asked)[0] == 403
    _, _, body = client.send("GET", "/")
    assert token.encode() not in body


@pytest.mark.parametrize(
    "where",
    [
        "../../../etc/passwd", "..%2f..%2fanswers.jsonl", "answers.jsonl", "picture/../answers.jsonl", "people.py",
        "picture/", "picture/0", "picture/real/0", "question", "answer", "%00", "picture",
    ],
)  # fmt: skip
def test_there_is_nothing_else(running, tmp_path, where):
    client = running(People(REAL, DRAWN, out=tmp_path, questions=4))
    client.play("Ada", right, most=1)
    status, _, body = client.send("GET", client.path(where))
    assert status == 404
    assert b"truth" not in body
    assert client.send("POST", client.path(where + "x"), b"{}")[0] == 404


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"x" * 4_097, {}, 413),
        (b"", {"Content-Length": "999999999999"}, 413),
        (b"", {"Content-Length": "-5"}, 411),
        (b"", {"Content-Length": None}, 411),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{}", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b'{"person": ', {}, 422),
        (b"", {}, 422),
        (b"\xff\xfe", {}, 422),
        (b"[" * 4_000, {}, 422),
        (b"[]", {}, 422),
        (b"null", {}, 422),
        (b'{"person": 7}', {}, 422),
        (b'{"person": null}', {}, 422),
        (json.dumps({"person": "x" * 65}).encode(), {}, 422),
        (b'{"person": "a\\nb"}', {}, 422),
        (b'{"person": "\\ud800"}', {}, 422),
    ],
)
def test_what_cannot_be_read_is_said_so(running, tmp_path, monkeypatch, body, headers, status):
    monkeypatch.setattr(Handler, "timeout", 0.5)  # who announces much and sends nothing is not waited for long
    client = running(People(REAL, DRAWN, out=tmp_path, questions=4))
    for where in ("question", "answer"):
        got, told_headers, text = client.send("POST", client.path(where), body, **headers)
        assert got == status
        assert set(json.loads(text)) == {"error"}
        assert told_headers["Connection"] == "close"
    assert client.tell("question", person="Ada")[0] == 200, "and the next is heard"
    assert not (tmp_path / "answers.jsonl").exists()


def test_other_methods_are_refused(running, tmp_path):
    client = running(People(REAL, DRAWN, out=tmp_path, questions=4))
    for method in ("PUT", "DELETE", "HEAD", "OPTIONS"):
        status, headers, _ = client.send(method, client.path())
        assert status == 501
        assert headers["Server"] == "elegan"


def test_an_answer_counts_once_and_from_whom_it_was_asked(running, tmp_path):
    client = running(People(REAL, DRAWN, out=tmp_path, questions=6))
    _, told = client.tell("question", person="Ada")
    answer = {"person": "Ada", "question": told["question"], "answer": "real"}
    for change, status in (
        ({"question": "no-such-question"}, 409),
        ({"question": ""}, 409),
        ({"person": "Bo"}, 409),
        ({"answer": "left"}, 422),
        ({"answer": ""}, 422),
        ({"answer": "Real"}, 422),
    ):
        assert client.tell("answer", **{**answer, **change})[0] == status
    assert not (tmp_path / "answers.jsonl").exists()
    assert client.tell("answer", **answer)[0] == 200
    assert client.tell("answer", **answer)[0] == 409
    assert client.tell("answer", **{**answer, "answer": "drawn"})[0] == 409
    assert [a["answer"] for a in kept(tmp_path)] == ["real"]


def test_of_many_at_once_one_is_kept(running, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: time.sleep(0.1))  # long enough for all to come
    client = running(People(REAL, DRAWN, out=tmp_path, questions=6))
    _, told = client.tell("question", person="Ada")
    found: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(
                client.tell("answer", person="Ada", question=told["question"], answer="real")[0]
            )
        )
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [200] + [409] * 11
    assert len(kept(tmp_path)) == 1


# ---- what the disk does


def test_a_torn_last_line_costs_its_own_answer_alone(running, tmp_path):
    running(People(REAL, DRAWN, out=tmp_path, questions=6)).play("Ada", right, most=3)
    file = tmp_path / "answers.jsonl"
    content = file.read_bytes()
    file.write_bytes(b'7\n{"study": 3}\nnull\n\xff\xfe\n' + content[:-20])
    client = running(People(REAL, DRAWN, out=tmp_path, questions=6))
    assert client.tell("question", person="Ada")[1]["number"] == 2
    assert client.play("Ada", right)["result"]["yours"]["answers"] == 6
    lines = file.read_bytes().split(b"\n")
    assert lines[6] == content[:-20].split(b"\n")[2], "the torn line stays, and no other joins it"
    assert [json.loads(line)["number"] for line in lines[7:-1]] == [2, 3, 4, 5]
    assert running(People(REAL, DRAWN, out=tmp_path, questions=6)).tell("question", person="Ada")[1]["result"]


def test_answers_of_elsewhere_are_not_believed(running, tmp_path):
    people = People(REAL, DRAWN, out=tmp_path, questions=6)
    whole = {"study": people.study, "person": "Ada", "number": 0, "truth": "real", "answer": "real"}
    odd = [{**whole, "number": 6}, {**whole, "answer": "left"}, {**whole, "truth": "x"}, {**whole, "study": "other"}]
    odd += [{name: value for name, value in whole.items() if name != missing} for missing in whole]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in odd))
    assert People(REAL, DRAWN, out=tmp_path, questions=6).answers() == []


@pytest.mark.parametrize("fault", ["write", "fsync", "short"])
def test_a_disk_that_refuses_loses_nothing(running, tmp_path, monkeypatch, fault):
    client = running(People(REAL, DRAWN, out=tmp_path, questions=6))
    client.play("Ada", right, most=2)
    before = (tmp_path / "answers.jsonl").read_bytes()
    _, told = client.tell("question", person="Ada")
    answer = {"person": "Ada", "question": told["question"], "answer": "real"}
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    opened = Path.open

    def refuse(*_: object) -> None:
        raise full

    class Full:
        """A file whose disk fills up after 30 bytes."""

        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            count = self.file.write(data[:30])
            if fault == "write":
                raise full
            return count

    with monkeypatch.context() as patch:
        if fault == "fsync":
            patch.setattr(os, "fsync", refuse)
        else:
            patch.setattr(Path, "open", lambda path, *a, **k: Full(opened(path, *a, **k)))
        status, said = client.tell("answer", **answer)
        assert status == 507
        assert "answers.jsonl cannot be written (No space left on device)" in said["error"]
        assert client.tell("question", person="Ada")[1] == told, "the question stays open"
    assert (tmp_path / "answers.jsonl").read_bytes() == before, "half an answer is none"
    assert client.tell("answer", **answer)[0] == 200
    assert [a["number"] for a in kept(tmp_path)] == [0, 1, 2]


def test_an_answer_is_on_the_disk_before_the_next_question(running, tmp_path, monkeypatch):
    client = running(People(REAL, DRAWN, out=tmp_path, questions=6))
    synced = []
    plain = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size) or plain(file))
    client.play("Ada", right, most=3)
    ends = np.cumsum([len(line) + 1 for line in (tmp_path / "answers.jsonl").read_bytes().split(b"\n")[:-1]])
    assert synced == ends.tolist()


def test_a_folder_that_cannot_be_made(running, tmp_path):
    (tmp_path / "file").write_text("")
    client = running(People(REAL, DRAWN, out=tmp_path / "file" / "people", questions=6))
    _, told = client.tell("question", person="Ada")
    status, said = client.tell("answer", person="Ada", question=told["question"], answer="real")
    assert status == 507
    assert "cannot be written (Not a directory)" in said["error"]


def test_a_score_that_fails_is_said_and_ends_nothing(running, tmp_path):
    client = running(People(REAL, DRAWN, out=tmp_path, questions=1), score=lambda *_: 1 / 0)
    _, told = client.tell("question", person="Ada")
    status, said = client.tell("answer", person="Ada", question=told["question"], answer="real")
    assert (status, said) == (500, {"error": "ZeroDivisionError: division by zero"})
    assert len(kept(tmp_path)) == 1
    assert client.tell("question", person="Bo")[0] == 200


# ---- opening it


def test_it_serves_until_it_is_interrupted(tmp_path, monkeypatch):
    people, said = People(REAL, DRAWN, out=tmp_path, questions=2), []

    def interrupted(self, poll_interval):
        connection = http.client.HTTPConnection("127.0.0.1", self.server_port, timeout=10)
        threading.Thread(target=self.handle_request, daemon=True).start()
        connection.request("GET", f"/{self.token}/")
        said.append(connection.getresponse().status)
        connection.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "serve_forever", interrupted)
    serve(people, summary, ready=said.append)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{22}/", said[0])
    assert said[1] == 200


def test_a_port_that_is_taken_or_none(running, tmp_path):
    people = People(REAL, DRAWN, out=tmp_path, questions=2)
    taken = running(people).server.server_port
    with pytest.raises(ResourceError, match=rf"port {taken} of 127.0.0.1 cannot be opened \(Address already in use\)"):
        serve(people, summary, port=taken, ready=print)
    for port in (-1, 65_536):
        with pytest.raises(OptionError, match=rf"--port {port} is none"):
            serve(people, summary, port=port, ready=print)


@pytest.mark.parametrize(
    ("real", "drawn", "options", "says"),
    [
        (REAL, DRAWN[..., :9], {}, "of one shape"),
        (REAL.astype(float), DRAWN, {}, "uint8"),
        (REAL, DRAWN[0], {}, "of one shape"),
        (REAL, DRAWN, {"style": "three"}, "one of one, pair"),
        (REAL, DRAWN, {"questions": 0}, "need 1"),
        (REAL, DRAWN, {"questions": 61}, "need 31"),
        (REAL, DRAWN[:5], {"questions": 6, "style": "pair"}, "need 6"),
    ],
)
def test_a_study_that_cannot_be_made_is_refused(tmp_path, real, drawn, options, says):
    with pytest.raises(ValueError, match=says):
        People(real, drawn, out=tmp_path, **options)
