"""kie's emulator against the protocol sheet over real sockets (cited as "kie sheet §4"), and clients against it."""

import asyncio
import base64
import hashlib
import inspect
import io
import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

import anykontext as ak
from anykontext.engine.policy import Policy
from anykontext.plugins import Plugin, Registry
from anykontext.sandbox import FAULTS
from anykontext.sandbox.server import ServerThread
from anykontext_kie import Kie
from anykontext_kie.emulator import Emulator
from anykontext_kie.emulator.service import OWN_FAULTS

pytestmark = pytest.mark.sandbox

REGISTRY = Registry([Plugin("kie", "", "anykontext_kie", (Kie(),))])
DAY = 24 * 60 * 60
# Verbatim payloads of kie sheet §12 (number: source).
CREATED = json.loads('{"code":200,"msg":"success","data":{"taskId":"task_flux_abc123"}}')  # 1: documentation
RECORD = json.loads(  # 3: documentation
    r'{"code":200,"msg":"success","data":{"taskId":"task12345","paramJson":"{\"prompt\":\"A serene mountain '
    r'landscape\",\"aspectRatio\":\"16:9\"}","completeTime":"2024-03-20T10:30:00Z","response":{"originImageUrl":'
    r'"https://example.com/original.jpg","resultImageUrl":"https://example.com/result.jpg"},"successFlag":1,'
    r'"errorCode":null,"errorMessage":"","createTime":"2024-03-20T10:25:00Z"}}'
)
BROKEN = json.loads(  # 8: documentation
    '{"code":500,"msg":"Server Error - An unexpected error occurred while processing the request","data":null}'
)
NO_ACCESS = {"code": 401, "msg": "You do not have access permissions"}  # 9: documentation
CREDIT = json.loads('{"code":200,"msg":"success","data":5916.25}')  # 10: recorded
WRONG_URL = json.loads('{"code":422,"msg":"url is wrong","data":null}')  # 11: recorded
NO_RECORD = json.loads('{"code":200,"msg":"success","data":null}')  # 13: recorded, of a sibling
UPLOADED = json.loads(  # 14: recorded
    '{"success":true,"code":200,"msg":"File uploaded successfully","data":{"success":true,"fileName":"test-base64.png",'
    '"filePath":"kieai/136592/images/test-uploads/test-base64.png","downloadUrl":"https://tempfile.redpandaai.co/kieai/'
    '136592/images/test-uploads/test-base64.png","fileSize":70,"mimeType":"image/png","uploadedAt":'
    '"2026-04-16T07:19:12.862Z"}}'
)
VIOLATES = "Your prompt was flagged by Website as violating content policies."  # 6: documentation
FLAGGED = "The input or output was flagged as sensitive. Please try again with different inputs."  # seen by a client
OUT_OF_RANGE = "The security tolerance level is out of range and should be 0-2 or 0-6"


