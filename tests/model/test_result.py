from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from anykontext.model.money import Cost
from anykontext.model.result import Attempt, ImageResult, ResultImage, Timings


@dataclass
class Stored:
    """A picture in a spool of its own."""

    asked: list[Any] = field(default_factory=list)

    def read(self) -> bytes:
        return b"SECRET"

    def save(self, path: Any, *, overwrite: bool) -> Path:
        self.asked.append((path, overwrite))
        return Path(path)

    def pil(self) -> Any:
        return "a picture"


def image(stored: Stored) -> ResultImage:
    return ResultImage("image/png", 4, 3, "aa", "https://x.example/a", None, stored)


def result(*images: ResultImage) -> ImageResult:
    attempt = Attempt("bfl", "flux-kontext-pro", "succeeded", maybe_charged=True, seconds=1.23456)
    return ImageResult(
        *(images, "bfl", "bfl", "flux-kontext-pro", "edit", 0, None, Cost(), Cost(), (), (attempt,), (), None, "job_1"),
        Timings(0.1, 1.0, 1.2),
    )


def test_an_image_reads_its_bytes_from_where_they_lie() -> None:
    one = image(Stored())

    assert (b"SECRET", "a picture") == (one.data, one.pil())


def test_saving_a_result_saves_its_first_image() -> None:
    first, second = Stored(), Stored()
    found = result(image(first), image(second))

    path = found.save("out.png", overwrite=True)

    assert Path("out.png") == path
    assert ([("out.png", True)], []) == (first.asked, second.asked)
    assert found.images[0] is found.image


def test_nothing_is_overwritten_unless_it_is_asked_for() -> None:
    stored = Stored()

    image(stored).save("out.png")

    assert [("out.png", False)] == stored.asked


def test_no_repr_holds_bytes_or_the_raw_reply() -> None:
    found = replace(result(image(Stored())), raw={"one": {"secret": "hush"}})

    assert "SECRET" not in repr(found)
    assert "hush" not in repr(found)


def test_the_json_of_an_attempt() -> None:
    assert {
        "provider": "bfl",
        "model": "flux-kontext-pro",
        "outcome": "succeeded",
        "maybe_charged": True,
        "seconds": 1.235,
    } == result().attempts[0].to_json()
