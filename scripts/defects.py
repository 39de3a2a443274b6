"""Put deliberate defects into copies of the adapters, one at a time, and show which tests of the contract fail.

Prints a Markdown table; exits 1 where a defect is not caught. The adapters themselves are not touched: each copy lies
in a temporary folder that comes first on the path.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
SHOWN = 3  # failing tests that a row names
AT_ONCE = 2


@dataclass(frozen=True)
class Defect:
    """One change of one file.

    Attributes:
        adapter: The adapter's name.
        file: The file in its package.
        old: What stands there, exactly once.
        new: What is put in its place.
        name: What is wrong then.
    """

    adapter: str
    file: str
    old: str
    new: str
    name: str


DEFECTS = (
    Defect("bfl", "adapter.py", '"seed": order.seed,', '"seed": order.seed or None,', "seed 0 is dropped"),
    Defect(
        "bfl",
        "adapter.py",
        "return get(Purpose.POLL, task.poll_url, origin=None)",
        'return get(Purpose.POLL, "/v1/get_result", query={"id": task.id})',
        "the polling URL is built anew, on another host",
    ),
    Defect(
        "bfl",
        "adapter.py",
        "return Running(task, status, known=status in IN_FLIGHT,",
        "return Running(task, status, known=True,",
        "an unknown status passes for a known one",
    ),
    Defect(
        "bfl",
        "adapter.py",
        "return Failed(Kind.GENERATION_FAILED, _error_text(body), maybe_charged=False)",
        "return Failed(Kind.GENERATION_FAILED, _error_text(body), maybe_charged=True)",
        "a free failure may be charged",
    ),
    Defect(
        "together",
        "adapter.py",
        '"n": order.num_images,',
        '"n": 1,',
        "the number of images is lost",
    ),
    Defect(
        "together",
        "adapter.py",
        "402: Kind.OUT_OF_CREDIT,",
        "402: Kind.REQUEST_REJECTED,",
        "no credit is a bad request",
    ),
    Defect(
        "together",
        "facts.py",
        'rejections=(Rejection(503, "error", "together-6"),)',
        'rejections=(Rejection(503, "error", "together-6"), Rejection(500, "error", "together-14"))',
        "a 500 that may be paid counts as not accepted, and is sent again",
    ),
    Defect(
        "together",
        "adapter.py",
        "return Output(url) if isinstance(url, str) and url else None",
        "return Output(url)",
        "a link is believed whatever its type",
    ),
    Defect(
        "fal",
        "adapter.py",
        'url = task.data.get("response_url") or _link(body, "response_url")',
        "url = None",
        "the URL of the result is built anew",
    ),
    Defect(
        "fal",
        "endpoints.py",
        '_KONTEXT = {**_PRO, "aspect_ratio": "aspect_ratio", "guidance": "guidance_scale"}',
        '_KONTEXT = {**_PRO, "aspect_ratio": "aspect_ratio"}',
        "guidance is lost",
    ),
    Defect(
        "fal",
        "adapter.py",
        "if flag is True:",
        "if flag is None:",
        "a flagged, black image passes for a result",
    ),
    Defect(
        "fal",
        "errors.py",
        'return IDENTITY not in reply.headers and b"nginx" in reply.body and not reply.mapping()',
        'return b"html" in reply.body and not reply.mapping()',
        "any page counts as fal's own ingress, which accepted nothing",
    ),
    Defect(
        "kie",
        "adapter.py",
        '"enableTranslation": bool(order.translate_prompt),',
        '"enableTranslation": order.translate_prompt or None,',
        "false is left out, and the prompt is translated",
    ),
    Defect(
        "kie",
        "adapter.py",
        "if code not in {None, CODE_OK} or not 200 <= reply.status < 300:",
        "if not 200 <= reply.status < 300:",
        "the code in the body is not read",
    ),
    Defect(
        "kie",
        "facts.py",
        "408: Kind.UNAVAILABLE,  # the upstream",
        "408: Kind.REQUEST_REJECTED,  # the upstream",
        "an upstream without an answer is a bad request",
    ),
    Defect(
        "kie",
        "adapter.py",
        'link(response.get("resultImageUrl"))',
        'link(response.get("resultImageUrl") or response.get("originImageUrl"))',
        "the input passes for the result",
    ),
    Defect(
        "bfl",
        "adapter.py",
        "enumerate(order.images)",
        "enumerate(order.images[::-1])",
        "images are sent in the opposite order",
    ),
    Defect(
        "bfl",
        "adapter.py",
        "width, height = order.size or (None, None)",
        "height, width = order.size or (None, None)",
        "width and height are swapped",
    ),
    Defect(
        "bfl",
        "adapter.py",
        '"aspect_ratio": order.aspect_ratio,',
        '"aspect_ratio": order.aspect_ratio and ":".join(order.aspect_ratio.split(":")[::-1]),',
        "a ratio is sent upside down",
    ),
    Defect(
        "bfl",
        "adapter.py",
        '"prompt_upsampling": order.prompt_upsampling,',
        '"prompt_upsampling": None if order.prompt_upsampling is None else not order.prompt_upsampling,',
        "prompt_upsampling is inverted",
    ),
    Defect(
        "bfl",
        "adapter.py",
        "outputs=(Output(sample,",
        "outputs=(Output(sample.replace('%2F', '/'),",
        "a signed link is unescaped",
    ),
    Defect(
        "bfl",
        "adapter.py",
        '{"prompt": order.prompt}',
        '{"prompt": order.prompt.strip()[:2000]}',
        "a prompt is trimmed",
    ),
    Defect(
        "bfl",
        "adapter.py",
        'stage = "input" if status == "Request Moderated" else "output"',
        'stage = "output" if status == "Request Moderated" else "input"',
        "the stages of moderation are swapped",
    ),
    Defect(
        "together",
        "adapter.py",
        '"seed": order.seed,',
        '"steps": order.seed,',
        "a seed is sent as steps",
    ),
    Defect(
        "together",
        "adapter.py",
        '"seed": order.seed,',
        '"seed": order.seed and order.seed % 2**31,',
        "a seed loses its highest bit",
    ),
    Defect(
        "fal",
        "adapter.py",
        "images = [_image(image) for image in order.images]",
        "images = [_image(image) for image in order.images][::-1]",
        "images are sent in the opposite order",
    ),
    Defect(
        "fal",
        "endpoints.py",
        '_KONTEXT = {**_PRO, "aspect_ratio": "aspect_ratio", "guidance": "guidance_scale"}',
        '_KONTEXT = {**_PRO, "aspect_ratio": "aspect_ratio", "guidance": "strength"}',
        "guidance has a wrong name",
    ),
    Defect(
        "fal",
        "adapter.py",
        "if image.data is None else Base64(",
        'if image.data is None or image.media_type == "image/webp" else Base64(',
        "a webp picture is not sent",
    ),
    Defect(
        "fal",
        "adapter.py",
        'headers = {"x-app-fal-disable-fallback": "true"}',
        'headers = {"x-app-fal-disable-fallback": "true", "x-auth-token": "a-key"}',
        "a header carries a key under another name",
    ),
    Defect(
        "kie",
        "adapter.py",
        "bool(order.translate_prompt)",
        "not order.translate_prompt",
        "enableTranslation is inverted",
    ),
    Defect(
        "kie",
        "values.py",
        "import re\n",
        "import re\nimport uuid  # noqa: F401\n",
        "it imports a module that is on no list",
    ),
    Defect(
        "kie",
        "values.py",
        "import re\n",
        "import re\nimport time  # noqa: F401\n",
        "it imports the clock",
    ),
)


def failing(defect: Defect, folder: Path) -> list[str]:
    """The tests of the contract that fail with a defect, each once.

    Raises:
        ValueError: The text to be changed does not stand there exactly once.
        RuntimeError: The tests could not be run.
    """
    package = f"anykontext_{defect.adapter}"
    shutil.copytree(ROOT / "providers" / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    file = folder / package / defect.file
    text = file.read_text(encoding="utf-8")
    if text.count(defect.old) != 1:
        raise ValueError(f"{package}/{defect.file} has {defect.old!r} {text.count(defect.old)} times, and not once")
    file.write_text(text.replace(defect.old, defect.new), encoding="utf-8")
    report = folder / "report.xml"
    test = ROOT / "tests/contract" / f"test_{defect.adapter}.py"
    command = [sys.executable, "-m", "pytest", str(test), "-q", "--tb=no", "-p", "no:cacheprovider"]
    run = subprocess.run(  # noqa: S603 - our own tests
        [*command, f"--junitxml={report}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode not in {0, 1}:
        raise RuntimeError(f"{defect.name}: {run.stdout[-1000:]}{run.stderr[-1000:]}")
    bad = [
        case.get("name", "").partition("[")[0]
        for case in ET.parse(report).iter("testcase")  # noqa: S314 - written by the run above
        if case.find("failure") is not None or case.find("error") is not None
    ]
    return list(dict.fromkeys(bad))


def row(defect: Defect) -> tuple[str, bool]:
    """The row of a defect, and whether it was caught."""
    with tempfile.TemporaryDirectory() as folder:
        found = failing(defect, Path(folder))
    shown = ", ".join(f"`{name}`" for name in found[:SHOWN]) or "**not caught**"
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"| {defect.adapter} | {defect.name} | {shown}{more} |", bool(found)


def main() -> int:
    """Try every defect."""
    chosen = [one for one in DEFECTS if not sys.argv[1:] or one.adapter in sys.argv[1:]]
    print("| adapter | defect | failing tests |\n|---|---|---|")
    caught = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for line, found in pool.map(row, chosen):
            print(line, flush=True)
            caught += found
    print(f"\n{caught} of {len(chosen)} deliberate defects are caught.")
    return 0 if caught == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
