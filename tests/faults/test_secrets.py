"""The key is in no error, event, handle, result and log record of any library, whatever the provider sends back."""

import base64

import pytest

import anykontext as ak

from .conftest import KEY, Ask
from .server import CLOSE, SIGNATURE, TASK, FaultServer, Step, reply

ECHO = f"Invalid key {KEY}, sent as x-key: {KEY}"

ECHOES: dict[str, tuple[str, tuple[Step, ...]]] = {
    "in_a_403": ("POST", (reply({"detail": ECHO}, status="403 Forbidden"),)),
    "in_a_422_with_the_whole_body": ("POST", (reply({"detail": [{"msg": ECHO, "input": KEY}]}, status="422 No"),)),
    "in_a_page": ("POST", (reply(f"<html>{ECHO}</html>".encode(), status="502 Bad Gateway"),)),
    "in_a_503_of_its_own": ("POST", (reply({"detail": ECHO}, "Retry-After: 9", status="503 Unavailable"),)),
    "in_the_task_id": ("POST", (reply({"id": KEY, "polling_url": f"http://127.0.0.1:1/?id={KEY}"}),)),
    "in_a_torn_reply": ("POST", (reply(ECHO.encode(), length=5000), CLOSE)),
    "in_a_status_word": ("GET /v1", (reply({"id": TASK, "status": ECHO}),)),
    "in_a_failed_task": ("GET /v1", (reply({"id": TASK, "status": "Error", "details": {"error": ECHO}}),)),
    "in_a_reason_of_moderation": (
        "GET /v1",
        (reply({"id": TASK, "status": "Content Moderated", "details": {"Moderation Reasons": [ECHO]}}),),
    ),
    "in_a_poll_that_is_refused": ("GET /v1", (reply({"detail": ECHO}, status="403 Forbidden"),)),
}


@pytest.mark.parametrize("echo", ECHOES)
def test_an_echo_of_the_key_is_cut_out_of_everything(server: FaultServer, ask: Ask, echo: str) -> None:
    where, script = ECHOES[echo]
    server.on[where] = [script] * 200

    asked = ask(deadline=0.3)

    assert isinstance(asked.outcome, ak.ProviderError)
    assert KEY not in asked.told()


def test_an_echo_beside_the_image_is_cut_out_of_the_result(server: FaultServer, ask: Ask) -> None:
    ready = server.ready()
    server.on["GET /v1"] = [(reply({**ready, "note": ECHO, "result": {**ready["result"], "prompt": ECHO}}),)]  # type: ignore[dict-item]

    asked = ask()

    assert "Invalid key [key], sent as x-key: [key]" == asked.result.prompt
    assert KEY not in asked.told()


def test_a_job_that_goes_well_tells_neither_key_nor_signature_nor_image(server: FaultServer, ask: Ask) -> None:
    asked = ask()

    told = asked.told()
    assert asked.result.image.source_url == f"{server.url}/sample.jpeg"
    assert "httpcore" in told
    assert KEY not in told
    assert SIGNATURE not in told
    assert base64.b64encode(asked.result.image.data)[:60].decode() not in told


@pytest.mark.parametrize("key", ["a key with spaces 0123456789", "bfl_0123456789\u20ac", "bfl_0123\n456789"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_told(key: str, server: FaultServer) -> None:
    with (
        ak.Client(ak.Config(providers={"bfl": {"api_key": lambda: key, "base_url": server.url}})) as client,
        pytest.raises(ak.ConfigurationError) as caught,
    ):
        client.generate("a cat")

    assert key.rsplit(maxsplit=1)[-1] not in str(caught.value)
    assert [] == server.requests
