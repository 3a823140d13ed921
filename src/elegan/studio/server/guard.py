"""Who may speak to the studio: one guard around every request and every WebSocket, before anything else sees them.

Another page in the same browser, a name that was rebound to 127.0.0.1, or another user of the machine must not get
through. In this order: the Host is one of ours, the request comes from our own page (Sec-Fetch-Site; Origin, which is
required of all that changes something and of WebSockets), and it brings the cookie that only the printed link gives.
"""

import asyncio
import hmac
import secrets
from collections.abc import Iterable
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODY = 4 << 20  # bytes
SLOWEST_BODY = 20.0  # seconds for a body to arrive whole
METHODS = ("GET", "HEAD", "POST", "DELETE")
READING = ("GET", "HEAD")
LARGE = f"that is more than {MOST_BODY >> 20} MB."
CLOSE = {"Connection": "close"}  # for what is still to come is not wanted
LINK = "this page is closed without its token: open the link that 'elegan studio' printed."

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
LASTING = "private, max-age=31536000, immutable"  # of files that have a hash in their name


class Guard:
    """ASGI middleware, with a token that is made anew for each launch. The cookie is named after the port, as browsers
    share cookies between the ports of a host.

    hosts: names that a browser may know this server by, without a port, or with one where it is another.
    """

    def __init__(self, app: ASGIApp, *, port: int, hosts: Iterable[str] = ()):
        self.app = app
        self.token = secrets.token_urlsafe(32)
        self.ticket = secrets.token_urlsafe(32)  # lets one browser in, once: all see with what a browser is started
        self.cookie = f"elegan-{port}"
        self.hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
        for name in map(str.lower, hosts):
            self.hosts |= {name, f"{name}:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        marked = _marking(send, scope["path"])
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            return await _answer(refusal, scope, receive, marked)
        return await self.app(scope, _bounded(receive) if scope["type"] == "http" else receive, marked)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """Why a request does not get through, or the redirect that gives it the cookie; None if it does."""
        plain = scope["type"] == "http"
        if plain and scope["method"] not in METHODS:
            return _said(405, "there is no such method here.")
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            return _said(403, "the studio is not known by this Host: name it with --allow-host.")
        given = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("token")
        if given is not None and plain and scope["method"] in READING and scope["path"] == "/":
            return self._enter(given)
        changes = not plain or scope["method"] not in READING
        origins = headers.getlist("origin")
        ours = [[f"{scheme}://{hosts[0].lower()}"] for scheme in ("http", "https")]
        if (origins or changes) and [origin.lower() for origin in origins] not in ours:
            return _said(403, "this request does not come from the studio's own page (Origin).")
        if any(site not in ("same-origin", "none") for site in headers.getlist("sec-fetch-site")):
            return _said(403, "this request does not come from the studio's own page (Sec-Fetch-Site).")
        if not self._has_cookie(headers):
            return _said(401, LINK) if scope["path"].startswith("/api/") else PlainTextResponse(LINK + "\n", 401)
        if int(headers.get("content-length", "0") or 0) > MOST_BODY:
            return _said(413, LARGE)
        return None

    def _enter(self, given: list[str]) -> Response:
        """Take the token out of the address and put it into a cookie that no script and no other site can use."""
        once = len(given) == 1 and hmac.compare_digest(given[0].encode(), self.ticket.encode())
        if once:
            self.ticket = secrets.token_urlsafe(32)
        if len(given) != 1 or not (once or self._same(given[0])):
            return PlainTextResponse(LINK + "\n", 401)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(self.cookie, self.token, httponly=True, samesite="strict", path="/")
        return answer

    def _has_cookie(self, headers: Headers) -> bool:
        found = [cookie_parser(line).get(self.cookie) for line in headers.getlist("cookie")]
        return any(value is not None and self._same(value) for value in found)

    def _same(self, value: str) -> bool:
        return hmac.compare_digest(value.encode(), self.token.encode())


def _said(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status)


async def _answer(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Say it, also instead of a WebSocket, with the connection closed: a body may still be on its way."""
    if scope["type"] == "http":
        response.headers.update(CLOSE)
    await response(scope, receive, send)


def _marking(send: Send, path: str) -> Send:
    """Puts what keeps a browser careful into the head of every answer."""

    async def marked(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            headers.update(HEADERS)
            hashed = path.startswith("/assets/") and message["status"] in (200, 304)
            headers["Cache-Control"] = LASTING if hashed else "no-store"
        await send(message)

    return marked


def _bounded(receive: Receive) -> Receive:
    """A body is counted as it comes, whatever its Content-Length says, and has to come in time."""
    clock = asyncio.get_running_loop().time
    size, due = 0, clock() + SLOWEST_BODY
    whole = False

    async def bounded() -> Message:
        nonlocal size, whole
        if whole:
            return await receive()  # waits for a disconnect, for as long as the answer takes
        try:
            async with asyncio.timeout_at(due):
                message = await receive()
        except TimeoutError:
            raise HTTPException(400, f"the body did not arrive within {SLOWEST_BODY:g} seconds.", CLOSE) from None
        size += len(message.get("body", b""))
        if size > MOST_BODY:
            raise HTTPException(413, LARGE, CLOSE)
        whole = not message.get("more_body", False)
        return message

    return bounded