def photo(width: int = 96, height: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def shape(value: Any) -> Any:
    """The keys in their order, and the types of the values."""
    if isinstance(value, dict):
        return [(key, shape(inner)) for key, inner in value.items()]
    return type(value).__name__


def ratio(data: bytes) -> float:
    with Image.open(io.BytesIO(data)) as image:
        return image.width / image.height


class Service:
    """Speaks to the emulator as a client would."""

    def __init__(self, emulator: Emulator, http: httpx.Client) -> None:
        self.emulator, self.http = emulator, http

    def call(self, method: str, path: str, *, key: str | None = "sandbox", host: str = "api", **more: Any) -> Any:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return self.http.request(method, f"{self.emulator.origins[host]}{path}", headers=headers, **more)

    def submit(self, *, key: str | None = "sandbox", **fields: Any) -> httpx.Response:
        body = {"prompt": "a cat", **fields}
        reply: httpx.Response = self.call("POST", "/api/v1/flux/kontext/generate", key=key, json=body)
        return reply

    def start(self, **fields: Any) -> str:
        return str(self.submit(**fields).json()["data"]["taskId"])

    def poll(self, task_id: str, key: str | None = "sandbox") -> httpx.Response:
        query = {"taskId": task_id}
        reply: httpx.Response = self.call("GET", "/api/v1/flux/kontext/record-info", key=key, params=query)
        return reply

    def record(self, task_id: str) -> dict[str, Any]:
        return dict(self.poll(task_id).json()["data"])

    def made(self, **fields: Any) -> dict[str, Any]:
        """The record of a task that has ended."""
        task_id = self.start(**fields)
        self.emulator.advance(self.emulator.seconds)
        return self.record(task_id)

    def picture(self, **fields: Any) -> bytes:
        return self.http.get(self.made(**fields)["response"]["resultImageUrl"]).content

    def credit(self) -> float:
        return float(self.call("GET", "/api/v1/chat/credit").json()["data"])

    def upload(self, data: bytes, *, key: str | None = "sandbox", **fields: str) -> httpx.Response:
        reply: httpx.Response = self.call(
            "POST",
            "/api/file-stream-upload",
            key=key,
            host="upload",
            data={"uploadPath": "images", **fields},
            files={"file": ("photo.jpg", data, "image/jpeg")},
        )
        return reply

    def uploaded(self, data: bytes, **fields: str) -> str:
        return str(self.upload(data, **fields).json()["data"]["downloadUrl"])

    def link(self, url: str) -> Any:
        return self.call("POST", "/api/v1/common/download-url", json={"url": url}).json()


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    server = ServerThread()
    one = Emulator(seconds=0.0)
    one.megapixels = 0.02
    one.origins = {name: server.bind(one, name) for name in one.origin_names}
    server.start()
    yield one
    server.stop()


@pytest.fixture
def kie(emulator: Emulator) -> Iterator[Service]:
    with httpx.Client(trust_env=False, timeout=10, verify=False) as http:
        yield Service(emulator, http)


# ------------------------------------------------------------------------------------------------------------- submits


def test_kie_16_a_submit_and_a_record_have_the_documented_shapes(kie: Service) -> None:
    created = kie.submit(aspectRatio="1:1")
    record = kie.poll(created.json()["data"]["taskId"])

    assert shape(CREATED) == shape(created.json())
    assert shape(RECORD) == shape(record.json())
    assert {"prompt": "a cat", "aspectRatio": "1:1"} == json.loads(record.json()["data"]["paramJson"])
    assert "application/json;charset=UTF-8" == created.headers["content-type"] == record.headers["content-type"]
    assert re.fullmatch(r"fluxkontext_[0-9a-f]{32}", created.json()["data"]["taskId"])


def test_kie_21_every_reply_of_the_api_sets_a_cookie(kie: Service) -> None:
    for reply in (kie.submit(), kie.submit(key="wrong"), kie.call("GET", "/other"), kie.poll("task12345")):
        assert reply.headers["set-cookie"].startswith("JSESSIONID=")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"prompt": ""}, 422),
        ({"prompt": None}, 422),
        ({"prompt": 7}, 422),
        ({"aspectRatio": "3:2"}, 422),
        ({"outputFormat": "jpg"}, 422),
        ({"outputFormat": "webp"}, 422),
        ({"model": "flux-kontext-dev"}, 422),
        ({"enableTranslation": "false"}, 422),
        ({"safetyTolerance": "2"}, 422),
        ({"safetyTolerance": True}, 422),
        ({"watermark": True}, 422),
        ({"callBackUrl": "hook"}, 422),
        ({"inputImage": base64.b64encode(photo()).decode()}, 422),
        ({"inputImage": "data:image/jpeg;base64," + base64.b64encode(photo()).decode()}, 422),
        ({"safetyTolerance": 7}, 500),
        ({"safetyTolerance": -1}, 500),
        ({"safetyTolerance": 3, "inputImage": "https://example.com/a.jpg"}, 500),
    ],
)
def test_kie_1_what_is_not_valid_is_refused_in_the_body_under_http_200(
    kie: Service, fields: dict[str, Any], code: int
) -> None:
    reply = kie.submit(**fields)

    assert (200, code) == (reply.status_code, reply.json()["code"])
    assert shape(BROKEN) == shape(reply.json())
    assert (0, 5916.25) == (kie.emulator.counters["accepted"], kie.emulator.credits)


