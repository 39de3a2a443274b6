"""What each provider gets for a safety_tolerance, from a run in the sandbox: the table of `docs/safety.md`.

    .venv/bin/python scripts/safety_table.py            # prints it
    .venv/bin/python scripts/safety_table.py --write    # puts it into docs/safety.md

Every cell is one call of the client, against the emulator on loopback: what stands there is what came over the wire.
"""

import argparse
import io
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

import anykontext as ak
from anykontext.sandbox import Sandbox

PAGE = Path(__file__).resolve().parent.parent / "docs/safety.md"
BEGIN, END = "<!-- safety table: begin -->", "<!-- safety table: end -->"
# Provider -> its own word for the dial; Together has none, and this is what it would be called.
WORDS = {
    "bfl": "safety_tolerance",
    "fal": "safety_tolerance",
    "kie": "safetyTolerance",
    "together": "safety_tolerance",
}
MODES = ("edit", "generate")
LEVELS = range(7)


def photo() -> bytes:
    """A tiny picture, as quick to edit as any can be."""
    out = io.BytesIO()
    Image.new("RGB", (64, 48), "orange").save(out, "PNG")
    return out.getvalue()


def cell(result: ak.ImageResult, arrived: Mapping[str, Any], word: str) -> str:
    """What was sent for one call, and what the caller was told about it."""
    body = arrived["body"]
    sent = f"`{json.dumps(body[word])}`" if word in body else "not sent"
    if word in arrived["ignored"]:
        sent = "sent, and ignored"
    told = [one for one in result.adjustments if one.option == "safety_tolerance"]
    if not told:
        return sent
    looser = "more permissive" if word in body else "may be more permissive"
    return f"{sent} (adjusted{f', {looser}' if any(one.more_permissive for one in told) else ''})"


def table() -> str:
    """The table, in Markdown; the client's files go to `$ANYKONTEXT_HOME`."""
    lines = [f"| asked for | {' | '.join(WORDS)} |", "|---|" + "---|" * len(WORDS)]
    picture = photo()
    with Sandbox(providers=tuple(WORDS), seconds=0.0) as sandbox:
        for emulator in sandbox.emulators.values():
            emulator.megapixels = 0.02
        settings = {
            name: {**emulator.config(), "poll_interval_s": 0.01} for name, emulator in sandbox.emulators.items()
        }
        with ak.Client(ak.Config(providers=settings)) as client:
            for mode in MODES:
                for level in LEVELS:
                    request = ak.ImageRequest("make it blue", picture if mode == "edit" else (), safety_tolerance=level)
                    cells = []
                    for name, word in WORDS.items():
                        result = client.run(request, provider=name)
                        cells.append(cell(result, sandbox.emulators[name].requests[-1], word))
                    lines.append(f"| {level}, {mode} | {' | '.join(cells)} |")
    return "\n".join(lines)


def page_with(found: str, page: str) -> str:
    """The page with this table between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{found}\n\n{END}{after}"


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put it into docs/safety.md")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["ANYKONTEXT_HOME"] = home
        found = table()
    if asked.write:
        PAGE.write_text(page_with(found, PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(found)


if __name__ == "__main__":
    main()
