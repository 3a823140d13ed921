"""The studio's HTTP: the page, labs and their streams, runs, exports. `web/src/lib/contract.ts` says what each is."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from elegan.errors import ElegantError, OptionError, ResourceError, RunInUseError
from elegan.studio import setup, wire
from elegan.studio.server.exports import MOST_FRAMES, TYPES
from elegan.studio.server.exports import export as make
from elegan.studio.server.jobs import COMMAND
from elegan.studio.server.labs import Lab, Labs
from elegan.studio.server.runs import Runs
from elegan.studio.server.stream import Stream
from elegan.studio.spelled import spell

PAGE = Path(__file__).parent.parent / "page"
UNBUILT = "the studio's page is not built: run 'make page', which needs npm."
SLOWEST = 15.0  # seconds in which a client takes a message
LONGEST = 300  # letters of a sentence
STATUS = {ResourceError: 503, RunInUseError: 409}


def app(root: Path, *, command: Sequence[str] = COMMAND, page: Path = PAGE) -> Starlette:
    """The application, without its guard. root: of the runs. command: starts a child, with root behind it."""
    labs = Labs(root, command)

    @contextlib.asynccontextmanager
    async def living(app: Starlette) -> AsyncIterator[None]:
        labs.warm.prepare()
        yield
        await labs.end()

    api = [
        Route("/catalogue", catalogue),
        Route("/labs", list_labs),
        Route("/labs", open_lab, methods=["POST"]),
        Route("/labs/{id}", close_lab, methods=["DELETE"]),
        Route("/labs/{id}/frames", frames),
        Route("/labs/{id}/frames/{seq}", frame),
        WebSocketRoute("/labs/{id}/stream", stream),
        Route("/labs/{id}/spelled", spelled),
        *(Route(f"/labs/{{id}}/export.{kind}", export) for kind in TYPES),
        Route("/runs", list_runs),
        Route("/runs/{id}", run_history),
        Route("/runs/{id}/open", open_run, methods=["POST"]),
        Route("/runs/{id}/pictures/{step}", picture),
        Route("/points", points, methods=["POST"]),
    ]
    home = StaticFiles(directory=page, html=True) if (page / "index.html").exists() else unbuilt
    routes = [Mount("/api", Router(api, redirect_slashes=False)), Mount("/", GZipMiddleware(home))]
    handlers: Any = {HTTPException: refused, ElegantError: wrong, Exception: unforeseen}
    made = Starlette(routes=routes, lifespan=living, exception_handlers=handlers)
    made.state.labs, made.state.runs, made.state.drawing = labs, Runs(root), asyncio.Semaphore(1)
    return made


unbuilt = PlainTextResponse(UNBUILT + "\n", 503)


async def refused(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def wrong(request: Request, error: ElegantError) -> Response:
    return JSONResponse({"error": shortened(str(error))}, STATUS.get(type(error), 422))


async def unforeseen(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "something unforeseen happened; ELEGAN_DEBUG=1 shows where."}, 500)


async def catalogue(request: Request) -> Response:
    found = await request.app.state.labs.warm.catalogue()
    told = {name: value for name, value in found.items() if name not in ("kind", "arrays")}
    films = ["mp4"] if find_spec("av") else []
    return JSONResponse({**told, "exports": ["png", "gif", *films]})


async def list_labs(request: Request) -> Response:
    return JSONResponse([lab.info() for lab in request.app.state.labs])


async def open_lab(request: Request) -> Response:
    asked = setup.setup(await request.body())
    lab = await request.app.state.labs.open(setup.Open(do="open", setup=asked).model_dump_json())
    return JSONResponse(lab.info())


async def close_lab(request: Request) -> Response:
    await request.app.state.labs.close(request.path_params["id"])
    return JSONResponse({})


async def frames(request: Request) -> Response:
    return JSONResponse(lab_of(request).recording.facts())


async def frame(request: Request) -> Response:
    found = lab_of(request).recording.frame(in_path(request, "seq"))
    if found is None:
        raise HTTPException(404, "this frame is not kept in the recording.")
    return Response(found, media_type="application/octet-stream")


async def points(request: Request) -> Response:
    try:
        asked = setup.setup(json.dumps({"data": json.loads(await request.body())}))
    except (ValueError, RecursionError) as error:
        raise OptionError(f"the data is not JSON: {error}.") from None
    return JSONResponse(await request.app.state.labs.preview(asked.data.model_dump()))


def lab_of(request: Request) -> Lab:
    return request.app.state.labs[request.path_params["id"]]


async def spelled(request: Request) -> Response:
    lab = lab_of(request)
    return JSONResponse(spell(lab.head, lab.step, lab.changes, by_hand=lab.by_hand))


async def export(request: Request) -> Response:
    """A file of the frames from `first` to `last`; without either, of all there are."""
    lab, kind = lab_of(request), request.url.path.rpartition(".")[2]
    first, last = (number(request, name, without) for name, without in (("first", 0), ("last", 1 << 62)))
    kept = lab.recording.between(first, last, 1 if kind == "png" else MOST_FRAMES)
    if not kept:
        raise HTTPException(404, "no frame of the recording lies between these.")
    drawing: asyncio.Semaphore = request.app.state.drawing
    if drawing.locked():
        raise HTTPException(429, "another file is being made; wait for it.")
    async with drawing:
        content = await run_in_threadpool(make, kind, lab.opened, kept)
    name = f'attachment; filename="elegan-{wire.header(kept[-1])["step"]:08d}.{kind}"'
    return Response(content, media_type=TYPES[kind], headers={"Content-Disposition": name})


def in_path(request: Request, name: str) -> int:
    """A whole number of the path. Raises `HTTPException` 404 for what is none."""
    if not is_number(text := request.path_params[name]):
        raise HTTPException(404)
    return int(text)


def is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 20


def number(request: Request, name: str, without: int) -> int:
    """A whole number of the query. Raises `OptionError` for what is none."""
    text = request.query_params.get(name, str(without))
    if not is_number(text):
        raise OptionError(f"{name} is to be a whole number.")
    return int(text)


async def list_runs(request: Request) -> Response:
    return JSONResponse(await run_in_threadpool(request.app.state.runs.list))


async def run_history(request: Request) -> Response:
    return JSONResponse(await run_in_threadpool(request.app.state.runs.history, request.path_params["id"]))


async def open_run(request: Request) -> Response:
    path = request.app.state.runs.path(request.path_params["id"])
    lab = await request.app.state.labs.open(json.dumps({"do": "load", "path": str(path.resolve())}))
    return JSONResponse(lab.info())


async def picture(request: Request) -> Response:
    asked = request.path_params
    found = await run_in_threadpool(request.app.state.runs.picture, asked["id"], in_path(request, "step"))
    return Response(found, media_type="image/png")


async def stream(socket: WebSocket) -> None:
    """Text up, binary down, until either side has enough."""
    labs: Labs = socket.app.state.labs
    try:
        lab = labs[socket.path_params["id"]]
        seen = lab.look()
    except HTTPException as error:
        return await socket.send_denial_response(JSONResponse({"error": error.detail}, error.status_code))
    try:
        await socket.accept()
        sending = asyncio.create_task(send(socket, seen))
        hearing = asyncio.create_task(hear(socket, labs, lab, seen))
        await asyncio.wait({sending, hearing}, return_when=asyncio.FIRST_COMPLETED)
        for task in (sending, hearing):
            task.cancel()
        await asyncio.gather(sending, hearing, return_exceptions=True)
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await socket.close(1000)
    finally:
        lab.streams.discard(seen)
    return None


async def send(socket: WebSocket, seen: Stream) -> None:
    """What comes, as fast as the client takes it."""
    with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
        while (message := await seen.next()) is not None:
            async with asyncio.timeout(SLOWEST):
                await socket.send_bytes(message)


async def hear(socket: WebSocket, labs: Labs, lab: Lab, seen: Stream) -> None:
    """What the page asks for. What is wrong is refused and changes nothing."""
    loop, said = asyncio.get_running_loop(), -1.0
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            message = await socket.receive()
            if message["type"] != "websocket.receive" or message.get("text") is None:
                return  # gone, or bytes, which no page of ours sends
            if not lab.tokens.take(loop.time()):
                if loop.time() - said > 1:
                    said = loop.time()
                    refuse(seen, "too many commands at once; some were left out.")
                continue
            try:
                command = setup.command(message["text"])
                if isinstance(command, setup.Seen):
                    seen.seen(command.seq)
                else:
                    await lab.do(command, labs.warm)
            except ElegantError as error:
                refuse(seen, str(error))


def refuse(seen: Stream, why: str) -> None:
    seen.tell(wire.pack({"kind": "refused", "error": shortened(why)}))


def shortened(said: str) -> str:
    """A sentence, without what a client may have put into it by the megabyte."""
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 1]}…"
