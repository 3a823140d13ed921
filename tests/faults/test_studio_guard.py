"""The studio's rules of safety, each attacked over real sockets: nothing gets through, and nothing breaks."""

import contextlib
import json
import socket
import time

import pytest
from websockets.exceptions import ConnectionClosed

from tests.faults.studio import PAGE, Studio, heard, studio

SECRET = b"the secret"


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    with studio(tmp_path_factory.mktemp("guard")) as running:
        yield running, running.lab()


@pytest.fixture
def house(opened):
    """A studio with a lab, which lives after what is done to it."""
    running, lab = opened
    yield running
    assert PAGE.encode() in running.raw(request(running, path="/"))
    labs = json.loads(running.raw(request(running)).partition(b"\r\n\r\n")[2])
    assert [(one["id"], one["alive"]) for one in labs] == [(lab, True)]


@pytest.fixture
def lab(opened):
    return opened[1]


def request(
    house: Studio, method: str = "GET", path: str = "/api/labs", body: bytes = b"", version: str = "1.1", **headers
) -> bytes:
    """A request as our own page makes it, but for what is changed: a header of None is left out."""
    said = {
        "Host": f"127.0.0.1:{house.port}",
        "Origin": house.origin,
        "Cookie": house.cookie,
        "Sec-Fetch-Site": "same-origin",
        "Content-Length": str(len(body)),
        "Connection": "close",
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value.format(p=house.port)}" for name, value in said.items() if value is not None]
    return "\r\n".join([f"{method} {path} HTTP/{version}", *lines, "", ""]).encode("latin-1") + body


