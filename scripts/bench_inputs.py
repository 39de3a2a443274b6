"""Time and memory of making a 12-megapixel JPEG ready to be sent: cutting its metadata against encoding it anew.

Run it with the project's Python: `.venv/bin/python scripts/bench_inputs.py`. Each way runs in a process of its own, so
that its peak of memory is its own; the time is that of the fastest of some rounds, and the median beside it.
"""

import argparse
import io
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pybase64
from PIL import Image, features
from PIL import __version__ as pillow_version

from anykontext.adapting import InputLimits
from anykontext.io.metadata import Parts, strip
from anykontext.io.prepare import fit, prepare_source
from anykontext.io.probe import JPEG, complete, probe
from anykontext.model.image import InputImage

PHOTO = Path(__file__).parents[1] / "tests/data/rocket.jpg"
SIZE = (4000, 3000)
RUN = 196_608  # bytes that are made base64 at a time


def photo(turn: int) -> bytes:
    """A JPEG of 12 megapixels with a camera's metadata, and some noise, as a camera's pictures have it."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x8298] = turn, "A camera", "(c) somebody"
    exif.get_ifd(0x8825)[2] = (48.0, 51.0, 29.61)
    with Image.open(PHOTO) as opened:
        noise = Image.effect_noise((1000, 750), 60).resize(SIZE).convert("RGB")
        picture = Image.blend(opened.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC), noise, 0.3)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=92, exif=exif, comment=b"a comment")
    return out.getvalue()


def source(data: bytes) -> InputImage:
    """The picture as `load` gives it."""
    return InputImage(data, None, JPEG, *SIZE, "it")


def encoded(parts: bytes | Parts) -> None:
    """Go through the base64 text that is sent, as it is sent."""
    runs = parts.runs(RUN) if isinstance(parts, Parts) else Parts((parts,)).runs(RUN)
    for run in runs:
        pybase64.b64encode(run)


def reencoded(data: bytes) -> bytes:
    """What tutorials do: decode, and save anew."""
    with Image.open(io.BytesIO(data)) as image:
        out = io.BytesIO()
        image.save(out, "JPEG", quality=95, subsampling=0)
        return out.getvalue()


SMALL = InputLimits(("bytes",), (JPEG,), 10**8, 1_048_576, "benchmark")
WAYS: dict[str, tuple[int, Callable[[bytes], object]]] = {
    "nothing: the picture lies in memory": (1, lambda _: None),
    "probe + complete (as load checks)": (1, lambda data: complete(data, probe(data))),
    "lossless: strip to parts": (1, lambda data: strip(data, JPEG)),
    "lossless: strip, joined to bytes": (1, lambda data: bytes(strip(data, JPEG))),
    "lossless: prepare_source": (1, lambda data: prepare_source(source(data))),
    "sent: base64 of the parts, run by run": (1, lambda data: encoded(strip(data, JPEG))),
    "sent: base64 of the joined bytes": (1, lambda data: encoded(bytes(strip(data, JPEG)))),
    "Pillow: decode and encode anew, q95": (1, reencoded),
    "prepare_source of one to be turned": (6, lambda data: prepare_source(source(data))),
    "fit: scaled to 1 megapixel": (1, lambda data: fit(source(data), SMALL)),
}


def peak_rss() -> int:
    """The peak of this process's memory in bytes; getrusage would count that of its parent in, on Linux."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    peaks = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")]
    return peaks[0] if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def one(way: str, path: Path, rounds: int) -> dict[str, float]:
    """Measure one way in this process."""
    _, work = WAYS[way]
    data = path.read_bytes()
    Image.init()
    before = peak_rss()
    work(data)
    after = peak_rss()
    took = []
    for _ in range(rounds):
        started = time.perf_counter()
        work(data)
        took.append((time.perf_counter() - started) * 1000)
    tracemalloc.start()
    work(data)
    _, peak = tracemalloc.get_traced_memory()
    return {
        "best_ms": min(took),
        "median_ms": statistics.median(took),
        "python_mb": peak / 1e6,
        "rss_mb": (after - before) / 1e6,
    }


def processor() -> str:
    """The name of the processor, where the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    named = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def conditions(sizes: dict[int, int]) -> str:
    """Under what the figures were taken."""
    turbo = features.version_feature("libjpeg_turbo") or "none"
    return (
        f"processor: {processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n"
        f"Python {platform.python_version()}, Pillow {pillow_version}, libjpeg-turbo {turbo}, "
        f"pybase64 {pybase64.get_version()}\n"
        f"picture: JPEG {SIZE[0]} x {SIZE[1]}, {sizes[1]:,} bytes\n"
        "times are of one picture; Python's memory is tracemalloc's peak (Pillow's pixels are not in it);\n"
        "RSS is how much the first round raised the peak of its process, beyond the picture itself\n"
    )


def main() -> None:
    """Print the conditions and a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        print(json.dumps(one(given.way, given.file, given.rounds)))
        return
    with tempfile.TemporaryDirectory() as folder:
        sizes = {}
        for turn in (1, 6):
            data = photo(turn)
            sizes[turn] = len(data)
            (Path(folder) / f"{turn}.jpg").write_bytes(data)
        print(conditions(sizes))
        print(f"{'way':40} {'best':>9} {'median':>9} {'Python':>9} {'RSS':>9}")
        for way, (turn, _) in WAYS.items():
            call = [sys.executable, __file__, "--way", way, "--rounds", str(given.rounds)]
            found = json.loads(subprocess.check_output([*call, "--file", f"{folder}/{turn}.jpg"]))  # noqa: S603
            times = f"{found['best_ms']:6.2f} ms {found['median_ms']:6.2f} ms"
            print(f"{way:40} {times} {found['python_mb']:6.2f} MB {found['rss_mb']:6.2f} MB")


if __name__ == "__main__":
    main()
