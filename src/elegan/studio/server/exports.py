"""Frames of a recording as files to keep: a picture, an endless GIF, a film. All say that they are synthetic."""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from elegan.errors import OptionError
from elegan.exporting.provenance import marks, note
from elegan.studio import wire
from elegan.view.plane import FAINT, INK, MARGIN, Window, font, framed, panel

TYPES = {"png": "image/png", "gif": "image/gif", "mp4": "video/mp4"}
MOST_FRAMES = 300
REAL = 1_000  # real points that are shown
FOOT = 30  # pixels of the line below the panels
FRAME_MS, LAST_MS = 60, 2_000
COLOURS = 96
RATE = 25  # frames a second of a film


def export(kind: str, opened: bytes, frames: Sequence[bytes]) -> bytes:
    """A file of `kind` of these frames, one for a picture. Takes its time.

    opened: the lab's message that the frames belong to. Raises `OptionError` for a film without the extra `video`.
    """
    head, arrays = wire.unpack(opened)
    real = arrays["real"][:REAL]
    facts = facts_of(head, [wire.header(frame)["step"] for frame in (frames[0], frames[-1])])
    return WRITERS[kind]((drawn(frame, head, real) for frame in frames), facts)


def facts_of(head: Mapping[str, Any], steps: Sequence[int]) -> dict[str, object]:
    """What made the file."""
    games = ", ".join(bench["game"] for bench in head["benches"])
    shown = " to ".join(dict.fromkeys(map(str, steps)))
    return {"game": games, "data": head["about"], "seed": head["setup"]["seed"], "step": shown}


def drawn(frame: bytes, opened: Mapping[str, Any], real: np.ndarray) -> Image.Image:
    """A frame as a picture: a panel a game, and a line that says what it is."""
    head, arrays = wire.unpack(frame)
    window = Window(**opened["window"])
    panels, judged = [], False
    for k, bench in enumerate(opened["benches"]):
        surface = arrays[f"{k}/surface"].reshape(-1) / 255 if f"{k}/surface" in arrays else None
        fake = arrays.get(f"{k}/fake", np.zeros((0, 2), np.float32))
        panels.append((bench["game"], panel(window, fake, real, surface)))
        judged = judged or surface is not None
    sheet = framed(panels, judged=judged)
    picture = Image.new("RGB", (sheet.width + sheet.width % 2, sheet.height + FOOT + sheet.height % 2), "white")
    picture.paste(sheet)
    pen, y = ImageDraw.Draw(picture), sheet.height + FOOT / 2 - MARGIN / 2
    pen.text((MARGIN, y), f"step {head['step']:,}", INK, font(14), anchor="lm")
    pen.text((sheet.width - MARGIN, y), "synthetic: the drawn points are a network's", FAINT, font(14), anchor="rm")
    return picture


def as_png(pictures: Iterator[Image.Image], facts: Mapping[str, object]) -> bytes:
    buffer = io.BytesIO()
    next(pictures).save(buffer, "PNG", pnginfo=marks(facts))
    return buffer.getvalue()


def as_gif(pictures: Iterator[Image.Image], facts: Mapping[str, object]) -> bytes:
    shown = [picture.quantize(COLOURS, dither=Image.Dither.NONE) for picture in pictures]
    durations = [FRAME_MS] * (len(shown) - 1) + [LAST_MS]
    buffer = io.BytesIO()
    shown[0].save(
        buffer, "GIF", save_all=True, append_images=shown[1:], duration=durations, loop=0, comment=note(facts).encode()
    )
    return buffer.getvalue()


def as_film(pictures: Iterator[Image.Image], facts: Mapping[str, object]) -> bytes:
    try:
        import av
    except ImportError:
        raise OptionError('a film needs the extra video: pip install "elegan[video]", or take a GIF.') from None
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        container.metadata["comment"] = note(facts)
        stream = None
        for picture in pictures:
            if stream is None:
                stream = container.add_stream("libx264", rate=RATE, options={"crf": "20", "preset": "veryfast"})
                stream.width, stream.height, stream.pix_fmt, stream.thread_count = *picture.size, "yuv420p", 1
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        assert stream is not None
        container.mux(stream.encode())
    return buffer.getvalue()


WRITERS = {"png": as_png, "gif": as_gif, "mp4": as_film}