@pytest.mark.parametrize("raw", [b"{", b"[]", b"", b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(kie: Service, raw: bytes) -> None:
    reply = kie.call("POST", "/api/v1/flux/kontext/generate", content=raw)

    assert (200, 422) == (reply.status_code, reply.json()["code"])


def test_kie_6_a_tolerance_out_of_range_looks_like_a_server_error(kie: Service) -> None:
    reply = kie.submit(safetyTolerance=6, inputImage="https://example.com/a.jpg").json()

    assert {"code": 500, "msg": OUT_OF_RANGE, "data": None} == reply
    assert kie.emulator.counters["safety_above_limit"] == 1
    assert kie.submit(safetyTolerance=0).json()["code"] == kie.submit(safetyTolerance=6).json()["code"] == 200


@pytest.mark.parametrize("key", [None, "wrong"])
def test_kie_1_a_bad_key_is_refused_under_http_200_by_both_hosts(kie: Service, key: str | None) -> None:
    refused = (kie.submit(key=key), kie.poll("task12345", key), kie.call("GET", "/api/v1/chat/credit", key=key))

    assert [(200, NO_ACCESS)] * 3 == [(reply.status_code, reply.json()) for reply in refused]
    assert 401 == kie.upload(photo(), key=key).json()["code"]


def test_an_unknown_path_is_a_real_404(kie: Service) -> None:
    for host in ("api", "upload"):
        reply = kie.call("GET", "/api/v1/task/1", host=host)

        assert (404, 404) == (reply.status_code, reply.json()["code"])


def test_kie_22_an_unknown_field_is_ignored_and_a_misnamed_image_makes_no_edit(kie: Service) -> None:
    url = kie.uploaded(photo())
    made = kie.picture(imageUrl=url, seed=7)

    assert ratio(made) == pytest.approx(16 / 9, abs=0.2)
    assert ([], ["imageUrl", "seed"]) == (kie.emulator.requests[0]["images"], kie.emulator.requests[0]["ignored"])
    assert kie.emulator.counters["ignored_fields"] == 2


def test_kie_8_prompts_are_translated_unless_told_not_to(kie: Service) -> None:
    kie.start()
    kie.start(enableTranslation=False)

    assert ["[translated] a cat", "a cat"] == [one["prompt"] for one in kie.emulator.requests]
    assert [{"prompt": "a cat"}, {"prompt": "a cat", "enableTranslation": False}] == [
        one["body"] for one in kie.emulator.requests
    ]


# ------------------------------------------------------------------------------------------------------------ pictures


def test_kie_7_an_edit_keeps_the_ratio_of_its_input_unless_one_is_given(kie: Service) -> None:
    url = kie.uploaded(photo(96, 96))

    assert ratio(kie.picture(inputImage=url)) == 1
    assert ratio(kie.picture(inputImage=url, aspectRatio="16:9")) == pytest.approx(16 / 9, abs=0.2)
    assert ratio(kie.picture()) == pytest.approx(16 / 9, abs=0.2)
    assert ratio(kie.picture(aspectRatio="3:4")) == pytest.approx(3 / 4, abs=0.1)


def test_an_edit_shows_its_input_and_what_arrived_is_remembered(kie: Service) -> None:
    red = io.BytesIO()
    Image.new("RGB", (96, 96), "white").save(red, "PNG")
    url = kie.uploaded(red.getvalue(), fileName="white.png")
    with Image.open(io.BytesIO(kie.picture(inputImage=url, prompt="make it red", model="flux-kontext-max"))) as image:
        colour = image.convert("RGB").getpixel((4, 4))

    assert isinstance(colour, tuple)
    assert colour[0] > colour[1] + 10
    sent = kie.emulator.requests[0]
    assert "flux-kontext-max" == sent["model"]
    assert {"prompt": "make it red"} == sent["body"]
    digest = hashlib.sha256(red.getvalue()).hexdigest()
    assert [{"field": "inputImage", "url": url, "sha256": digest}] == sent["images"]


def test_a_picture_on_another_loopback_server_is_fetched(kie: Service) -> None:
    other = kie.uploaded(photo()).replace("127.0.0.1", "localhost")
    kie.picture(inputImage=other)

    assert hashlib.sha256(photo()).hexdigest() == kie.emulator.requests[0]["images"][0]["sha256"]


def test_kie_23_the_format_is_jpeg_unless_png_is_asked_for(kie: Service) -> None:
    for fields, name in (({}, "jpeg"), ({"outputFormat": "png"}, "png")):
        url = kie.made(**fields)["response"]["resultImageUrl"]
        reply = kie.http.get(url)

        assert (True, f"image/{name}") == (url.endswith(f".{name}"), reply.headers["content-type"])
        with Image.open(io.BytesIO(reply.content)) as image:
            assert name.upper() == image.format


def test_kie_26_a_watermark_is_drawn_on_the_picture(kie: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anykontext_kie.emulator.tasks.secrets.randbits", lambda _: 7)
    plain, again = kie.picture(outputFormat="png"), kie.picture(outputFormat="png")
    marked = kie.picture(outputFormat="png", watermark="Example ©")

    assert plain == again
    assert plain != marked


@pytest.mark.parametrize(
    ("url", "flag"), [("https://example.invalid/a.jpg", 2), ("{media}/other.jpg", 2), ("{no picture}", 3)]
)
def test_kie_3_a_bad_input_is_accepted_and_shows_at_the_poll(kie: Service, url: str, flag: int) -> None:
    there = {"{no picture}": kie.uploaded(b"no picture")}.get(url, url)
    record = kie.made(inputImage=there.replace("{media}", kie.emulator.origins["media"]))

    assert (flag, None) == (record["successFlag"], record["response"])
    assert record["errorMessage"]


# --------------------------------------------------------------------------------------------------------------- polls


def test_a_task_runs_until_its_time_has_come(kie: Service) -> None:
    kie.emulator.seconds = 1000
    task_id = kie.start()
    running = kie.record(task_id)
    kie.emulator.advance(1000)
    done = kie.record(task_id)

    assert (0, None, None, "") == tuple(
        running[name] for name in ("successFlag", "response", "completeTime", "errorMessage")
    )
    assert (1, running["createTime"]) == (done["successFlag"], done["createTime"])
    assert done == kie.record(task_id)


def test_kie_2_an_unknown_task_is_a_success_without_a_record(kie: Service) -> None:
    reply = kie.poll("task12345")

    assert (200, NO_RECORD) == (reply.status_code, reply.json())


def test_a_task_of_another_account_is_unknown(kie: Service) -> None:
    task_id = kie.start(key="sandbox:sandbox")

    assert NO_RECORD == kie.poll(task_id, key="sandbox").json()
    assert 1 == kie.poll(task_id, key="sandbox:sandbox").json()["data"]["successFlag"]


def test_a_poll_without_a_task_is_refused(kie: Service) -> None:
    assert 422 == kie.call("GET", "/api/v1/flux/kontext/record-info").json()["code"]


def test_kie_2_a_task_may_not_be_visible_yet(kie: Service) -> None:
    kie.emulator.inject("not-visible-yet")
    task_id = kie.start()

    assert [True, True, False] == [kie.poll(task_id).json()["data"] is None for _ in range(3)]


@pytest.mark.parametrize(
    ("fault", "flag", "words"),
    [
        ("moderated", 3, VIOLATES),
        ("moderated-output", 3, FLAGGED),
        ("failed", 3, "Image generation task failed"),
        ("create-failed", 2, ""),
    ],
)
def test_kie_4_5_a_failed_task_is_told_by_its_flag_and_words(kie: Service, fault: str, flag: int, words: str) -> None:
    kie.emulator.inject(fault, times=1)
    record = kie.made()

    assert (flag, words, None, None) == tuple(
        record[name] for name in ("successFlag", "errorMessage", "errorCode", "response")
    )
    assert kie.credit() == (5916.25 if flag == 2 else 5911.25)  # kie-18
    assert kie.made()["successFlag"] == 1


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ("envelope-501", 501, "Image generation task failed"),
        ("envelope-408", 408, "Upstream is currently experiencing service issues."),
        ("moderated-400-poll", 400, VIOLATES),
    ],
)
def test_kie_4_a_failed_task_may_be_a_code_instead_of_a_record(kie: Service, fault: str, code: int, words: str) -> None:
    kie.emulator.inject(fault, times=1)
    task_id = kie.start()

    for _ in range(2):
        reply = kie.poll(task_id)
        assert (200, code, None) == (reply.status_code, reply.json()["code"], reply.json()["data"])
        assert reply.json()["msg"].startswith(words)


@pytest.mark.parametrize(("fault", "flag"), [("unknown-status", 7), ("never-ends", 0)])
def test_a_stalled_task_ends_when_the_fault_is_cleared(kie: Service, fault: str, flag: int) -> None:
    kie.emulator.inject(fault)
    task_id = kie.start()
    assert kie.record(task_id)["successFlag"] == flag
    kie.emulator.clear()

    assert kie.record(task_id)["successFlag"] == 1


def test_kie_1_poll_errors_come_in_turn_and_then_all_is_well(kie: Service) -> None:
    kie.emulator.inject("poll-errors")
    task_id = kie.start()
    first, second, third = (kie.poll(task_id) for _ in range(3))
    with pytest.raises(httpx.ReadError):
        kie.poll(task_id)
    fifth, sixth, seventh = (kie.poll(task_id) for _ in range(3))

    assert (500, BROKEN) == (first.status_code, first.json())
    assert [502, 200] == [second.status_code, third.status_code]
    assert "<html>" in second.text
    assert "<html>" in third.text
    assert [(200, 429), (200, 455)] == [(one.status_code, one.json()["code"]) for one in (fifth, sixth)]
    assert (200, b"") == (seventh.status_code, seventh.content)
    assert kie.record(task_id)["successFlag"] == 1


def test_kie_13_times_come_in_three_forms(kie: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = datetime(2026, 1, 6, 0, 17, 4, tzinfo=UTC).timestamp()
    monkeypatch.setattr(kie.emulator, "now", lambda: moment)
    task_id = kie.start()
    found = [kie.record(task_id)]
    for fault in ("naive-times", "epoch-times"):
        kie.emulator.inject(fault)
        found.append(kie.record(task_id))
        kie.emulator.clear()

    expected = ["2026-01-06T00:17:04Z", "2026-01-06 08:17:04", 1767658624000]
    assert expected == [record["completeTime"] for record in found] == [record["createTime"] for record in found]


@pytest.mark.parametrize(
    ("fault", "field", "value"),
    [
        ("flag-as-string", "successFlag", "1"),
        ("error-code-zero", "errorCode", 0),
        ("null-texts", "errorCode", "null"),
        ("null-texts", "errorMessage", "null"),
    ],
)
def test_kie_14_a_record_that_is_no_failure_may_look_odd(kie: Service, fault: str, field: str, value: Any) -> None:
    kie.emulator.inject(fault)
    record = kie.made()

    assert value == record[field]
    assert record["response"]["resultImageUrl"]


@pytest.mark.parametrize(
    ("fault", "gone", "left"),
    [
        ("no-result-url", "resultImageUrl", "originImageUrl"),
        ("no-origin-url", "originImageUrl", "resultImageUrl"),
    ],
)
def test_kie_12_a_success_may_lack_either_url(kie: Service, fault: str, gone: str, left: str) -> None:
    kie.emulator.inject(fault)
    response = kie.made()["response"]

    assert response[gone] is None
    assert response[left].startswith(kie.emulator.origins["media"])


# --------------------------------------------------------------------------------------------------- money and limits


def test_kie_19_the_balance_is_a_bare_number_that_falls_by_the_price(kie: Service) -> None:
    assert CREDIT == kie.call("GET", "/api/v1/chat/credit").json()
    kie.start()
    kie.start(model="flux-kontext-max")

    assert kie.credit() == 5916.25 - 5 - 10


def test_an_empty_account_is_refused(kie: Service) -> None:
    kie.emulator.credits = 5.5

    assert [402, 200, 402] == [
        kie.submit(model=f"flux-kontext-{name}").json()["code"] for name in ("max", "pro", "pro")
    ]


def test_kie_11_twenty_submits_in_ten_seconds_are_the_most(kie: Service) -> None:
    assert [200] * 20 + [429] == [kie.submit().json()["code"] for _ in range(21)]
    assert 200 == kie.submit(key="sandbox:sandbox").json()["code"]
    kie.emulator.advance(10)

    assert 200 == kie.submit().json()["code"]


def test_kie_11_a_hundred_running_tasks_are_the_most(kie: Service) -> None:
    kie.emulator.seconds = 1000
    kie.emulator.inject("failed")  # so that no picture is drawn
    for _ in range(5):
        assert [200] * 20 == [kie.submit().json()["code"] for _ in range(20)]
        kie.emulator.advance(11)
    assert 429 == kie.submit().json()["code"]
    kie.emulator.advance(1000)

    assert 200 == kie.submit().json()["code"]


# ------------------------------------------------------------------------------------------------- faults of a submit


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("outage", 200, 455),
        ("server-error", 500, 500),
        ("rate-limited", 200, 429),
        ("http-429", 429, 429),
        ("out-of-credit", 200, 402),
        ("bad-key", 200, 401),
        ("moderated-400", 200, 400),
    ],
)
def test_kie_1_17_a_refused_submit_accepts_nothing(kie: Service, fault: str, status: int, code: int) -> None:
    kie.emulator.inject(fault, times=1)
    reply = kie.submit()

    assert (status, code) == (reply.status_code, reply.json()["code"])
    assert ("retry-after" in reply.headers) is (fault == "http-429")
    assert (1, 0) == (kie.emulator.counters["submits"], kie.emulator.counters["accepted"])
    assert kie.submit().json()["code"] == 200


