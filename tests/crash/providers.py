"""Providers that remember what they took, and the time of everybody: no sockets."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from anykontext.adapting import Purpose, Reply
from anykontext.engine.effects import All, Await, Loss, Lost, Send

MODEL = "flux-kontext-pro"
START = 1_800_000_000.0


class Crash(BaseException):
    """The process is gone."""


class Clock:
    """The time of everybody."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


def sha(task: str) -> str:
    return hashlib.sha256(task.encode()).hexdigest()


@dataclass
class Taken:
    """A task that a provider has accepted."""

    job_id: str
    provider: str
    failed: bool = False


@dataclass
class Providers:
    """Providers of two kinds: bfl names a task for each image, together answers with images and names none."""

    tasks: dict[str, Taken] = field(default_factory=dict)
    arrived: list[tuple[str, str]] = field(default_factory=list)

    def hears(self, send: Send, fate: str) -> Reply | Lost:
        if send.call.purpose is Purpose.SUBMIT:
            return self._submit(send, fate)
        assert send.call.purpose is Purpose.POLL, send
        return self._poll(send, parse_qs(urlsplit(send.address.url).query)["id"][0], fate)

    def _submit(self, send: Send, fate: str) -> Reply | Lost:
        job_id, name = json.loads(bytes(send.call.body))["prompt"], send.provider.name
        if fate == "not connected":
            return Lost(Loss.NOT_CONNECTED, "no route")
        self.arrived.append((job_id, name))
        task = f"{name}-{len(self.tasks)}"
        if fate == "ok" or "taken" in fate:
            self.tasks[task] = Taken(job_id, name)
        if "lost" in fate:
            return Lost(Loss.AFTER_SENDING, "reset by peer")
        if "gateway" in fate:
            return Reply(send.call, 502, {}, b"<html>Bad Gateway</html>")
        if fate != "ok":
            status = 503 if fate == "outage" else 422
            said: Any = {"message": "no", "type": "invalid_request_error", "code": None}
            return self._said(send, status, {"error": said} if name == "together" else {"detail": "no"})
        if name != "together":
            link = f"https://api.eu2.bfl.ai/v1/get_result?id={task}"
            return self._said(send, 200, {"id": task, "polling_url": link, "cost": None})
        data = [{"index": 0, "url": f"https://api.together.ai/imgproxy/{task}"}]
        return self._said(send, 200, {"id": task, "model": MODEL, "object": "list", "data": data})

    def _poll(self, send: Send, task: str, fate: str) -> Reply | Lost:
        if fate == "lost":
            return Lost(Loss.AFTER_SENDING, "reset by peer")
        taken = self.tasks[task]
        taken.failed |= fate == "failed"
        word = "Error" if taken.failed else "Pending" if fate == "running" else "Ready"
        result = {"sample": f"https://delivery.eu2.bfl.ai/{task}"} if word == "Ready" else None
        return self._said(send, 200, {"id": task, "status": word, "result": result, "progress": None})

    def _said(self, send: Send, status: int, body: Any) -> Reply:
        return Reply(send.call, status, {}, json.dumps(body).encode())


def flat(flow: Any, told: Any) -> Iterator[Any]:
    """A flow whose flows side by side are done one after the other; those on the side now and then when waited for."""
    value = None
    try:
        effect = next(flow)
        while True:
            if isinstance(effect, All):
                value = []
                for one in effect.flows:
                    value.append((yield from flat(one, told)))
            elif isinstance(effect, Await) and int(told(None).mono) % 2:
                value = 0, (yield from flat(effect.asides[0].flow, told))
            else:
                value = yield effect
            effect = flow.send(told(value))
    except StopIteration as end:
        return end.value
