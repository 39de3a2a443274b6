"""Replay a trace: drive a flow with what was told in another process, without a network, a disk or a clock.

    lines = read("job_….jsonl")                        # from `anykontext jobs show ID --trace`, or the trace folder
    result = replay(lines, run_job(watch(lines), steps, policy))

A flow that asks for something else than it did then is a `Differs`, which names the line.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from anykontext.adapting import Kind, Refused, Reply, Uploaded
from anykontext.engine.effects import (
    All,
    Aside,
    Await,
    Detach,
    Effect,
    Fault,
    Flow,
    Loss,
    Lost,
    NotAdmitted,
    NotDownloaded,
    Send,
    Told,
)
from anykontext.engine.watch import Watch
from anykontext.io.trace import below, effect_line
from anykontext.model.errors import AnykontextError
from anykontext.model.result import ResultImage

T = TypeVar("T")
Line = Mapping[str, Any]
SAME = ("kind", "purpose", "method", "entry", "event", "flows")  # of an effect; hosts, paths and sizes may differ


class Differs(AssertionError):
    """A flow asks for something else than it did when it was recorded."""


def read(file: str | Path) -> list[Line]:
    """The lines of a trace."""
    return [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines() if line.strip()]


def watch(lines: Sequence[Line], *, job_id: str = "job_replayed", deadline_s: float = 180.0) -> Watch:
    """A clock for the flow, that starts when the trace did."""
    first = lines[0]
    return Watch(job_id, deadline_s, 0.0, 0.0, datetime.fromisoformat(first["wall"]), first["jitter"])


def replay(lines: Sequence[Line], flow: Flow[T], path: str = "") -> T:
    """Drive a flow to its end with what was told then; `path` names one flow of the trace, else it is the first.

    Raises:
        Differs: It asks for something else, or for more.
    """
    path = path or lines[0]["path"]
    left = iter([one for one in lines if one["path"] == path])
    rounds, beside = 0, dict[Aside, str]()
    try:
        effect = next(flow)
        while True:
            rounds += isinstance(effect, All | Detach)
            if isinstance(effect, Detach):
                beside[effect.aside] = below(path, rounds, 0)
            effect = flow.send(_told(lines, left, effect, path, rounds, beside=beside))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # a generator's value is untyped


def _told(
    lines: Sequence[Line], left: Iterable[Line], effect: Effect, path: str, rounds: int, *, beside: Mapping[Aside, str]
) -> Told:
    line = next(iter(left), None)
    asked = effect_line(effect)
    if line is None:
        raise Differs(f"flow {path} asks for {asked}, and the trace has ended")
    then = line["effect"]
    if any(asked.get(name) != then.get(name) for name in SAME):
        raise Differs(f"flow {path} asks for {asked}, and the trace has {then}")
    if isinstance(effect, All):
        value: Any = [replay(lines, one, below(path, rounds, index)) for index, one in enumerate(effect.flows)]
    elif isinstance(effect, Await) and line["told"]["kind"] == "ended":
        ended = effect.asides[line["told"]["place"]]
        value = line["told"]["place"], replay(lines, ended.flow, beside[ended])
    else:
        value = value_of(line["told"], effect)
    return Told(value, line["mono"], datetime.fromisoformat(line["wall"]), line["jitter"])


def value_of(told: Mapping[str, Any], effect: Effect) -> Any:
    """What was told, made anew."""
    match told["kind"]:
        case "Reply":
            assert isinstance(effect, Send)
            body = told["body"]
            data = json.dumps(body["json"]).encode() if "json" in body else body["text"].encode()
            return Reply(effect.call, told["status"], told["headers"], data)
        case "Lost":
            return Lost(Loss(told["loss"]), told["message"])
        case "NotAdmitted":
            return NotAdmitted(Kind(told["not_admitted"]), told["message"], told["since"])
        case "NotDownloaded":
            return NotDownloaded(Fault(told["fault"]), told["message"], told["status"])
        case "ResultImage":
            kept = {name: told[name] for name in ("media_type", "width", "height", "sha256")}
            return ResultImage(**kept, source_url=None, expires_at=None, stored=None)  # type: ignore[arg-type]  # a trace has no bytes
        case "Uploaded":
            return Uploaded("https://replayed.example/image")
        case "Refused":
            return Refused(Kind(told["refused"]), told["message"])
        case "error":
            return AnykontextError(f"{told['class']}: {told['message']}")
        case _:
            return told.get("value")
