"""Images that come as text inside a reply: paid for, and kept whatever they are."""

import base64
from pathlib import Path
from typing import Any

import pytest

from anykontext.engine.effects import Download, Fault, NotDownloaded
from anykontext.io.download import fetch
from anykontext.io.spool import Spool
from anykontext.model.result import ResultImage

PHOTO = (Path(__file__).parents[1] / "data/rocket.jpg").read_bytes()
TEXT = base64.b64encode(PHOTO).decode()


def taken(tmp_path: Path, text: str) -> Any:
    return fetch(None, Download(None, None, 5.0, None, text), Spool(tmp_path))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [TEXT, f"data:image/jpeg;base64,{TEXT}", "\r\n".join(TEXT[at : at + 76] for at in range(0, len(TEXT), 76))],
    ids=["plain", "data uri", "lines of mime"],
)
def test_base64_is_read_in_every_usual_dress(tmp_path: Path, text: str) -> None:
    image = taken(tmp_path, text)

    assert isinstance(image, ResultImage)
    assert PHOTO == image.data


@pytest.mark.parametrize("text", [TEXT[:5000] + "*" + TEXT[5001:], "", "not base64 at all!"], ids=["bad", "none", "no"])
def test_f43_what_cannot_be_decoded_is_kept_as_it_came(tmp_path: Path, text: str) -> None:
    found = taken(tmp_path, text)

    assert isinstance(found, NotDownloaded)
    assert Fault.BAD is found.fault
    if text:
        (kept,) = (tmp_path / "rejected").iterdir()
        assert text == kept.read_text()
        assert kept.name in found.message
