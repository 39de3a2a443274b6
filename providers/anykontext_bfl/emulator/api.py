"""The global host: submits, credits, and no results (bfl sheet §2, §3, §4, §7)."""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from anykontext.sandbox import KEYS
from anykontext.sandbox.replies import gateway_page, reset_connection
from anykontext_bfl.emulator.images import FIELDS, Source, sources
from anykontext_bfl.emulator.models import MODELS, Model
from anykontext_bfl.emulator.results import task_not_found
from anykontext_bfl.emulator.tasks import Task
from anykontext_bfl.emulator.validation import parse, validate

if TYPE_CHECKING:
    from anykontext_bfl.emulator.service import Emulator

MOST_ACTIVE = 24
EDIT_SAFETY_LIMIT = 2
# What "malformed" means at BFL is not established: too short, or letters no key has [INF].
KEY_FORM = re.compile(r"[A-Za-z0-9_:.\-]{4,}")


class Refused(Exception):
    """A request that is answered with an error; nothing was accepted."""

    def __init__(self, status: int, detail: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


# Texts of 429, 500 and 503 are not established; the shape is [INF] by analogy (bfl sheet §7).
Gates = Mapping[str, tuple[int, str, Mapping[str, str]]]
AT_THE_DOOR: Gates = {
    "outage": (503, "Service Unavailable", {}),
    "server-error": (500, "Internal Server Error", {}),
}
AT_THE_ACCOUNT: Gates = {
    "rate-limited": (429, "Rate limit exceeded", {"Retry-After": "1"}),
    "out-of-credit": (402, "Insufficient credits", {}),
    "busy-402": (402, "Insufficient credits", {}),
}


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse({"detail": error.detail}, error.status, headers=error.headers)


def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)


ERRORS: dict[type[Exception], Callable[[Request, Exception], Response]] = {
    Refused: _refused,
    HTTPException: _http_error,
}


def app(emulator: "Emulator") -> Starlette:
    """The ASGI app of the global host."""
    api = _Api(emulator)
    return Starlette(
        routes=[
            *(Route(f"/v1/{name}", api.submit, methods=["POST"]) for name in MODELS),
            Route("/v1/credits", api.credits, methods=["GET"]),
            Route("/v1/get_result", api.get_result, methods=["GET"]),
        ],
        exception_handlers=ERRORS,
    )


class _Api:
    def __init__(self, emulator: "Emulator") -> None:
        self._emulator = emulator

    async def submit(self, request: Request) -> Response:
        """Accept a task, or refuse it."""
        emulator = self._emulator
        emulator.counters["submits"] += 1
        model = MODELS[request.url.path.rpartition("/")[2]]
        raw = await request.body()
        self._stop_at(AT_THE_DOOR)
        parsed, problems = parse(raw)
        if problems:  # FastAPI reads JSON before it looks at the key
            raise Refused(422, problems)
        key = self._key(request)
        body, problems = validate(model, parsed)
        if problems:
            raise Refused(422, problems)
        inputs = await asyncio.to_thread(sources, body)
        self._stop_at(AT_THE_ACCOUNT)
        await emulator.tasks.settle_due()
        self._check_limits(key, model)
        task = emulator.tasks.accept(key, model, body, inputs)
        self._remember(task, body, inputs, sent=parsed)
        if emulator.take("submit-lost"):
            return await reset_connection(request)
        if emulator.take("gateway-page"):
            return gateway_page()
        if emulator.take("submit-slow"):
            await asyncio.sleep(emulator.slow_seconds)
        return JSONResponse(self._accepted(task, body["webhook_url"]))

    async def credits(self, request: Request) -> Response:
        """The balance; also the free check of a key."""
        self._key(request)
        await self._emulator.tasks.settle_due()
        empty = self._emulator.armed("out-of-credit")
        return JSONResponse({"credits": 0.0 if empty else self._emulator.credits})

    async def get_result(self, request: Request) -> Response:
        """The global host has no task: it is on the host of its polling_url (bfl sheet §1, §13.1)."""
        self._emulator.counters["polls"] += 1
        return task_not_found(request.query_params.get("id", ""))

    def _stop_at(self, gates: Gates) -> None:
        for fault, (status, detail, headers) in gates.items():
            if self._emulator.take(fault):
                raise Refused(status, detail, headers)

    def _key(self, request: Request) -> str:
        key = request.headers.get("x-key")
        if not key:
            raise Refused(403, "Not authenticated")
        if not KEY_FORM.fullmatch(key):
            raise Refused(422, "Invalid API key format")
        if key not in KEYS or self._emulator.take("bad-key"):
            raise Refused(403, "Not authenticated - Invalid Authentication")
        return key

    def _check_limits(self, key: str, model: Model) -> None:
        emulator = self._emulator
        if emulator.credits < model.credits:
            raise Refused(402, "Insufficient credits")
        for limit, active in (
            (MOST_ACTIVE, emulator.tasks.active(key)),
            (model.most_active, emulator.tasks.active(key, model)),
        ):
            if limit is not None and active >= limit:
                # The real body is not established: bfl sheet §7 [INF].
                raise Refused(429, f"Concurrency limit exceeded: {limit} active tasks")

    def _remember(self, task: Task, body: Mapping[str, Any], inputs: list[Source], *, sent: Mapping[str, Any]) -> None:
        emulator = self._emulator
        ignored = sorted(set(sent) - set(task.model.fields))
        emulator.counters["accepted"] += 1
        emulator.counters["ignored_fields"] += len(ignored)
        # Refused, clamped or obeyed at BFL? Not established (bfl sheet §14): taken, and counted.
        edits = any(source.field.startswith("input_image") for source in inputs)
        if edits and body["safety_tolerance"] > EDIT_SAFETY_LIMIT:
            emulator.counters["safety_above_edit_limit"] += 1
        emulator.requests.append(
            {
                "id": task.id,
                "model": task.model.name,
                "body": {name: sent[name] for name in body if name in sent and name not in FIELDS},
                "images": [source.described() for source in inputs],
                "ignored": ignored,
            }
        )

    def _accepted(self, task: Task, webhook_url: str | None) -> Mapping[str, Any]:
        # FLUX.1-era endpoints send null: the settled cost comes with Ready (bfl sheet §4).
        costs = {"cost": None, "input_mp": None, "output_mp": None}
        if webhook_url is not None:
            # No polling_url; which status is sent is not established (bfl sheet §4, payload 20).
            return {"id": task.id, "status": "Pending", "webhook_url": webhook_url, **costs}
        host = "delivery" if self._emulator.take("foreign-poll-host") else "region"
        url = f"{self._emulator.origins[host]}/v1/get_result?id={task.id}"
        return {"id": task.id, "polling_url": url, **costs}
