# ruff: noqa: E501 - payloads stand here letter for letter
"""Black Forest Labs keeps the contract."""

from decimal import Decimal
from pathlib import Path
from typing import ClassVar

from anykontext.adapting import Balance, Failed, Kind, Purpose, Refused, Running, Succeeded
from anykontext.model.errors import Unavailable
from anykontext.testing import AdapterContract, Documented, End
from anykontext_bfl import Bfl
from anykontext_bfl.emulator import Emulator

SUBMIT, POLL, CHECK = Purpose.SUBMIT, Purpose.POLL, Purpose.CHECK
REFUSED = {  # (status, body) -> kind, whether a submit may be charged, evidence
    (400, '{"detail":"Finetune not found or not ready"}'): (Kind.REQUEST_REJECTED, False, "bfl sheet 7"),
    (401, '{"detail":"Not authenticated"}'): (Kind.AUTHENTICATION_FAILED, False, "bfl-14"),
    (402, '{"detail":"Insufficient credits"}'): (Kind.OUT_OF_CREDIT, False, "bfl-10"),
    (403, '{"detail":"Not authenticated - Invalid Authentication"}'): (Kind.AUTHENTICATION_FAILED, False, "bfl-14"),
    (404, '{"detail":"Not Found"}'): (Kind.REQUEST_REJECTED, False, "bfl sheet 10.16"),
    (422, '{"detail":"Invalid API key format"}'): (Kind.AUTHENTICATION_FAILED, False, "bfl-14"),
    (
        422,
        '{"detail":[{"type":"less_than_equal","loc":["body","upscale_factor"],"msg":"Input should be less than or equal to 3","input":5,"ctx":{"le":3.0}}]}',
    ): (Kind.REQUEST_REJECTED, False, "bfl-12"),
    (
        422,
        '{"detail":[{"type":"missing","loc":["body","input_video"],"msg":"Field required","input":{"upscale_factor":2}}]}',
    ): (Kind.REQUEST_REJECTED, False, "bfl-12"),
    (429, '{"detail":"Too many active tasks"}'): (Kind.RATE_LIMITED, False, "bfl-11"),
    (429, '{"message":"Too many requests"}'): (Kind.RATE_LIMITED, False, "a gateway in between [INF]"),
    (500, '{"detail":"Internal Server Error"}'): (Kind.UNAVAILABLE, False, "bfl-16"),
    (503, '{"detail":"Service Unavailable"}'): (Kind.UNAVAILABLE, False, "bfl-16"),
    (502, '{"detail":"Bad Gateway"}'): (Kind.UNAVAILABLE, True, "bfl-16"),
    (504, '{"detail":"Gateway Timeout"}'): (Kind.UNAVAILABLE, True, "bfl-16"),
    (502, "<html>Bad Gateway</html>"): (Kind.PROTOCOL_ERROR, True, "bfl-16"),
}
SAMPLE = "https://bfldeliveryprodeu4.blob.core.windows.net/results/8e/3470338ce49379/8ce49379183c4d1eaf3900e161a9839e/sample.jpeg?se=2025-12-18T15%3A49%3A07Z&sp=r&sv=2024-11-04&sr=b&rsct=image/jpeg&sig=TCGRVM3fn0TzwZwvuRPy5uRe2ySXpdoQgJJebQcaINw%3D"
DETAILS = '{"id":"one","status":"Content Moderated","details":'


def polled(status: int, body: str, means: object, evidence: str, **told: object) -> Documented:
    return Documented(POLL, status, body, means, evidence, told=told)


def moderated(body: str, stage: str, *reasons: str) -> Documented:
    return polled(200, body, (Failed, Kind.MODERATED, False), "bfl-9", stage=stage, reasons=reasons)


