"""`elegan studio`: the lab, as a local page."""

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from elegan.cli.parser import Verb
from elegan.errors import OptionError, ResourceError
from elegan.options import Option

VERB = Verb(
    "studio",
    "Open the lab: a local page on which two networks fight, and runs are seen. Until Ctrl-C.",
    (),
    {
        "Options": (
            Option("port", int, 8321, "port to listen on; 0 is any that is free"),
            Option("host", str, "127.0.0.1", "address to listen on; any but the default lets other machines in"),
            Option("runs", str, "runs", "directory of the runs it shows, and keeps what is saved in"),
            Option("browser", bool, True, "open a browser, if there is a screen for one"),
            Option(
                "allow_host", str | None, None, "names by which browsers may know this machine, separated by commas"
            ),
        )
    },
)


def main(tokens: Sequence[str]) -> int:
    typed = VERB.parse(tokens)
    if typed is None:
        return 0
    try:
        from elegan.studio.server import app, serve
    except ModuleNotFoundError as error:
        raise ResourceError(f'the studio needs {error.name}: pip install "elegan[studio]".') from None
    port, host = typed.get("port", 8321), typed.get("host", "127.0.0.1")
    if not 0 <= port < 1 << 16:
        raise OptionError(f"--port {port} is no port: use a number from 0 to 65535.")
    names = [name.strip() for name in (typed.get("allow_host") or "").split(",") if name.strip()]
    if not (app.PAGE / "index.html").exists():
        say(f"elegan: warning: {app.UNBUILT}")
    if host not in serve.LOOPBACK:
        say(f"elegan: warning: listening on {host}, so that the token in the link is all that guards this machine.")
    opens = typed.get("browser", True) and has_screen()
    serve.serve(host, port, Path(typed.get("runs", "runs")), hosts=names, ready=partial(greet, opens))
    return 0


def greet(opens: bool, link: str, once: str) -> None:
    """Print the link, and open one that is good once in a browser, whose command line everybody may read."""
    print(f"The lab is open: {link}", flush=True)
    if opens:
        import webbrowser

        webbrowser.open(once)


def has_screen() -> bool:
    """Whether somebody sits before this machine, to see a browser."""
    remote = any(os.environ.get(name) for name in ("SSH_CONNECTION", "SSH_TTY"))
    return not remote and (sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY"))))


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
