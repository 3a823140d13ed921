"""A page on which people say what is real: one picture at a time, or a real and a drawn one side by side.

Served from this machine to this machine. What is real is known to the server alone: pictures have random names, one
size in pixels and in bytes, and nothing in them but pixels. Every answer is on the disk before the next question.

    serve(People(real, drawn, out=Path("people")), summary, ready=print)
"""

import contextlib
import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from socketserver import TCPServer
from string import Template
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from elegan.data.batches import place_seed
from elegan.errors import OptionError, ResourceError
from elegan.view.page import digest
from elegan.view.sheet import image

HERE = Path(__file__).parent
HOST = "127.0.0.1"
LONGEST_BODY = 4_096  # bytes
LONGEST_NAME = 64

Style = Literal["one", "pair"]
CHOICES: dict[str, tuple[str, str]] = {"one": ("real", "drawn"), "pair": ("left", "right")}
Score = Callable[[Sequence[Mapping[str, Any]], str], Mapping[str, Any]]


class Question(NamedTuple):
    """Which pictures stand side by side, each as what it is and its row; and the answer that is right."""

    pictures: tuple[tuple[str, int], ...]
    truth: str


class Asked(NamedTuple):
    """A question put to a person: its number, the names of its pictures, and when it was put."""

    person: str
    number: int
    pictures: Mapping[str, tuple[str, int]]
    since: float


class Refused(Exception):
    """What cannot be answered, as an HTTP status and a line."""

    def __init__(self, status: int, line: str):
        super().__init__(line)
        self.status = status


