"""Forms as they come with an upload: multipart/form-data, read whole."""

from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser


class NotAForm(ValueError):
    """A body that is no multipart/form-data."""


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a form: its bytes, and what it says it is."""

    data: bytes
    media_type: str


def parsed(content_type: str, body: bytes) -> dict[str, Part]:
    """The fields of a form by their names.

    Raises:
        NotAForm: it is none, or torn.
    """
    head = Message()
    head["Content-Type"] = content_type
    boundary = head.get_boundary()
    if head.get_content_type() != "multipart/form-data" or not boundary:
        raise NotAForm(content_type)
    # Split by hand: the email package reads text, and a picture's bytes are none. Headers it knows well.
    _, *pieces = (b"\r\n" + body).split(b"\r\n--" + boundary.encode("latin-1", errors="replace"))
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise NotAForm("the form is torn")
    return dict(map(_part, pieces[:-1]))


def _part(piece: bytes) -> tuple[str, Part]:
    start, blank, data = piece.partition(b"\r\n\r\n")
    head = BytesParser().parsebytes(start.removeprefix(b"\r\n") + blank, headersonly=True)
    name = head.get_param("name", header="content-disposition")
    if not blank or not isinstance(name, str):
        raise NotAForm("a part has no name")
    return name, Part(data, head.get_content_type())
