# ruff: noqa: E501 - payloads stand here letter for letter
"""fal keeps the contract."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

from anykontext.adapting import Balance, Cancelling, Failed, Fetch, Kind, Purpose, Refused, Running, Succeeded
from anykontext.model.errors import Moderated, OutcomeUnknown, ResultExpired, Unavailable
from anykontext.testing import AdapterContract, Documented, End
from anykontext_fal import Fal
from anykontext_fal.emulator import Emulator

SUBMIT, POLL, FETCH, CANCEL, CHECK = Purpose.SUBMIT, Purpose.POLL, Purpose.FETCH, Purpose.CANCEL, Purpose.CHECK
TASK = "https://queue.fal.run/fal-ai/flux-pro/requests/30bc4aeb-0543-4198-929c-da97da4d14c9"
ACCEPTED = (
    f'{{"status":"IN_QUEUE","request_id":"30bc4aeb-0543-4198-929c-da97da4d14c9","response_url":"{TASK}",'
    f'"status_url":"{TASK}/status","cancel_url":"{TASK}/cancel","logs":null,"metrics":{{}},"queue_position":0}}'
)
OLDER = '{"request_id":"80e732af-660e-45cd-bd63-580e4f2a94cc","response_url":"https://queue.fal.run/fal-ai/fast-sdxl/requests/80e732af-660e-45cd-bd63-580e4f2a94cc","status_url":"https://queue.fal.run/fal-ai/fast-sdxl/requests/80e732af-660e-45cd-bd63-580e4f2a94cc/status","cancel_url":"https://queue.fal.run/fal-ai/fast-sdxl/requests/80e732af-660e-45cd-bd63-580e4f2a94cc/cancel"}'
RESULT = '{"seed":2841475369,"images":[{"url":"https://fal.media/files/tiger/BwdOcvXOx0UmkCyCMZGmZ_1ee10db761e146a28fdaadafa528d239.jpg","width":1024,"height":1024,"content_type":"image/jpeg"}],"prompt":"Put the little duckling on top of the woman\'s t-shirt.","timings":{},"has_nsfw_concepts":[false]}'
SAMPLE = '{"images":[{"height":1024,"url":"https://fal.media/files/tiger/7dSJbIU_Ni-0Zp9eaLsvR_fe56916811d84ac69c6ffc0d32dca151.jpg","width":1024}],"prompt":""}'
DATA_URI = '{"images":[{"url":"data:image/jpeg;base64,QUJD"}],"seed":196619188014358660,"has_nsfw_concepts":[]}'
FLAGGED = '{"seed":7,"images":[{"url":"https://fal.media/files/black.jpg"}],"has_nsfw_concepts":[true]}'
CHECKER = "The content could not be processed because it contained material flagged by a content checker."
BALANCE = "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing."
NGINX = "<html><head><title>502 Bad Gateway</title></head><body><hr><center>nginx</center></body></html>"
OURS = {"x-fal-request-id": "1"}


def finding(kind: str, message: str, *place: str) -> str:
    return json.dumps({"detail": [{"loc": ["body", *place], "msg": message, "type": kind, "input": "a prompt"}]})


def infra(kind: str, message: str = "Request timed out") -> str:
    return json.dumps({"detail": message, "error_type": kind})


def status(word: str, code: int = 202, means: Any = Running, evidence: str = "fal-2", **told: Any) -> Documented:
    body = {"status": word, "request_id": "one", "response_url": f"{TASK}", "logs": None, "metrics": {}}
    return Documented(POLL, code, body, means, evidence, told=told)


def fetched(code: int, body: Any, means: Any, evidence: str, headers: Any = OURS, **told: Any) -> Documented:
    return Documented(FETCH, code, body, means, evidence, headers, told)


REFUSED = {  # (status, body, headers) -> kind, whether a submit may be charged, evidence
    (401, '{"detail":"Cannot access application. Authentication is required"}', ()): (
        Kind.AUTHENTICATION_FAILED,
        False,
        "fal-17",
    ),
    (403, json.dumps({"detail": BALANCE}), ()): (Kind.OUT_OF_CREDIT, False, "fal-17"),
    (404, '{"detail":"Path /x not found"}', ()): (Kind.REQUEST_REJECTED, False, "fal sheet 5"),
    (422, finding("missing", "Field required", "prompt"), ()): (Kind.REQUEST_REJECTED, False, "fal-4"),
    (429, '{"detail":"Too many requests"}', ()): (Kind.RATE_LIMITED, False, "fal-25"),
    (408, '{"detail":"Request Timeout"}', ()): (Kind.PROTOCOL_ERROR, True, "fal sheet 11"),
    (500, '{"detail":"Internal Server Error"}', ("x-fal-request-id",)): (Kind.UNAVAILABLE, True, "fal-8"),
    (502, NGINX, ()): (Kind.UNAVAILABLE, False, "fal-18"),
    (503, NGINX, ()): (Kind.UNAVAILABLE, False, "fal-18"),
    (502, NGINX, ("x-fal-request-id",)): (Kind.UNAVAILABLE, True, "fal-18"),
    (503, infra("runner_scheduling_failure"), ()): (Kind.UNAVAILABLE, False, "fal-18"),
    (503, infra("runner_connection_error"), ()): (Kind.UNAVAILABLE, True, "fal-18"),
    (504, infra("request_timeout"), ()): (Kind.UNAVAILABLE, True, "fal-15"),
}


class TestFal(AdapterContract):
    adapter = Fal()
    emulator = Emulator
    cassettes = Path(__file__).parents[2] / "cassettes/fal"
    headers: ClassVar = {
        "x-app-fal-disable-fallback": "fal-14: no other endpoint serves the task",
        "x-fal-no-retry": "fal-14: a failed task is not repeated",
        "x-fal-request-timeout": "fal-15: a start deadline",
    }
    ends: ClassVar = {
        "moderated": End(Moderated, maybe_charged=True, accepted=1, because="fal-16: a 422 may cost"),
        "moderated-output": End(Moderated, maybe_charged=True, accepted=1, because="fal-10: a flagged image is billed"),
        "ingress-page": End(OutcomeUnknown, maybe_charged=True, accepted=0),
        "infra-error": End(Unavailable, maybe_charged=False, accepted=1),
        "result-gone": End(ResultExpired, maybe_charged=True, accepted=1),
        "no-urls": End(None, accepted=1),
        "early-result": End(None, accepted=1),
        "result-page": End(None, accepted=1),
        "foreign-urls": End(None, accepted=1),
        "data-uri": End(None, accepted=1),
    }
    documented = (
        Documented(SUBMIT, 200, ACCEPTED, Running, "fal-20", told={"queue_position": 0, "known": True}),
        Documented(SUBMIT, 200, OLDER, Running, "fal-20", told={"known": True}),
        *(
            Documented(SUBMIT, code, body, (Refused, kind, charged), evidence, dict.fromkeys(headers, "1"))
            for (code, body, headers), (kind, charged, evidence) in REFUSED.items()
        ),
        status("IN_QUEUE", known=True),
        status("IN_PROGRESS", known=True),
        status("COMPLETED", 200, Fetch, "fal-3"),
        Documented(
            POLL,
            200,
            {"status": "COMPLETED", "request_id": "one", "error": "Request timed out", "error_type": "request_timeout"},
            Fetch,
            "fal-3",
        ),
        Documented(POLL, 404, '{"status":"NOT_FOUND"}', (Refused, Kind.JOB_NOT_FOUND), "fal-6"),
        Documented(POLL, 405, "", (Refused, Kind.PROTOCOL_ERROR), "fal-1"),
        Documented(POLL, 401, '{"detail":"Invalid token"}', (Refused, Kind.AUTHENTICATION_FAILED), "fal-17"),
        Documented(POLL, 500, '{"detail":"Internal Server Error"}', (Refused, Kind.UNAVAILABLE), "fal-8", OURS),
        Documented(POLL, 502, NGINX, (Refused, Kind.UNAVAILABLE), "fal-18"),
        fetched(
            200,
            RESULT,
            Succeeded,
            "fal-16",
            {**OURS, "X-Fal-Billable-Units": "1"},
            seed=2841475369,
            units=Decimal(1),
            flagged=(),
        ),
        fetched(200, SAMPLE, Succeeded, "fal-13", seed=None, units=None, prompt=None),
        fetched(200, DATA_URI, Succeeded, "fal-26", seed=196619188014358660),
        fetched(200, FLAGGED, Succeeded, "fal-10", outputs=(), flagged=("has_nsfw_concepts",)),
        fetched(400, '{"detail":"Request is still in progress"}', Running, "fal-5", known=True),
        fetched(404, '{"detail":"Request not found"}', (Refused, Kind.JOB_NOT_FOUND), "fal-6"),
        fetched(
            422,
            finding("content_policy_violation", CHECKER, "prompt"),
            (Failed, Kind.MODERATED, True),
            "fal-8",
            stage="input",
            reasons=(CHECKER,),
        ),
        fetched(
            422,
            finding("image_too_large", "Image too large", "image_url"),
            (Failed, Kind.REQUEST_REJECTED, False),
            "fal-16",
            {**OURS, "x-fal-billable-units": "0"},
        ),
        fetched(422, finding("no_media_generated", "None"), (Failed, Kind.GENERATION_FAILED, True), "fal-16"),
        fetched(499, infra("client_cancelled", "Cancelled"), (Failed, Kind.CANCELLED, True), "fal-7"),
        fetched(500, '{"detail":"Internal Server Error"}', (Failed, Kind.GENERATION_FAILED, False), "fal-16"),
        fetched(
            504,
            infra("request_timeout"),
            (Failed, Kind.UNAVAILABLE, False),
            "fal-15",
            {**OURS, "X-Fal-Request-Timeout-Type": "user"},
        ),
        fetched(503, infra("runner_connection_error"), (Failed, Kind.UNAVAILABLE, False), "fal-16"),
        fetched(502, NGINX, (Refused, Kind.UNAVAILABLE), "fal-18", {}),
        Documented(CANCEL, 202, '{"status":"CANCELLATION_REQUESTED"}', Cancelling, "fal-7"),
        Documented(CANCEL, 200, '{"success":true}', Cancelling, "fal-7"),
        Documented(CANCEL, 400, '{"status":"ALREADY_COMPLETED"}', (Refused, Kind.REQUEST_REJECTED), "fal-7"),
        Documented(CANCEL, 404, '{"status":"NOT_FOUND"}', (Refused, Kind.JOB_NOT_FOUND), "fal-7"),
        Documented(
            CHECK, 200, {"token": "t", "token_type": "Bearer", "base_url": "https://v3.fal.media"}, Balance, "fal-23"
        ),
        Documented(CHECK, 401, '{"detail":"Invalid token"}', (Refused, Kind.AUTHENTICATION_FAILED), "fal-17"),
    )