class People:
    """The questions, a function of seed and person, and the answers so far, in `out`/answers.jsonl.

    real, drawn: uint8 images of one shape, (N, C, H, W) and (M, C, H, W); none is shown twice to one person.
    style: "one" picture at a time, half of them drawn, or a "pair" of which one is real. questions: for each person.
    A person who comes back goes on after the last answer kept. Answers to other pictures, questions or seeds stay in
    the file and count not. Raises ValueError for pictures of different shapes, or too few.
    """

    def __init__(
        self,
        real: np.ndarray,
        drawn: np.ndarray,
        *,
        out: Path,
        style: Style = "one",
        questions: int = 50,
        seed: int = 0,
    ):
        if style not in get_args(Style):
            raise ValueError(f"the style is one of {', '.join(get_args(Style))}, not {style!r}")
        for rows in (real, drawn):
            if rows.dtype != np.uint8 or rows.ndim != 4 or rows.shape[1:] != real.shape[1:]:
                raise ValueError(f"pictures are uint8 (N, C, H, W) of one shape, not {rows.dtype} {rows.shape}")
        needed = questions if style == "pair" else (questions + 1) // 2
        if questions < 1 or min(len(real), len(drawn)) < needed:
            raise ValueError(f"{questions} questions need {max(needed, 1)} real and drawn pictures or more")
        self.rows = {"real": real, "drawn": drawn}
        self.style, self.questions, self.seed = style, questions, seed
        self.file = out / "answers.jsonl"
        known = hashlib.sha256(f"{style} {questions} {seed} {real.shape} {drawn.shape}".encode())
        for rows in (real, drawn):
            known.update(np.ascontiguousarray(rows).data)
        self.study = known.hexdigest()[:16]
        self._asked: dict[str, Asked] = {}  # by its random name
        self._lock = threading.Lock()
        self._given: dict[tuple[str, int], dict[str, Any]] = {}
        for answer in self._kept():
            self._given.setdefault((answer["person"], answer["number"]), answer)

    def plan(self, person: str) -> list[Question]:
        """The questions for a person, in order."""
        rng = np.random.default_rng(place_seed(self.seed, "people", person))
        rows = {kind: iter(rng.permutation(len(these)).tolist()) for kind, these in self.rows.items()}
        if self.style == "one":
            half = self.questions // 2 + int(self.questions % 2 and rng.integers(2))
            kinds = rng.permutation(["drawn"] * half + ["real"] * (self.questions - half)).tolist()
            return [Question(((kind, next(rows[kind])),), kind) for kind in kinds]
        plan = []
        for right in rng.integers(2, size=self.questions):
            both = ("real", next(rows["real"])), ("drawn", next(rows["drawn"]))
            plan.append(Question(both[::-1] if right else both, "right" if right else "left"))
        return plan

    def answers(self) -> list[dict[str, Any]]:
        """The answers of this study: time, person, number, question, truth, answer, seconds."""
        return list(self._given.values())

    def ask(self, person: str) -> dict[str, Any] | None:
        """The question at which a person stands, without its truth; None after the last."""
        with self._lock:
            number = next((k for k in range(self.questions) if (person, k) not in self._given), None)
            if number is None:
                return None
            name = next((n for n, a in self._asked.items() if (a.person, a.number) == (person, number)), None)
            if name is None:
                name = secrets.token_urlsafe(12)
                pictures = {secrets.token_urlsafe(12): shown for shown in self.plan(person)[number].pictures}
                self._asked[name] = Asked(person, number, pictures, time.monotonic())
            return {"question": name, "number": number, "pictures": list(self._asked[name].pictures)}

    def picture(self, name: str) -> bytes:
        """A picture of an open question as PNG: stored, not packed, so that its length is that of every other."""
        for asked in list(self._asked.values()):
            if name in asked.pictures:
                kind, row = asked.pictures[name]
                content = BytesIO()
                image(self.rows[kind][row]).save(content, format="PNG", compress_level=0)
                return content.getvalue()
        raise Refused(404, "There is no such picture.")

    def keep(self, person: str, question: str, said: str) -> None:
        """Keep an answer: it is on the disk when this returns. Raises Refused, also where the disk refuses."""
        with self._lock:
            asked = self._asked.get(question)
            if asked is None or asked.person != person:
                raise Refused(409, "This question is not open: it was answered, or asked before a new start.")
            if said not in CHOICES[self.style]:
                raise Refused(422, f"An answer is one of {', '.join(CHOICES[self.style])}.")
            answer = {
                "study": self.study, "time": round(time.time(), 3), "person": person, "number": asked.number,
                "question": question, "truth": self.plan(person)[asked.number].truth, "answer": said,
                "seconds": round(time.monotonic() - asked.since, 3),
            }  # fmt: skip
            try:
                self._append(answer)
            except OSError as error:
                reason = f"{self.file} cannot be written ({error.strerror or error})."
                raise Refused(507, reason) from error
            self._given[person, asked.number] = answer
            del self._asked[question]

    def _append(self, answer: Mapping[str, Any]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            torn = False
            if size:
                file.seek(-1, os.SEEK_END)
                torn = file.read(1) != b"\n"  # a crash cut the last line off; this one must not join it
            line = b"\n" * torn + json.dumps(answer, ensure_ascii=False).encode() + b"\n"
            try:
                if (file.write(line) or 0) < len(line):
                    raise OSError("No space left on device")
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)  # half an answer is none
                raise

    def _kept(self) -> list[dict[str, Any]]:
        """The whole lines of the file that belong to this study."""
        if not self.file.is_file():
            return []
        found = []
        for text in self.file.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                answer = json.loads(text)
                whole = answer["study"] == self.study and answer["number"] in range(self.questions)
                whole = whole and {answer["truth"], answer["answer"]} <= {*CHOICES[self.style]}
                whole = whole and isinstance(answer["person"], str)
            except (ValueError, TypeError, KeyError):
                continue  # torn, or written by something else
            if whole:
                found.append(answer)
        return found


class Server(ThreadingHTTPServer):
    """Answers at `url`, a secret address of this machine, until it is closed. score: what the last page tells."""

    daemon_threads = True

    def __init__(self, people: People, score: Score, port: int = 0):
        self.people, self.score = people, score
        self.token = secrets.token_urlsafe(16)
        super().__init__((HOST, port), Handler)
        self.url = f"http://{HOST}:{self.server_port}/{self.token}/"
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}
        self.page, self.policy = page(people)

    def server_bind(self) -> None:
        """Without looking up a name, which takes long where there is no network."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that left in the middle of an answer is no matter."""