def test_an_empty_account_shows_in_its_balance(kie: Service) -> None:
    kie.emulator.inject("out-of-credit")

    assert kie.credit() == 0


def test_a_lost_submit_was_accepted_and_paid(kie: Service) -> None:
    kie.emulator.inject("submit-lost", times=1)
    with pytest.raises(httpx.ReadError):
        kie.submit()

    assert (1, 5911.25) == (kie.emulator.counters["accepted"], kie.credit())


def test_a_gateway_page_hides_an_accepted_submit(kie: Service) -> None:
    kie.emulator.inject("gateway-page", times=1)
    reply = kie.submit()

    assert (502, 1) == (reply.status_code, kie.emulator.counters["accepted"])
    assert reply.headers["content-type"].startswith("text/html")


def test_a_slow_submit_answers_in_the_end(kie: Service) -> None:
    kie.emulator.slow_seconds = 0.1
    kie.emulator.inject("submit-slow", times=1)
    began = time.monotonic()

    assert kie.start()
    assert time.monotonic() - began >= 0.1


# ------------------------------------------------------------------------------------------------------------- uploads


def test_kie_25_an_upload_has_the_recorded_shape(kie: Service) -> None:
    reply = kie.upload(photo(), fileName="one.jpg", uploadPath="images/test")
    found = reply.json()["data"]

    assert (200, shape(UPLOADED)) == (reply.status_code, shape(reply.json()))
    assert re.fullmatch(r"kieai/\d{6}/images/test/one\.jpg", found["filePath"])
    assert f"{kie.emulator.origins['media']}/{found['filePath']}" == found["downloadUrl"]
    assert (len(photo()), "image/jpeg") == (found["fileSize"], found["mimeType"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["uploadedAt"])
    assert photo() == kie.http.get(found["downloadUrl"]).content


@pytest.mark.parametrize("data", [b"", b"\r\n", b"--\r\n\r\n--", bytes(range(256)) * 3, b"\n" * 9 + b"\r"])
def test_a_form_carries_any_bytes(kie: Service, data: bytes) -> None:
    assert data == kie.http.get(kie.uploaded(data, fileName="any.bin")).content


def test_a_file_that_is_no_picture_is_taken_too(kie: Service) -> None:
    assert "text/plain" == kie.upload(b"words", fileName="test.txt").json()["data"]["mimeType"]


def test_without_a_name_a_file_gets_one(kie: Service) -> None:
    names = {kie.upload(photo()).json()["data"]["fileName"] for _ in range(2)}

    assert len(names) == 2
    assert all(re.fullmatch(r"\d{13}-\w+\.jpg", name) for name in names)


@pytest.mark.parametrize("head", ["", "data:image/png;base64,"])
def test_a_file_may_come_as_base64(kie: Service, head: str) -> None:
    fields = {"base64Data": head + base64.b64encode(photo()).decode(), "uploadPath": "images", "fileName": "a.png"}
    reply = kie.call("POST", "/api/file-base64-upload", host="upload", json=fields).json()

    assert shape(UPLOADED) == shape(reply)
    assert photo() == kie.http.get(reply["data"]["downloadUrl"]).content


def test_a_file_may_be_fetched_from_a_url(kie: Service) -> None:
    for there in (kie.uploaded(photo()), kie.uploaded(photo()).replace("127.0.0.1", "localhost")):
        fields = {"fileUrl": there, "uploadPath": "images"}
        reply = kie.call("POST", "/api/file-url-upload", host="upload", json=fields).json()

        assert photo() == kie.http.get(reply["data"]["downloadUrl"]).content


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("file-base64-upload", {"base64Data": "!", "uploadPath": "images"}),
        ("file-base64-upload", {"uploadPath": "images"}),
        ("file-base64-upload", {"base64Data": "YWJj"}),
        ("file-base64-upload", {"base64Data": "YWJj", "uploadPath": "/images"}),
        ("file-base64-upload", {"base64Data": "YWJj", "uploadPath": "images/"}),
        ("file-base64-upload", {"base64Data": "YWJj", "uploadPath": "a/../b"}),
        ("file-base64-upload", {"base64Data": "YWJj", "uploadPath": "images", "fileName": "a/b.jpg"}),
        ("file-base64-upload", []),
        ("file-url-upload", {"fileUrl": "https://example.com/a.jpg", "uploadPath": "images"}),
        ("file-stream-upload", {"uploadPath": "images"}),
    ],
)
def test_an_upload_that_is_not_valid_is_refused_in_its_body(kie: Service, path: str, fields: Any) -> None:
    reply = kie.call("POST", f"/api/{path}", host="upload", json=fields)

    assert (200, 400) == (reply.status_code, reply.json()["code"])
    assert ["success", "code", "msg", "data"] == list(reply.json())


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("multipart/form-data", b"--x--\r\n"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"--x--\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nno name\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\ntorn'),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\n\r\n--x--'),
    ],
)
def test_a_torn_form_is_refused(kie: Service, head: str, body: bytes) -> None:
    url = f"{kie.emulator.origins['upload']}/api/file-stream-upload"
    reply = kie.http.post(url, content=body, headers={"Content-Type": head, "Authorization": "Bearer sandbox"})

    assert 400 == reply.json()["code"]


