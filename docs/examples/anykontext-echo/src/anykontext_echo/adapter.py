"""Translation between the canonical words and Echo's: pure functions, no key, no clock."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from anykontext.adapting import (
    Base64,
    Call,
    Effective,
    Facts,
    Failed,
    Kind,
    Output,
    Purpose,
    Refused,
    Reply,
    Running,
    State,
    Succeeded,
    Task,
    get,
    post,
)

from anykontext_echo.facts import FACTS

PATH = "/v1/echo"
ON_THE_WAY = frozenset({"queued", "drawing"})  # echo-2
KINDS = {  # echo-5
    "bad_key": Kind.AUTHENTICATION_FAILED,
    "no_credit": Kind.OUT_OF_CREDIT,
    "no_such_task": Kind.JOB_NOT_FOUND,
    "slow_down": Kind.RATE_LIMITED,
}


class Echo:
    """Echo; the contract is told at `anykontext.adapting.Adapter`."""

    facts: Facts = FACTS

    def submit(self, order: Effective) -> Call:
        """POST /v1/echo."""
        options = {
            "image": Base64(order.images[0].data) if order.images and order.images[0].data else None,  # echo-8
            "seed": order.seed,
            "safety": order.safety_tolerance,
            "format": order.output_format,
        }
        fields: dict[str, Any] = {"model": order.facts.wire_name, "prompt": order.prompt}
        fields |= {name: value for name, value in options.items() if value is not None} | dict(order.extra)
        return post(Purpose.SUBMIT, PATH, fields)

    def poll(self, task: Task) -> Call:
        """GET /v1/echo/<task> (echo-1)."""
        return get(Purpose.POLL, f"{PATH}/{quote(task.id, safe='')}")

    def read(self, reply: Reply, task: Task | None) -> State:
        """The body first, then the HTTP status."""
        body = reply.mapping()
        name, state = body.get("task"), body.get("state")
        if reply.call.purpose is Purpose.SUBMIT and reply.status < 300 and isinstance(name, str) and name:
            return Running(Task(name), "queued")
        if reply.call.purpose is Purpose.POLL and task is not None and isinstance(state, str):
            return _state(state, body, task)
        return _refused(reply.status, body.get("error"))


def _state(state: str, body: Mapping[str, Any], task: Task) -> State:
    said = body.get("text")
    text = said if isinstance(said, str) else state
    if state == "done":
        return _done(body, task)
    if state == "refused":  # echo-3
        stage = body.get("stage")
        return Failed(
            Kind.MODERATED,
            text,
            maybe_charged=False,
            stage="input" if stage == "input" else "output" if stage == "output" else "unknown",
            reasons=(text,),
        )
    if state == "broken":  # echo-4
        return Failed(Kind.GENERATION_FAILED, text, maybe_charged=False)
    return Running(task, state, known=state in ON_THE_WAY)


def _done(body: Mapping[str, Any], task: Task) -> State:
    url, cents, seed = body.get("image_url"), body.get("cents"), body.get("seed")
    if not isinstance(url, str) or not url:
        return Refused(Kind.PROTOCOL_ERROR, "done without a picture")
    return Succeeded(
        (Output(url),),
        task=task,
        seed=seed if type(seed) is int and seed >= 0 else None,  # echo-11
        cost_usd=Decimal(cents) / 100 if type(cents) is int and cents >= 0 else None,  # echo-6
        raw=body,
    )


def _refused(status: int, error: object) -> Refused:
    code = error.get("code") if isinstance(error, Mapping) else None
    if not isinstance(error, Mapping) or not isinstance(code, str) or status < 400:
        return Refused(Kind.PROTOCOL_ERROR, "a reply that is not Echo's")
    text = error.get("text")
    otherwise = Kind.REQUEST_REJECTED if status < 500 else Kind.UNAVAILABLE
    return Refused(KINDS.get(code, otherwise), text if isinstance(text, str) else code, shape="error")