class TestBfl(AdapterContract):
    adapter = Bfl()
    emulator = Emulator
    cassettes = Path(__file__).parents[2] / "cassettes/bfl"
    ends: ClassVar = {
        "server-error": End(Unavailable, maybe_charged=False, because="bfl-16: a 500 is documented as not accepted"),
    }
    documented = (
        Documented(
            SUBMIT,
            200,
            '{"id":"4ca5b657-4b04-4afc-9c4b-7445c578d324","polling_url":"https://api.eu4.bfl.ai/v1/get_result?id=4ca5b657-4b04-4afc-9c4b-7445c578d324","cost":null,"input_mp":null,"output_mp":null}',
            Running,
            "bfl-1",
            told={"known": True},
        ),
        Documented(
            SUBMIT,
            200,
            '{"id":"378156bf-1aa0-4419-afde-e5f1b98ac7a9","polling_url":"https://api.us1.bfl.ai/v1/get_result?id=378156bf-1aa0-4419-afde-e5f1b98ac7a9"}',
            Running,
            "bfl sheet 10.1",
        ),
        Documented(
            SUBMIT,
            200,
            '{"id":"one","status":"Pending","webhook_url":"https://example.com/","cost":null,"input_mp":null,"output_mp":null}',
            Running,
            "bfl-2",
        ),
        *(
            Documented(SUBMIT, status, body, (Refused, kind, charged), evidence)
            for (status, body), (kind, charged, evidence) in REFUSED.items()
        ),
        polled(
            200,
            '{"id":"4ca5b657-4b04-4afc-9c4b-7445c578d324","status":"Pending","result":null,"progress":0.1,"details":null,"preview":null}',
            Running,
            "bfl-5",
            progress=0.1,
        ),
        polled(
            200,
            '{"id":"378156bf-1aa0-4419-afde-e5f1b98ac7a9","status":"Pending","result":null,"progress":1.0,"details":null}',
            Running,
            "bfl sheet 10.6",
            progress=1.0,
        ),
        polled(200, '{"id":"one","status":"Reasoning","result":null}', Running, "bfl-5", known=True),
        polled(200, '{"id":"one","status":"Generating","result":null}', Running, "bfl-5", known=True),
        polled(503, '{"id":"one","status":"Pending","result":null}', Running, "bfl-7", known=True),
        polled(
            200,
            '{"id":"4ca5b657-4b04-4afc-9c4b-7445c578d324","status":"Ready","result":{"sample":"'
            + SAMPLE
            + '","prompt":"...","seed":42,"start_time":1766072345.188173,"end_time":1766072347.676069,"duration":2.487895965576172},"progress":null,"details":null,"preview":null}',
            Succeeded,
            "bfl-13",
            seed=42,
            prompt="...",
            cost_usd=None,
        ),
        polled(
            200,
            '{"id":"7b32ef80-...","status":"Ready","result":{"sample":"https://delivery.ice.bfl.ai/ephemeral/.../result.mp4?se=2026-08-19T00%3A01%3A21Z&sig=...","duration":45.17,"prompt":"Upscale and enhance: ","seed":3744260447},"progress":null,"details":null,"preview":null,"cost":74.0}',
            Succeeded,
            "bfl-8",
            seed=3744260447,
            cost_usd=Decimal("0.74"),
        ),
        polled(200, '{"id":"one","status":"Ready","result":null}', (Refused, Kind.PROTOCOL_ERROR), "bfl sheet 5"),
        moderated(
            '{"id":"fe7256d1-50d9-4663-8592-85eaf002e80c","status":"Request Moderated","result":null,"progress":null,"details":{"Moderation Reasons":["Derivative Works Filter"]},"preview":null}',
            "input",
            "Derivative Works Filter",
        ),
        moderated('{"id":"your-task-id","status":"Request Moderated","result":null}', "input"),
        moderated(DETAILS + '{"Moderation Reasons":["Sexual Content","NSFW"]}}', "output", "Sexual Content", "NSFW"),
        moderated(DETAILS + '"NSFW"}', "output", "NSFW"),
        moderated(DETAILS + "null}", "output"),
        polled(
            422,
            '{"id":"one","status":"Error","details":{"error":"Invalid or corrupted image input"}}',
            (Failed, Kind.GENERATION_FAILED, False),
            "bfl-7",
            message="Invalid or corrupted image input",
        ),
        polled(
            200, '{"id":"one","status":"Error","result":null}', (Failed, Kind.GENERATION_FAILED, False), "bfl sheet 5"
        ),
        polled(404, '{"id":"...","status":"Task not found","result":null}', (Refused, Kind.JOB_NOT_FOUND), "bfl-6"),
        polled(403, '{"detail":"Not authenticated"}', (Refused, Kind.AUTHENTICATION_FAILED), "bfl-14"),
        polled(503, '{"detail":"Service Unavailable"}', (Refused, Kind.UNAVAILABLE), "bfl-16"),
        Documented(CHECK, 200, '{"credits": 1234}', Balance, "bfl-22", told={"amount": Decimal(1234)}),
        Documented(
            CHECK,
            403,
            '{"detail":"Not authenticated - Invalid Authentication"}',
            (Refused, Kind.AUTHENTICATION_FAILED),
            "bfl-14",
        ),
    )