def test_kie_25_the_same_name_overwrites_and_caches_keep_the_old_file_for_a_while(kie: Service) -> None:
    old, new = photo(96, 96), photo(64, 96)
    url = kie.uploaded(old, fileName="one.jpg")

    assert url == kie.uploaded(new, fileName="one.jpg")
    assert 1 == kie.emulator.counters["overwrites"]
    assert old == kie.http.get(url).content
    kie.emulator.advance(600)
    assert new == kie.http.get(url).content


def test_the_files_of_two_accounts_do_not_mix(kie: Service) -> None:
    one = kie.uploaded(photo(), fileName="one.jpg")
    other = kie.upload(photo(), key="sandbox:sandbox", fileName="one.jpg").json()["data"]["downloadUrl"]

    assert one != other
    assert 0 == kie.emulator.counters["overwrites"]


def test_a_refused_upload_keeps_nothing(kie: Service) -> None:
    kie.emulator.inject("upload-refused", times=1)
    refused = kie.upload(photo(), fileName="one.jpg")
    kie.emulator.inject("upload-down", times=1)
    down = kie.upload(photo(), fileName="one.jpg")
    kie.uploaded(photo(), fileName="one.jpg")

    assert (200, 400, False) == (refused.status_code, refused.json()["code"], refused.json()["success"])
    assert (503, True) == (down.status_code, down.headers["content-type"].startswith("text/html"))
    assert (3, 0) == (kie.emulator.counters["uploads"], kie.emulator.counters["overwrites"])