class Handler(BaseHTTPRequestHandler):
    """One request: is it ours, what does it want, and an answer in any case."""

    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    timeout = 30  # seconds without a byte

    def do_GET(self) -> None:
        self._respond(self._get)

    def do_POST(self) -> None:
        self._respond(self._post)

    def _respond(self, make: Callable[[str], tuple[str, bytes]]) -> None:
        status = 200
        try:
            kind, body = make(self._admitted())
        except Refused as refused:
            status, (kind, body) = refused.status, _json({"error": str(refused)})
        except (ConnectionError, TimeoutError):
            raise  # nobody listens
        except Exception as error:  # whatever is wrong, the answers kept so far are worth more than this server's end
            status, (kind, body) = 500, _json({"error": f"{type(error).__name__}: {error}"})
        self._send(status, kind, body)

    def _admitted(self) -> str:
        """What is asked for, behind the token. Raises Refused for who does not know it, or comes by another name."""
        if self.headers.get("Host") not in self.server.hosts:
            raise Refused(403, "This page is for this machine alone.")
        if self.headers.get("Origin", "") not in {"", *(f"http://{host}" for host in self.server.hosts)}:
            raise Refused(403, "This page is not to be used by another.")
        _, token, *rest = [*self.path.partition("?")[0].split("/"), ""]
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            raise Refused(403, "Open the whole address that was printed.")
        return "/".join(rest).rstrip("/")

    def _get(self, wanted: str) -> tuple[str, bytes]:
        if not wanted:
            return "text/html; charset=utf-8", self.server.page
        if wanted.startswith("picture/"):
            return "image/png", self.server.people.picture(wanted.removeprefix("picture/"))
        raise Refused(404, "There is nothing here.")

    def _post(self, wanted: str) -> tuple[str, bytes]:
        if wanted not in ("question", "answer"):
            raise Refused(404, "There is nothing here.")
        told = self._told()
        person = told.get("person", "").strip() or f"anonymous-{secrets.token_hex(3)}"
        if len(person) > LONGEST_NAME or not person.isprintable():
            raise Refused(422, f"A name has at most {LONGEST_NAME} letters.")
        if wanted == "answer":
            self.server.people.keep(person, told.get("question", ""), told.get("answer", ""))
        found = self.server.people.ask(person)
        if found is None:
            found = {"result": self.server.score(self.server.people.answers(), person)}
        return _json({"person": person, "of": self.server.people.questions, **found})

    def _told(self) -> dict[str, str]:
        """The body: a JSON object of strings."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise Refused(411, "A body has a length.")
        if int(length) > LONGEST_BODY:
            with contextlib.suppress(TimeoutError):  # so that a sender who is still at it hears the answer
                self.rfile.read(min(int(length), 1 << 20))
            raise Refused(413, f"A body has at most {LONGEST_BODY} bytes.")
        body = self.rfile.read(int(length))
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, "A body is JSON.")
        try:
            told = json.loads(body)
        except (ValueError, RecursionError):
            raise Refused(422, "The body is no JSON.") from None
        if not isinstance(told, dict) or not all(isinstance(value, str) for value in told.values()):
            raise Refused(422, "The body is no object of strings.")
        return told

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind, "Content-Length": str(len(body)), "Content-Security-Policy": self.server.policy,
            "Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
        }  # fmt: skip
        if status != 200:  # what is left of the body must not be taken for the next request
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library refuses by itself, in the same manner."""
        self._send(code, *_json({"error": message or "This cannot be understood."}))

    def version_string(self) -> str:
        return "elegan"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed here."""


def serve(people: People, score: Score, *, port: int = 0, ready: Callable[[str], object]) -> None:
    """Serve until Ctrl-C; `ready` hears the address once it answers. port: 0 takes one that is free.

    score: of all answers and a person, what the last page tells: of `yours` and of `all` the numbers wrong, answers,
    low and high, and of all how many people. Raises `OptionError` for no port, `ResourceError` for one that is taken.
    """
    if not 0 <= port <= 65_535:
        raise OptionError(f"--port {port} is none: ports go from 0 to 65535.")
    try:
        server = Server(people, score, port)
    except OSError as error:
        reason = error.strerror or error
        raise ResourceError(f"port {port} of {HOST} cannot be opened ({reason}): choose another --port.") from error
    with server:
        ready(server.url)
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            return


def page(people: People) -> tuple[bytes, str]:
    """The page, the same for everyone, and the policy under which a browser runs its script and style and no others."""
    names = ("people.html", "page.css", "people.css", "people.js", "people.json")
    html, basis, style, script, texts = ((HERE / name).read_text(encoding="utf-8") for name in names)
    style = basis + style
    height, width = people.rows["real"].shape[2:]
    about = {"style": people.style, "choices": CHOICES[people.style], "of": people.questions}
    data = json.dumps({**about, "width": width, "height": height, "texts": json.loads(texts)}, ensure_ascii=False)
    policy = (
        f"default-src 'none'; img-src 'self' data:; connect-src 'self'; style-src '{digest(style)}'; "
        f"script-src '{digest(script)}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Template(html).substitute(style=style, script=script, data=data.replace("<", "\\u003c")).encode(), policy


def _json(told: Mapping[str, Any]) -> tuple[str, bytes]:
    return "application/json", json.dumps(told, ensure_ascii=False).encode()
