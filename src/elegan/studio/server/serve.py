"""The server from start to end: a socket, a link, signals."""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn

from elegan.errors import ResourceError
from elegan.studio.server.app import PAGE, app
from elegan.studio.server.connections import Http, WebSocket
from elegan.studio.server.guard import MOST_BODY, Guard
from elegan.studio.server.jobs import COMMAND

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::", "")
MOST_CONNECTIONS = 128
AT_THE_END = 1  # seconds for answers that are on their way


class Server(uvicorn.Server):
    """Calls `ready` once it answers, and ends in peace when asked to."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]):
        super().__init__(config)
        self.ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready()

    @contextlib.contextmanager
    def capture_signals(self):
        """As the base does, but a signal that ended the server has done its work, and is not raised again."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def serve(
    host: str,
    port: int,
    root: Path,
    *,
    hosts: Sequence[str] = (),
    ready: Callable[[str, str], None],
    command: Sequence[str] = COMMAND,
    page: Path = PAGE,
) -> None:
    """Serve until SIGINT or SIGTERM. port: 0 is any that is free. hosts: further names that browsers may use.

    ready: told the link, with its token, once it opens; and one that is good once, for a browser's command line.
    Raises `ResourceError` if the port cannot be had.
    """
    quiet = os.environ.get("ELEGAN_DEBUG", "") in ("", "0")
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL + 1 if quiet else logging.ERROR)
    with bound(host, port) as listening:
        port = listening.getsockname()[1]
        name = f"[{host}]" if ":" in host else host
        if host in EVERYWHERE:
            name = socket.gethostname()
        guard = Guard(app(root, command=command, page=page), port=port, hosts=[f"{name}:{port}", *hosts])
        config = uvicorn.Config(
            guard, http=Http, ws=WebSocket, loop="asyncio", lifespan="on", log_config=None, access_log=False,
            proxy_headers=False, server_header=False, date_header=False, ws_max_size=MOST_BODY,
            ws_per_message_deflate=False, limit_concurrency=MOST_CONNECTIONS, timeout_graceful_shutdown=AT_THE_END,
        )  # fmt: skip
        address = f"http://{name}:{port}/?token="
        Server(config, lambda: ready(address + guard.token, address + guard.ticket)).run([listening])


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises `ResourceError` in one line if it cannot be had."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=MOST_CONNECTIONS)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        if number == errno.EADDRINUSE:
            raise ResourceError(f"port {port} is in use: choose another with --port, or --port 0 for any.") from error
        reason = getattr(error, "strerror", None) or error
        raise ResourceError(f"{host}, port {port}, cannot be listened on ({reason}): choose others.") from error