def test_a_lost_upload_was_kept(kie: Service) -> None:
    kie.emulator.inject("upload-lost", times=1)
    with pytest.raises(httpx.ReadError):
        kie.upload(photo(), fileName="one.jpg")
    kie.upload(photo(), fileName="one.jpg")

    assert 1 == kie.emulator.counters["overwrites"]


# --------------------------------------------------------------------------------------------------------------- files


def test_kie_9_12_21_files_live_as_long_as_documented(kie: Service) -> None:
    uploaded = kie.uploaded(photo())
    response = kie.made()["response"]
    link = kie.link(response["resultImageUrl"])["data"]
    lives = {
        response["originImageUrl"]: 600,
        link: 1200,
        uploaded: 3 * DAY,
        response["resultImageUrl"]: 14 * DAY,
    }
    assert [200] * 4 == [kie.http.get(url).status_code for url in lives]
    passed = 0
    for url, life in lives.items():
        kie.emulator.advance(life - passed - 10)
        assert 200 == kie.http.get(url).status_code
        kie.emulator.advance(10)
        assert 404 == kie.http.get(url).status_code
        passed = life


def test_kie_3_an_upload_that_has_expired_fails_the_task(kie: Service) -> None:
    url = kie.uploaded(photo())
    kie.emulator.advance(3 * DAY)

    assert kie.made(inputImage=url)["successFlag"] == 2


def test_a_download_link_is_made_of_results_only(kie: Service) -> None:
    result = kie.made()["response"]["resultImageUrl"]
    link = kie.link(result)

    assert kie.http.get(result).content == kie.http.get(link["data"]).content
    assert [WRONG_URL] * 3 == [kie.link(url) for url in ("https://example.com/a.jpg", kie.uploaded(photo()), "")]
    assert WRONG_URL == kie.call("POST", "/api/v1/common/download-url", content=b"{").json()


def test_kie_21_a_key_at_a_file_host_is_counted(kie: Service) -> None:
    url = kie.made()["response"]["resultImageUrl"]
    kie.http.get(url)
    assert 0 == kie.emulator.counters["key_leaks"]
    kie.http.get(url, headers={"Authorization": "Bearer sandbox"})

    assert (2, 1) == (kie.emulator.counters["downloads"], kie.emulator.counters["key_leaks"])


