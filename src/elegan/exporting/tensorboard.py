"""A run for TensorBoard: scalars, grids and options in RUN/track/, read by `tensorboard --logdir runs`."""

import contextlib
import io
import json
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from torch.utils.tensorboard import RecordWriter
from torch.utils.tensorboard.summary import text

from elegan.run.directory import RunDirectory

FOLDER = "track"


class TensorBoard:
    """Follows the event log: scalars at the steps of the log, by its names, and the grids as they are drawn.

    Tags: `terms/D.adv`, `gradients/D.grad`, `rates/D.lr` (when it changes), `speed/images a second`, `samples` and
    `options`. What a resume supersedes is purged. A disk that refuses is said once and never ends a training.
    """

    def __init__(self, run: RunDirectory, plan: Mapping[str, Any]):
        self.samples, self.folder, self.plan = run.samples, run.path / FOLDER, plan
        self.step = 0
        self._mark: Mapping[str, Any] | None = None  # the line of the last step
        self._sent: set[str] = set()
        self._looked = 0  # at which change of samples/
        self._file: io.BufferedWriter | None = None
        self._failed = False

    def __call__(self, line: Mapping[str, Any]) -> None:
        """Take one line of the event log."""
        self.step = line.get("step", self.step)
        if line["kind"] in ("started", "resumed"):
            self._guarded(self._begin, line)
        if line["kind"] == "step":
            self._guarded(self._scalars, line)
        if line["kind"] == "score":
            self._guarded(self._send, line, {f"scores/{name}": value for name, value in line["scores"].items()})
        self._guarded(self._grids)

    def close(self) -> None:
        """Let go of the file; the last grids came with the line that says how the run ended."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # of a full disk, which has been said
                self._file.close()

    def _guarded(self, write: Callable[..., None], *given: Any) -> None:
        if self._failed:
            return
        try:
            write(*given)
        except OSError as error:
            self._failed = True
            reason = error.strerror or error
            warnings.warn(f"{self.folder} cannot be written ({reason}); training goes on, untracked.", stacklevel=2)

    def _begin(self, line: Mapping[str, Any]) -> None:
        before = self.folder.exists()
        self.folder.mkdir(exist_ok=True)
        # readers take the files of a folder in the order of their names: times of equally many digits
        self._file = (self.folder / f"events.out.tfevents.{time.time():.6f}.elegan").open("xb")
        self._write(file_version="brain.Event:2")
        if line["kind"] == "resumed":
            self._write(step=line["step"] + 1, session_log=SessionLog(status=SessionLog.START))  # purges from there on
            if before:
                self._sent = {name for name, step in self._drawn() if step <= line["step"]}
        self._write(step=line["step"], summary=text("options", as_markdown(self.plan)))

    def _scalars(self, line: Mapping[str, Any]) -> None:
        scalars = {("gradients/" if n.endswith(".grad") else "terms/") + n: v for n, v in line["terms"].items()}
        scalars |= {f"rates/{name}": rate for name, rate in line.get("rates", {}).items()}
        if self._mark is not None and (passed := line["seconds"] - self._mark["seconds"]) > 0:
            scalars["speed/images a second"] = (line["images"] - self._mark["images"]) / passed
        self._mark = line
        self._send(line, scalars)

    def _send(self, line: Mapping[str, Any], scalars: Mapping[str, Any]) -> None:
        values = [Summary.Value(tag=tag, simple_value=float(value)) for tag, value in scalars.items()]
        self._write(step=line["step"], wall_time=line["time"], summary=Summary(value=values))

    def _grids(self) -> None:
        """Send what was drawn since, byte by byte, so that its marks of origin stay; nothing beyond this step."""
        changed = self.samples.stat().st_mtime_ns
        if changed == self._looked:
            return
        for name, step in self._drawn():
            if name not in self._sent and step <= self.step:
                content = (self.samples / name).read_bytes()
                with Image.open(io.BytesIO(content)) as picture:
                    size = dict(zip(("width", "height"), picture.size, strict=True), colorspace=len(picture.getbands()))
                drawn = Summary.Image(encoded_image_string=content, **size)
                self._write(step=step, summary=Summary(value=[Summary.Value(tag="samples", image=drawn)]))
                self._sent.add(name)
        self._looked = changed

    def _drawn(self) -> list[tuple[str, int]]:
        found = [path for path in self.samples.glob("[0-9]*.png") if path.stem.isdecimal()]
        return sorted((path.name, int(path.stem)) for path in found)

    def _write(self, **facts: Any) -> None:
        assert self._file is not None
        RecordWriter(self._file).write(Event(**{"wall_time": time.time(), **facts}).SerializeToString())
        self._file.flush()


def as_markdown(plan: Mapping[str, Any]) -> str:
    """Everything a run was made with, as a table."""
    rows = [
        f"| {part} | {name} | `{json.dumps(value, ensure_ascii=False)}` |"
        for part in ("options", "training", "data", "compute", "versions")
        for name, value in plan.get(part, {}).items()
    ]
    title = f"{plan['game']} on {plan['data']['name']}"
    return "\n".join([title, "", "| of | name | value |", "| --- | --- | --- |", *rows])
