"""Processes that make one job and are killed: `child.py`, told on stdin what to do, one JSON object a line.

`{"run": {...}}` forks a process that makes the job, and answers with how it ended, or that it was stopped;
`{"wait": PID}` waits for one that was stopped. The imports are paid for once: every job has a process of its own, which
makes its own client, and that is the one that the signal hits.
"""

import io
import json
import os
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

import anykontext as ak
from anykontext.adapting import Purpose
from anykontext.engine.effects import Emit, Persist, Send
from anykontext.io import drive_sync
from anykontext.io.exchange import Collected, chunks_of
from anykontext.ledger import SqliteLedger
from anykontext.model.events import Progress

NO_IMAGE = 3


def name_of(effect: Any) -> str:
    """What an effect is called in the table."""
    match effect:
        case Send(call=call):
            return f"Send({call.purpose})"
        case Persist(entry):
            return f"Persist({type(entry).__name__})"
        case Emit(Progress(status=status)) if status.startswith("uploading"):
            return "Emit(Progress: uploading)"
        case Emit(event):
            return f"Emit({type(event).__name__})"
    return type(effect).__name__


class Killer:
    """Sends this process signals at points of its life, one after the other, and notes the effects until then."""

    def __init__(self, signals: list[tuple[list[Any], int]], notes: Path) -> None:
        self.signals = [(tuple(at), number) for at, number in signals]
        self.notes = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.seen: Counter[str] = Counter()

    def reached(self, *point: Any) -> None:
        if self.signals and point == self.signals[0][0]:
            os.kill(os.getpid(), self.signals.pop(0)[1])

    def arm(self) -> None:
        """Watch every effect, the body of the submit on its way out, and its reply on its way in."""
        perform, add = drive_sync._Run._perform, Collected.add

        def watched(run: Any, effect: Any) -> Any:
            name = name_of(effect)
            self.seen[name] += 1
            nth = self.seen[name]
            os.write(self.notes, f"{name}\n".encode())
            self.reached("before", name, nth)
            told = perform(run, effect)
            self.reached("after", name, nth)
            return told

        def chunks(send: Send) -> Iterator[bytes] | None:
            found = chunks_of(send)
            return self._halves(b"".join(found)) if found and send.call.purpose is Purpose.SUBMIT else found

        def added(reply: Collected, chunk: bytes) -> bool:
            if reply.send.call.purpose is Purpose.SUBMIT:
                self.reached("in", "reply", 1)
            return add(reply, chunk)

        drive_sync._Run._perform = watched
        drive_sync.chunks_of = chunks
        Collected.add = added

    def _halves(self, body: bytes) -> Iterator[bytes]:
        half = len(body) // 2
        yield body[:half]
        self.reached("in", "body", 1)
        yield body[half:]
        self.reached("in", "wait for the reply", 1)


def photo() -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((64, 48)).convert("RGB").save(out, "PNG")
    return out.getvalue()


def job(
    config: str, home: str, mode: str, at: list[Any], stop: bool, then: list[Any], lease_s: float | None, images: int
) -> int:
    """Make one job, killed at a point, or stopped there and killed at another; the code says if it gave an image."""
    signals = [(at, signal.SIGSTOP), (then, signal.SIGKILL)] if stop else [(at, signal.SIGKILL)]
    Killer(signals, Path(home) / "effects").arm()
    if lease_s is not None:
        SqliteLedger.begin.__kwdefaults__["lease_s"] = lease_s
    try:
        with ak.Client(ak.Config.load(config, environ={"ANYKONTEXT_HOME": home})) as client:
            if mode == "edit":
                client.edit(photo(), "make it blue", num_images=images)
            else:
                client.generate("a lighthouse", num_images=images)
    except ak.AnykontextError as error:
        (Path(home) / "error").write_text(f"{type(error).__name__}: {error}")
        return NO_IMAGE
    return 0


def forked(action: Callable[[], int]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = action()
    except BaseException:  # noqa: BLE001 - it is told on stderr, and by the exit code
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(pid: int) -> dict[str, Any]:
    _, status = os.waitpid(pid, os.WUNTRACED)
    stopped = os.WIFSTOPPED(status)
    return {"pid": pid, "stopped": stopped, "code": None if stopped else os.waitstatus_to_exitcode(status)}


def main() -> None:
    tls = httpx.create_ssl_context(trust_env=False)  # the certificates of the world are read once
    httpx.create_ssl_context = lambda *_, **__: tls
    for line in sys.stdin:
        match json.loads(line):
            case {"run": what}:
                told = ended(forked(lambda what=what: job(**what)))
            case {"wait": pid}:
                told = ended(pid)
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