def test_an_expired_result_is_gone_for_good(kie: Service) -> None:
    kie.emulator.inject("expired-url")
    task_id = kie.start()
    url = kie.record(task_id)["response"]["resultImageUrl"]

    assert (404, url) == (kie.http.get(url).status_code, kie.record(task_id)["response"]["resultImageUrl"])


@pytest.mark.parametrize("fault", ["truncated-image", "not-an-image", "pixel-bomb", "gzip-bomb"])
def test_a_result_may_come_spoilt(kie: Service, fault: str) -> None:
    url = kie.made()["response"]["resultImageUrl"]
    good = kie.http.get(url).content
    kie.emulator.inject(fault, times=1)

    assert good != kie.http.get(url).content
    assert good == kie.http.get(url).content


# ---------------------------------------------------------------------------------------------- the clients against it


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The patience of the engine, in tenths of a second; what it is patient with stays."""
    monkeypatch.setenv("ANYKONTEXT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("anykontext.client.options.Policy", partial(Policy, submit_grace_s=0.2))
    monkeypatch.setattr("anykontext.engine.submit.FIRST_REPEAT_S", 0.02)
    monkeypatch.setattr("anykontext.engine.submit.PATIENCE_S", 0.1)
    monkeypatch.setattr("anykontext.engine.upload.FIRST_REPEAT_S", 0.02)
    monkeypatch.setattr("anykontext.engine.upload.PATIENCE_S", 0.1)
    monkeypatch.setattr("anykontext.engine.pace.WAIT_MAX_S", 0.05)


class Twin:
    """A client of either kind; each call blocks."""

    def __init__(self, kind: str, emulator: Emulator, **settings: Any) -> None:
        config = ak.Config(providers={"kie": {**emulator.config(), "poll_interval_s": 0.02, **settings}})
        make: Any = {"Client": ak.Client, "AsyncClient": ak.AsyncClient}[kind]
        self.client: Any = make(config, registry=REGISTRY)
        self._runner = asyncio.Runner()

    def wait(self, outcome: Any) -> Any:
        return self._runner.run(outcome) if inspect.iscoroutine(outcome) else outcome

    def edit(self, image: Any = None, **options: Any) -> ak.ImageResult:
        image = photo() if image is None else image
        return self.wait(self.client.edit(image, "make it blue", **options))  # type: ignore[no-any-return]

    def generate(self, **options: Any) -> ak.ImageResult:
        return self.wait(self.client.generate("a cat", **options))  # type: ignore[no-any-return]

    def close(self) -> None:
        self.wait(self.client.close())
        self._runner.close()


@pytest.fixture(params=["Client", "AsyncClient"])
def twin(request: pytest.FixtureRequest, emulator: Emulator) -> Iterator[Twin]:
    one = Twin(request.param, emulator)
    yield one
    one.close()


def test_a_client_generates(twin: Twin, emulator: Emulator) -> None:
    result = twin.generate(aspect_ratio="4:3", output_format="png", safety_tolerance=6, watermark="mine")

    assert ratio(result.image.data) == pytest.approx(4 / 3, abs=0.1)
    assert ("image/png", "kie", "generate") == (result.image.media_type, result.provider, result.mode)
    assert result.job is not None
    counters = emulator.counters
    assert (1, 0, 0) == (counters["submits"], counters["ignored_fields"], counters["key_leaks"])


def test_kie_8_a_client_does_not_let_prompts_be_translated(twin: Twin, emulator: Emulator) -> None:
    twin.generate()
    twin.generate(translate_prompt=True)

    assert ["a cat", "[translated] a cat"] == [one["prompt"] for one in emulator.requests]


def test_a_client_edits_a_picture_that_has_a_url(twin: Twin, kie: Service) -> None:
    url = kie.uploaded(photo())
    result = twin.edit(url)

    assert (1.5, "edit") == (pytest.approx(ratio(result.image.data), abs=0.1), result.mode)  # kie-7
    assert hashlib.sha256(photo()).hexdigest() == kie.emulator.requests[0]["images"][0]["sha256"]
    assert 0 == kie.emulator.counters["key_leaks"]


def test_kie_9_a_client_uploads_a_picture_of_its_own(twin: Twin, emulator: Emulator) -> None:
    result = twin.edit()
    sent = emulator.requests[0]["images"][0]

    assert ratio(result.image.data) == pytest.approx(1.5, abs=0.1)
    assert sent["url"].startswith(f"{emulator.origins['media']}/kieai/")
    assert hashlib.sha256(photo()).hexdigest() == sent["sha256"]
    counters = emulator.counters
    assert (1, 1, 0, 0) == (*(counters["uploads"], counters["submits"], counters["overwrites"], counters["key_leaks"]),)


def test_kie_19_a_client_checks_its_key_and_balance(twin: Twin, emulator: Emulator) -> None:
    (good,) = twin.wait(twin.client.check())
    emulator.inject("bad-key")
    (bad,) = twin.wait(twin.client.check())

    assert ("ok", "refused") == (good.key, bad.key)
    assert 0 == emulator.counters["submits"]


# fault: class, whether it may be charged, how often the submit is sent (None: as often as patience allows)
ENDS: dict[str, tuple[type[ak.ProviderError], bool, int | None]] = {
    "moderated": (ak.Moderated, True, 1),
    "moderated-output": (ak.Moderated, True, 1),
    "failed": (ak.GenerationFailed, True, 1),
    "outage": (ak.Unavailable, False, None),
    "server-error": (ak.OutcomeUnknown, True, 1),
    "gateway-page": (ak.OutcomeUnknown, True, 1),
    "rate-limited": (ak.RateLimited, False, None),
    "out-of-credit": (ak.OutOfCredit, False, 1),
    "bad-key": (ak.AuthenticationFailed, False, 1),
    "submit-lost": (ak.OutcomeUnknown, True, 1),
    "unknown-status": (ak.DeadlineExceeded, True, 1),
    "never-ends": (ak.DeadlineExceeded, True, 1),
    "expired-url": (ak.ResultExpired, True, 1),
    "truncated-image": (ak.ProtocolError, True, 1),
    "not-an-image": (ak.ProtocolError, True, 1),
    # of kie's own
    "create-failed": (ak.GenerationFailed, False, 1),
    "envelope-408": (ak.GenerationFailed, True, 1),
    "envelope-501": (ak.GenerationFailed, True, 1),
    "http-429": (ak.RateLimited, False, None),
    "moderated-400": (ak.Moderated, False, 1),
    "moderated-400-poll": (ak.Moderated, True, 1),
    "no-result-url": (ak.ProtocolError, True, 1),
    "pixel-bomb": (ak.ProtocolError, True, 1),
}
GOOD = {
    *("submit-slow", "poll-errors", "epoch-times", "error-code-zero", "flag-as-string", "naive-times"),
    *("no-origin-url", "not-visible-yet", "null-texts"),
}
OF_UPLOADS: dict[str, type[ak.ProviderError]] = {
    "upload-down": ak.Unavailable,
    "upload-lost": ak.Unavailable,
    "upload-refused": ak.RequestRejected,
}
OF_DOWNLOADS = {"gzip-bomb", "oversize-image", "slow-drip"}  # tests/io has them all
STALLS = {"unknown-status", "never-ends"}


def test_every_fault_is_in_the_tables() -> None:
    assert set(ENDS) | GOOD | set(OF_UPLOADS) | OF_DOWNLOADS == set(Emulator.known_faults())
    assert set(FAULTS) | set(OWN_FAULTS) <= set(ENDS) | GOOD | set(OF_UPLOADS)


@pytest.mark.parametrize("fault", ENDS)
def test_kie_1_4_5_17_18_a_fault_ends_in_its_error(twin: Twin, emulator: Emulator, fault: str) -> None:
    error, charged, submits = ENDS[fault]
    emulator.inject(fault)
    with pytest.raises(ak.ProviderError) as caught:
        twin.generate(deadline=0.3 if fault in STALLS else 10)

    assert error is type(caught.value)
    assert charged is caught.value.maybe_charged
    assert [(caught.value.kind, charged)] == [(one.outcome, one.maybe_charged) for one in caught.value.attempts]
    if submits is not None:
        assert submits == emulator.counters["submits"]


@pytest.mark.parametrize("fault", sorted(GOOD))
def test_kie_2_13_14_a_fault_that_is_none_ends_well(twin: Twin, emulator: Emulator, fault: str) -> None:
    emulator.slow_seconds = 0.2
    emulator.inject(fault)

    assert twin.generate().images
    assert emulator.counters["submits"] == 1


@pytest.mark.parametrize("fault", OF_UPLOADS)
def test_kie_9_a_fault_of_an_upload_submits_nothing(twin: Twin, emulator: Emulator, fault: str) -> None:
    emulator.inject(fault)
    with pytest.raises(ak.ProviderError) as caught:
        twin.edit(deadline=10)

    assert (OF_UPLOADS[fault], False) == (type(caught.value), caught.value.maybe_charged)
    assert emulator.counters["submits"] == 0


@pytest.mark.parametrize("fault", ["upload-down", "upload-lost"])
def test_kie_9_an_upload_that_went_wrong_once_is_sent_again(twin: Twin, emulator: Emulator, fault: str) -> None:
    emulator.inject(fault, times=1)
    twin.edit(deadline=10)

    assert (2, 1) == (emulator.counters["uploads"], emulator.counters["submits"])
    assert hashlib.sha256(photo()).hexdigest() == emulator.requests[0]["images"][0]["sha256"]


@pytest.mark.parametrize(("fault", "stage"), [("moderated", "input"), ("moderated-output", "unknown")])
def test_kie_5_a_moderated_error_tells_the_providers_words(
    twin: Twin, emulator: Emulator, fault: str, stage: str
) -> None:
    emulator.inject(fault)
    with pytest.raises(ak.Moderated) as caught:
        twin.generate()

    words = {"moderated": VIOLATES, "moderated-output": FLAGGED}[fault]
    assert (stage, (words,)) == (caught.value.stage, caught.value.reasons)


def test_kie_3_a_client_learns_of_a_bad_input_at_the_poll(twin: Twin, emulator: Emulator) -> None:
    with pytest.raises(ak.GenerationFailed, match="could not be downloaded"):
        twin.edit(f"{emulator.origins['media']}/kieai/other.jpg")

    assert emulator.counters["accepted"] == 1