def status(answer: bytes) -> int:
    """The status of an answer; 0 for a connection that was closed without one."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def refused(answer: bytes, allowed=(0, 400, 401, 403, 404, 405, 413, 422, 429, 503)) -> None:
    assert status(answer) in allowed, answer[:300]
    assert SECRET not in answer
    assert b"Traceback" not in answer


def test_what_is_our_own_gets_through(house):
    """Or the refusals below would say nothing."""
    for method, path in (("GET", "/"), ("HEAD", "/"), ("GET", "/api/labs"), ("GET", "/assets/a-1234.js")):
        assert status(house.raw(request(house, method, path))) == 200
        assert status(house.raw(request(house, method, path, Origin=None, Sec_Fetch_Site=None))) == 200
    assert status(house.raw(request(house, "GET", "/", Host="localhost:{p}", Origin="http://localhost:{p}"))) == 200
    assert status(house.raw(request(house, "GET", "/", Host="[::1]:{p}", Origin=None))) == 200
    body = json.dumps({"kind": "csv", "text": "1,2"}).encode()
    assert status(house.raw(request(house, "POST", "/api/points", body))) == 200
    assert status(house.raw(request(house, "GET", "/", Sec_Fetch_Site="none", Origin=None))) == 200


HOSTS = [
    None,
    "",
    "evil.example",
    "evil.example:{p}",
    "127.0.0.1",
    "localhost",
    "127.0.0.1:80",
    "127.0.0.1:1{p}",
    "127.0.0.1.evil.example:{p}",
    "127.0.0.1.nip.io:{p}",
    "localhost.evil.example:{p}",
    "localhost.:{p}",
    "0.0.0.0:{p}",
    "127.1:{p}",
    "2130706433:{p}",
    "0x7f.0.0.1:{p}",
    "127.0.0.2:{p}",
    "[::ffff:127.0.0.1]:{p}",
    "[::]:{p}",
    "user@127.0.0.1:{p}",
    "127.0.0.1:{p}@evil.example",
    "127.0.0.1:{p}/",
    "127.0.0.1:{p}#",
    "127.0.0.1:{p},evil.example",
    "127.0.0.1:{p}, 127.0.0.1:{p}",
    "127.0.0.1 :{p}",
    "evil.example\tlocalhost:{p}",
    "http://127.0.0.1:{p}",
]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("path", ["/", "/api/labs", "/?token=TOKEN"])
def test_a_host_that_is_not_ours(house, host, path):
    answer = house.raw(request(house, path=path.replace("TOKEN", house.token), Host=host, Origin=None))
    refused(answer, (400, 403))
    assert b"set-cookie" not in answer.lower()


@pytest.mark.parametrize("second", ["evil.example", "127.0.0.1:{p}"])
def test_two_hosts(house, second):
    refused(house.raw(request(house, X="y\r\nHost: " + second)), (400, 403))


ORIGINS = [
    "null",
    "",
    "http://evil.example",
    "http://evil.example:{p}",
    "http://127.0.0.1",
    "http://127.0.0.1:1",
    "http://localhost:{p}",
    "https://evil.example",
    "http://127.0.0.1:{p}.evil.example",
    "http://127.0.0.1:{p}/",
    "file://",
    "ws://127.0.0.1:{p}",
    "http://[::1]:{p}",
    "chrome-extension://abc",
    "*",
    "127.0.0.1:{p}",
    "http://127.0.0.1:{p} http://evil.example",
]


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_origin_that_is_not_ours(house, lab, origin, method):
    path = f"/api/labs/{lab}" if method == "DELETE" else "/api/labs"
    refused(house.raw(request(house, method, path, b"{}", Origin=origin)), (403,))


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_what_changes_something_says_where_it_comes_from(house, lab, method):
    path = f"/api/labs/{lab}" if method == "DELETE" else "/api/labs"
    refused(house.raw(request(house, method, path, b"{}", Origin=None)), (403,))
    refused(house.raw(request(house, method, path, b"{}", Origin=None, Sec_Fetch_Site=None)), (403,))
    twice = f"{house.origin}\r\nOrigin: http://evil.example"
    refused(house.raw(request(house, method, path, b"{}", Origin=twice)), (403,))


@pytest.mark.parametrize("site", ["cross-site", "same-site", "evil", "", "same-origin, cross-site"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/api/labs"), ("POST", "/api/labs")])
def test_a_request_that_another_page_makes(house, site, method, path):
    """A page on another port of this machine is same-site: browsers send it the cookie, and may tell by this only."""
    refused(house.raw(request(house, method, path, Sec_Fetch_Site=site, Origin=None)), (403,))


COOKIES = [
    None,
    "",
    "elegan-{p}=",
    "elegan-{p}=x",
    "elegan={t}",
    "elegan-1={t}",
    "ELEGAN-{p}={t}",
    "elegan-{p}={short}",
    "elegan-{p}={t}x",
    "elegan-{p}=x{t}",
    "elegan-{p}={upper}",
    "{t}",
    "token={t}",
    "elegan-{p}%3D{t}",
    "elegan-{p}= {t} x",
    "elegan-{p}=\xff",
    "elegan-{p}=%00",
    "elegan-{p}=" + "a" * 20_000,
    "; " * 5_000,
]
SHUT = ["/", "/api/labs", "/api/catalogue", "/api/runs", "/assets/a-1234.js", "/index.html", "/nothing"]


@pytest.mark.parametrize("cookie", COOKIES)
@pytest.mark.parametrize("path", SHUT[:2])
def test_a_cookie_that_is_not_ours(house, cookie, path):
    token = house.token
    said = cookie and cookie.format(p="{p}", t=token, short=token[:-1], upper=token.swapcase())
    refused(house.raw(request(house, path=path, Cookie=said)), (400, 401))


@pytest.mark.parametrize("path", SHUT)
def test_nothing_is_open_without_the_cookie(house, path):
    answer = house.raw(request(house, path=path, Cookie=None))
    refused(answer, (401,))
    assert b"elegan studio" in answer


TOKENS = ["", "x", "TOKENx", "xTOKEN", "TOKE", "SWAPPED", "TOKEN&token=TOKEN", "x&token=TOKEN", "%00TOKEN", "TOKEN%00"]


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_that_is_not_ours(house, token):
    said = (
        token.replace("TOKEN", house.token).replace("TOKE", house.token[:-1]).replace("SWAPPED", house.token.swapcase())
    )
    answer = house.raw(request(house, path=f"/?token={said}", Cookie=None))
    refused(answer, (401,))
    assert b"set-cookie" not in answer.lower()


def test_the_link_gives_a_cookie_once_and_takes_the_token_out_of_the_address(house):
    answer = house.raw(
        request(house, path=f"/?token={house.token}", Cookie=None, Origin=None, Sec_Fetch_Site="cross-site")
    )
    head = answer.decode().lower()
    assert status(answer) == 303
    assert "\r\nlocation: /\r\n" in head
    given = next(line for line in head.split("\r\n") if line.startswith("set-cookie:"))
    assert {part.strip() for part in given.split(";")[1:]} == {"httponly", "samesite=strict", "path=/"}
    assert status(house.raw(request(house, path=f"/api/labs?token={house.token}", Cookie=None))) == 401
    assert status(house.raw(request(house, "POST", f"/?token={house.token}", Cookie=None))) == 401


def test_the_ticket_for_our_own_browser_is_good_once(house):
    """Everybody on the machine may read the command line that a browser is started with."""
    path = f"/?token={house.ticket}"
    entered = house.raw(request(house, path=path, Cookie=None, Origin=None))
    assert status(entered) == 303
    assert house.ticket.encode() not in entered
    assert status(house.raw(request(house, path=path, Cookie=None, Origin=None))) == 401
    assert status(house.raw(request(house, Cookie=f"{house.cookie.partition('=')[0]}={house.ticket}"))) == 401


@pytest.mark.parametrize("number", ["9" * 5_000, "-1", "1e3", "٣"])
def test_numbers_of_the_path_that_are_none(house, lab, number):
    with house.client() as client:
        assert client.get(f"/api/labs/{lab}/frames/{number}").status_code == 404


def test_tokens_are_long_and_made_anew(tmp_path, house):
    assert len(house.token) >= 43  # 32 bytes
    with studio(tmp_path) as other:
        assert other.token != house.token
        answer = other.raw(request(other, Cookie=f"elegan-{{p}}={house.token}"))
        refused(answer, (401,))


PATHS = [
    ("/api/labs/{}/frames", "GET"),
    ("/api/labs/{}/frames/1", "GET"),
    ("/api/labs/{}/spelled", "GET"),
    ("/api/labs/{}/export.png", "GET"),
    ("/api/labs/{}", "DELETE"),
    ("/api/runs/{}", "GET"),
    ("/api/runs/{}/open", "POST"),
    ("/api/runs/{}/pictures/1", "GET"),
    ("/assets/{}", "GET"),
    ("/{}", "GET"),
]
OUT = [
    "../secret.txt",
    "..%2fsecret.txt",
    "%2e%2e/secret.txt",
    "%2e%2e%2fsecret.txt",
    "..%5csecret.txt",
    "..\\secret.txt",
    "%252e%252e%252fsecret.txt",
    "..%c0%afsecret.txt",
    "....//secret.txt",
    "..%00/secret.txt",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "file:%2f%2f%2fetc%2fpasswd",
    "../../secret.txt",
    "../../../secret.txt",
    "..;/secret.txt",
    "%uff0e%uff0e/secret.txt",
]


@pytest.mark.parametrize(("path", "method"), PATHS)
@pytest.mark.parametrize("out", OUT)
def test_no_path_leads_out(house, path, method, out):
    answer = house.raw(request(house, method, path.format(out)))
    refused(answer, (400, 404, 405))
    assert b"root:" not in answer


@pytest.mark.parametrize(
    "name", ["", "0", "-1", "x" * 5_000, "%00", "%ff%fe", "\xe9", "1e9", "__init__", "*", "?", "🦉"]
)
@pytest.mark.parametrize("path", ["/api/labs/{}/frames", "/api/runs/{}", "/api/runs/{}/pictures/1"])
def test_ids_that_are_none(house, path, name):
    asked = path.format(name).encode().decode("latin-1")
    refused(house.raw(request(house, path=asked)), (400, 404))


@pytest.mark.parametrize("number", ["-1", "1.5", "nan", "9" * 50, "0x1", "1e3", "١", "", "1;2"])
def test_numbers_that_are_none(house, lab, number):
    told = number.encode().decode("latin-1")
    refused(house.raw(request(house, path=f"/api/labs/{lab}/frames/{told}")), (400, 404))
    refused(house.raw(request(house, path=f"/api/labs/{lab}/export.png?first={told}")), (400, 404, 422))


@pytest.mark.parametrize(
    "method", ["PUT", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "X" * 100, "GE T"]
)
@pytest.mark.parametrize("path", ["/", "/api/labs"])
def test_methods_that_are_none(house, method, path):
    refused(house.raw(request(house, method, path)), (400, 404, 405))


RAW = {
    "nothing": b"\r\n\r\n\r\n\r\n",
    "no protocol": b"GET /\r\n\r\n",
    "old": b"GET / HTTP/0.9\r\n\r\n",
    "1.0": b"GET /api/labs HTTP/1.0\r\n\r\n",
    "2.0": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
    "garbage": bytes(range(256)) * 8,
    "a head without end": b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000,
    "thousands of headers": b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 50_000 + b"\r\n",
    "a line of a megabyte": b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n evil\r\n\r\n",
    "a bare newline": b"GET / HTTP/1.1\nHost: evil\n\n",
    "a nul": b"GET /\x00 HTTP/1.1\r\nHost: evil\r\n\r\n",
    "another server": b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "connect": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
}


@pytest.mark.parametrize("said", RAW)
def test_what_is_hardly_http(house, said):
    refused(house.raw(RAW[said], seconds=0.5), (0, 400, 401, 403, 405, 431))


BODIES = {
    "nothing": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "text": b'"setup"',
    "bytes": b"\xff\xfe\x00",
    "deep": b'{"data":' * 50_000,
    "deep list": b"[" * 100_000,
    "nan": b'{"seed": NaN}',
    "infinite": b'{"seed": Infinity}',
    "huge": b'{"seed": 1e999}',
    "digits": b'{"seed": ' + b"9" * 100_000 + b"}",
    "text for a number": b'{"seed": "5"}',
    "truth for a number": b'{"seed": true}',
    "unknown": b'{"path": "/etc/passwd"}',
    "a url": b'{"data": {"kind": "url", "url": "http://evil.example"}}',
    "a file": b'{"data": {"kind": "preset", "path": "/etc/passwd"}}',
    "no game": b'{"benches": []}',
    "many games": json.dumps({"benches": [{"game": "gan"}] * 5}).encode(),
    "a dictionary option": b'{"benches": [{"game": "gan", "options": {"z_dim": {"a": 1}}}]}',
    "version": b'{"version": 2}',
    "long text": json.dumps({"data": {"kind": "csv", "text": "1" * 2_000_001}}).encode(),
    "nan in data": b'{"data": {"kind": "drawn", "points": [[NaN, 0]]}}',
    "many points": json.dumps({"data": {"kind": "drawn", "points": [[0.0, 0.0]] * 5_001}}).encode(),
    "surrogate": b'{"data": {"kind": "csv", "text": "\\ud800"}}',
    "a pickle": b"cos\nsystem\n(S'true'\ntR.",
    "batch": b'{"batch": 100000}',
    "twice": b'{"seed": 1}{"seed": 2}',
    "null byte": b'{"seed": 1}\x00',
    "outside": b'{"data": {"kind": "drawn", "points": [[2, 0]]}}',
    "long name": json.dumps({"benches": [{"game": "x" * 65}]}).encode(),
}


@pytest.mark.parametrize("path", ["/api/labs", "/api/points"])
@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_is_no_setup(house, path, body):
    answer = house.raw(request(house, "POST", path, BODIES[body]))
    refused(answer, (422,))
    said = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert "\n" not in said
    assert len(said) < 400


def test_a_body_that_is_too_large(house):
    before = house.memory()
    many = 5 << 20
    refused(house.raw(request(house, "POST", "/api/labs", Content_Length=str(many))), (413,))
    refused(house.raw(request(house, "POST", "/api/labs", b" " * many)), (0, 413))
    refused(house.raw(request(house, "POST", "/api/labs", Content_Length=str(10**18))), (413,))
    for length in ("-1", "x", "1, 2", "0x10", "9" * 500, "+5"):
        refused(house.raw(request(house, "POST", "/api/labs", b"{}", Content_Length=length), seconds=0.5), (400, 413))
    head = request(house, "POST", "/api/labs", Content_Length=None, Transfer_Encoding="chunked")
    whole = b"".join([b"100000\r\n" + b" " * 0x100000 + b"\r\n"] * 6) + b"0\r\n\r\n"
    refused(house.raw(head + whole), (0, 413))
    refused(house.raw(head + b"FFFFFFFFFFFFFFFF\r\n" + b" " * 100, seconds=1), (0, 400, 413))
    refused(house.raw(head + b"zz\r\n", seconds=0.5), (0, 400))
    both = request(house, "POST", "/api/labs", b"{}", Transfer_Encoding="chunked")
    refused(house.raw(both, seconds=0.5), (0, 400, 422))
    assert house.memory() < before + 12


def test_what_never_arrives(tmp_path):
    """A request that stops halfway is given up, before its body or in it."""
    with studio(tmp_path, before="guard.SLOWEST_BODY = connections.SLOWEST_HEAD = 0.5") as house:
        start = time.monotonic()
        refused(house.raw(request(house, "POST", "/api/labs", b"{", Content_Length="10")), (400,))
        assert house.raw(b"GET / HTTP/1.1\r\nHost: 127") == b""
        assert house.raw(b"") == b""
        assert time.monotonic() - start < 6


def test_every_answer_keeps_the_browser_careful(house, lab):
    """Also those that refuse, and those that fail; and no answer lets another origin read it."""
    asked = [
        request(house, path="/"),
        request(house, path="/api/labs"),
        request(house, path="/nothing"),
        request(house, Host="evil"),
        request(house, Cookie=None),
        request(house, "PUT"),
        request(house, "POST", "/api/labs", b"{"),
        request(house, path=f"/?token={house.token}"),
        request(house, path="/assets/a-1234.js"),
        request(house, path=f"/api/labs/{lab}/frames/1"),
        request(house, "POST", Content_Length="9999999"),
        handshake(house, lab, Host="evil"),
    ]
    for one in asked:
        head, _, _ = house.raw(one, seconds=0.5).decode("latin-1").lower().partition("\r\n\r\n")
        told = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
        policy = dict(part.strip().partition(" ")[::2] for part in told["content-security-policy"].split(";"))
        assert policy["default-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["object-src"] == policy["base-uri"] == "'none'"
        assert policy["img-src"].split() == ["'self'", "blob:", "data:"]
        assert "unsafe" not in told["content-security-policy"]
        assert told["x-content-type-options"] == "nosniff"
        assert told["referrer-policy"] == "no-referrer"
        assert told["cross-origin-opener-policy"] == told["cross-origin-resource-policy"] == "same-origin"
        lasting = one.startswith(b"GET /assets/")
        assert told["cache-control"] == ("private, max-age=31536000, immutable" if lasting else "no-store")
        assert not [name for name in told if name.startswith("access-control") or name == "server"]


def test_a_header_cannot_be_slipped_in(house, lab):
    for path in (
        f"/api/labs/{lab}%0d%0aX-Evil:%201",
        "/%0d%0aSet-Cookie:%20a=b",
        f"/api/labs/{lab}/export.png?first=%0d%0aX-Evil:1",
    ):
        answer = house.raw(request(house, path=path))
        refused(answer, (400, 404, 422))
        assert b"evil" not in answer.partition(b"\r\n\r\n")[0].lower()
        assert b"set-cookie" not in answer.lower()


# WebSockets ----------------------------------------------------------------------------------------------------------


def handshake(house: Studio, lab: str, **headers: str | None) -> bytes:
    said = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec_WebSocket_Version": "13",
        "Content_Length": None,
    }
    return request(house, path=f"/api/labs/{lab}/stream", **{**said, **headers})


def shake(house: Studio, lab: str, **headers: str | None) -> bytes:
    return house.raw(handshake(house, lab, **headers), seconds=0.5)


def test_our_own_stream_opens(house, lab):
    assert status(shake(house, lab)) == 101
    assert status(shake(house, lab, Sec_Fetch_Site=None)) == 101


@pytest.mark.parametrize("host", HOSTS[2:12])
def test_a_stream_by_a_host_that_is_not_ours(house, lab, host):
    refused(shake(house, lab, Host=host, Origin="http://" + host), (403,))


@pytest.mark.parametrize("origin", [None, *ORIGINS])
def test_a_stream_for_another_page(house, lab, origin):
    """Starlette lets any page open one; browsers send the cookie with it. A program has to say our Origin, too."""
    refused(shake(house, lab, Origin=origin), (400, 403))
    if origin is None:
        refused(shake(house, lab, Origin=None, Sec_Fetch_Site=None), (403,))


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_stream_that_another_page_opens(house, lab, site):
    refused(shake(house, lab, Sec_Fetch_Site=site), (403,))


@pytest.mark.parametrize("cookie", COOKIES[:10])
def test_a_stream_without_the_cookie(house, lab, cookie):
    said = cookie and cookie.format(p="{p}", t=house.token, short=house.token[:-1], upper=house.token.swapcase())
    refused(shake(house, lab, Cookie=said), (401,))


@pytest.mark.parametrize("name", ["", "x", "..", "%2e%2e", "🦉"])
def test_a_stream_of_no_lab(house, name):
    refused(shake(house, name.encode().decode("latin-1")), (400, 403, 404))


COMMANDS = {
    "no JSON": "{",
    "a list": "[]",
    "null": "null",
    "no command": "{}",
    "unknown": '{"do": "run"}',
    "a shell": '{"do": "run", "code": "import os"}',
    "load": '{"do": "load", "path": "/etc/passwd"}',
    "preview": '{"do": "preview", "data": {"kind": "preset"}}',
    "catalogue": '{"do": "catalogue"}',
    "a path": '{"do": "save", "path": "/tmp/x"}',
    "open a path": '{"do": "open", "setup": {"data": {"kind": "preset", "path": "/etc"}}}',
    "until text": '{"do": "play", "until": "5"}',
    "until nothing": '{"do": "play", "until": 0}',
    "rate nan": '{"do": "play", "rate": NaN}',
    "rate below": '{"do": "play", "rate": -1}',
    "who": '{"do": "step", "who": "E"}',
    "bench": '{"do": "change", "bench": 4, "change": {"lr": 1}}',
    "bench text": '{"do": "change", "bench": "0", "change": {"lr": 1}}',
    "no change": '{"do": "change", "change": {}}',
    "deep change": '{"do": "change", "change": {"lr": {"a": 1}}}',
    "infinite": '{"do": "change", "change": {"lr": Infinity}}',
    "many changes": json.dumps({"do": "change", "change": {str(k): 1 for k in range(81)}}),
    "points": '{"do": "view", "points": 1000000}',
    "average": '{"do": "view", "average": 1}',
    "what": '{"do": "measure", "what": "everything"}',
    "seq": '{"do": "seen", "seq": -1}',
    "seq nan": '{"do": "seen", "seq": NaN}',
    "more": '{"do": "pause", "more": 1}',
    "deep": '{"do":' * 100_000,
    "long": '{"do": "' + "x" * 100_000 + '"}',
    "two lines": '{"do": "pause"}\n{"do": "load", "path": "/etc/passwd"}',
    "nul": '{"do": "pause"}\x00',
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_none_is_refused_and_changes_nothing(house, lab, command):
    with house.stream(lab) as stream:
        step = heard(stream, "frame")["step"]
        stream.send(COMMANDS[command])
        said = heard(stream, "refused")["error"]
        assert "\n" not in said
        assert len(said) <= 300
    with house.client() as client:
        assert client.get("/api/labs").json()[0]["step"] == step


def closing(stream) -> int:
    """The code by which a stream is closed; 1006 if it just ends."""
    try:
        while True:
            stream.recv(timeout=10)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 1006


def test_a_frame_that_is_too_large_ends_the_stream_and_no_other(house, lab):
    before = house.memory()
    with house.stream(lab) as other:
        for big in ("x" * (5 << 20), ["y" * (1 << 20)] * 5):
            with house.stream(lab) as stream:
                with contextlib.suppress(ConnectionClosed):
                    stream.send(big)
                assert closing(stream) in (1009, 1006)  # the latter if the line is cut before it is read
        other.send('{"do": "pause"}')
        heard(other, "frame")
    assert house.memory() < before + 15


def test_bytes_end_the_stream(house, lab):
    with house.stream(lab) as stream:
        stream.send(b"\x00\x01")
        assert closing(stream) == 1000


def test_a_message_in_endless_parts_ends_the_stream(house, lab):
    with house.stream(lab) as stream:
        with contextlib.suppress(ConnectionClosed):
            stream.send("" for _ in range(20_000))
        assert closing(stream) == 1006


def send_for_ever(line: socket.socket, block: bytes, times: int) -> None:
    for _ in range(times):
        line.sendall(block)


def test_pings_that_nobody_reads_the_answers_of(house, lab):
    """Each is answered; whoever reads none is ended before many megabytes of them lie about."""
    before = house.memory()
    ping = b"\x89\xfd" + b"\x00" * 4 + b"p" * 125
    with socket.create_connection(("127.0.0.1", house.port), timeout=10) as line:
        line.sendall(handshake(house, lab))
        with pytest.raises(ConnectionError):
            send_for_ever(line, ping * 100, times=4_000)
    assert house.memory() < before + 30


def test_a_flood_of_commands_is_cut_and_costs_no_memory(house, lab):
    before = house.memory()
    with house.stream(lab) as stream:
        start = time.monotonic()
        for _ in range(5_000):
            stream.send('{"do": "pause"}')
        sent = time.monotonic() - start
        assert "too many" in heard(stream, "refused")["error"]
    time.sleep(0.5)
    with house.client() as client:
        frames = client.get(f"/api/labs/{lab}/frames").json()[-1]["seq"]
    assert frames < 400 + 200 * (sent + 3) + 200, "the stand-in shows a frame for each command it gets"
    assert house.memory() < before + 20


def test_no_more_streams_than_eight(house, lab):
    with contextlib.ExitStack() as streams:
        for _ in range(8):
            streams.enter_context(house.stream(lab))
        answer = shake(house, lab)
        assert status(answer) == 429
        assert b"close one" in answer
    time.sleep(0.2)
    assert status(shake(house, lab)) == 101


def test_a_secret_is_in_no_log(tmp_path):
    with studio(tmp_path, environment={"ELEGAN_DEBUG": "1"}) as house:
        house.raw(request(house, path=f"/?token={house.token}"))
        house.raw(request(house, path=f"/?token={house.token}", Host="evil"))
        house.raw(b"GET /?token=" + house.token.encode() + b"\x00 HTTP/1.1\r\n\r\n", seconds=0.5)
        house.raw(request(house, "POST", f"/api/labs?token={house.token}", b"{"))
        lab = house.lab()
        with house.stream(lab) as stream:
            stream.send('{"do": "change", "change": {"crash": true}}')
            heard(stream, "failed")
        said = (tmp_path / "said.txt").read_text()
        assert house.token not in said
        assert house.process.poll() is None
