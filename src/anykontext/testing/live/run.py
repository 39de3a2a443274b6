"""A live run: each scene at the provider, on a cassette, then at the emulator, and what differs."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import pytest
from _pytest.mark.structures import ParameterSet  # its only home

from anykontext.adapting import Call, Checks, Uploads
from anykontext.model.errors import AnykontextError, ProviderError
from anykontext.plugins import Registry, default_registry
from anykontext.sandbox import MissingExtra, Sandbox
from anykontext.testing.contract.orders import image_for, picture
from anykontext.testing.live.purse import OverCap, Purse
from anykontext.testing.live.scenes import SCENES, Cannot, Stage, Subject, Unexpected, order
from anykontext.testing.live.settings import Settings, addresses, is_local
from anykontext.testing.live.shapes import Guide, differences, exchanges, pattern
from anykontext.testing.live.tape import hide_balance, inspect, taped
from anykontext.testing.recording import Origin

LOCAL_POLL_S = 0.05
MEGAPIXELS = 0.02
EVERYTHING = Decimal("Infinity")


@dataclass
class Report:
    """What came of one scene.

    Attributes:
        scene: `provider/scene`.
        cassette: Where its recording is; None where nothing was exchanged.
        error: How it failed; None where it ended as expected.
        differences: Where the provider looks otherwise than its emulator.
    """

    scene: str
    cassette: Path | None
    error: Exception | None = None
    differences: list[str] = field(default_factory=list)

    def told(self) -> list[str]:
        """Lines for people."""
        end = f"failed: {self.error}" if self.error else "as expected"
        lines = [f"{self.scene}: {end}" + (f"; recorded in {self.cassette}" if self.cassette else "")]
        return [*lines, *(f"{self.scene}: {one}" for one in self.differences)]


class Live:
    """One run; the purse and what is remembered hold for all of its scenes.

    Attributes:
        emulated_s: How long a task takes at the emulators: long enough for every status word to be heard.

    Args:
        settings: What the environment says.
        subjects: The providers.
        cassettes: The folder of `<provider>/live-<scene>.yaml`, where recordings are kept if that is asked for.
        photo: What is edited; a small picture of grey unless it is given.
        registry: The adapters; None for those that are installed.
    """

    emulated_s = 1.0

    def __init__(
        self,
        settings: Settings,
        subjects: Sequence[Subject],
        cassettes: Path,
        photo: bytes | None = None,
        registry: Registry | None = None,
    ) -> None:
        self.settings, self.cassettes = settings, cassettes
        self.subjects = {one.provider: one for one in subjects}
        self.photo = picture() if photo is None else photo
        self.registry = registry or default_registry()
        self.purse = Purse(settings.max_usd, settings.unknown_usd)
        self.reports: list[Report] = []
        self._stages: dict[str, Stage] = {}
        self._emulated: dict[str, Stage | None] = {}
        self._stack = ExitStack()
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the emulators. Recordings that were not kept stay in their temporary folder."""
        self._stack.close()

    def cases(self) -> list[ParameterSet]:
        """Parameters `provider, scene` of a test: every scene, or one skip for each provider that is not visited."""
        found = []
        for name in self.subjects:
            if why := self.settings.why_not(name):
                found.append(pytest.param(name, "", id=name, marks=pytest.mark.skip(reason=why)))
            else:
                found += [pytest.param(name, scene, id=f"{name}-{scene}") for scene in self.scenes(name)]
        return found

    def scenes(self, provider: str) -> list[str]:
        """The scenes of a provider, the cheapest first."""
        return order(self.stage(provider).provider)

    def stage(self, name: str) -> Stage:
        """The real provider."""
        if name not in self._stages:
            if why := self.settings.why_not(name):
                raise Cannot(why)
            section = self.settings.section(self.registry.adapter(name).facts)
            quick = {"poll_interval_s": LOCAL_POLL_S} if is_local(section) else {}
            self._stages[name] = Stage(self.subjects[name], {**section, **quick}, self.purse, self.photo, self.registry)
        return self._stages[name]

    def play(self, provider: str, scene: str) -> Report:
        """Play a scene at the provider and at its emulator.

        Returns:
            What came of it; `error` is set where it did not end as expected.

        Raises:
            Cannot: It means nothing there; nothing was sent.
            OverCap: It was not begun, for its price.
            Leaked: Its recording held a secret, and was deleted.
        """
        stage = self.stage(provider)
        path = self.folder / provider / f"live-{scene}.yaml"
        local = is_local(stage.section)
        error = self._record(stage, scene, path, "recorded-from-emulator" if local else "recorded-live")
        hide_balance(path, lambda url: is_check(stage, url))
        inspect(path, self._keys(stage))
        report = Report(f"{provider}/{scene}", path if path.exists() else None, error)
        self.reports.append(report)
        if self.settings.record and not error and not local and path.exists():
            report.cassette = self.cassettes / provider / path.name
            report.cassette.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, report.cassette)
        report.differences += self._differences(stage, scene, path, error)
        return report

    @property
    def folder(self) -> Path:
        """Where recordings are made; they are kept elsewhere only when they are whole and clean."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="anykontext-live-"))
        return self._folder

    def _keys(self, stage: Stage) -> list[str]:
        return [stage.section["api_key"], stage.wrong_key]

    def _record(self, stage: Stage, scene: str, path: Path, origin: Origin) -> Exception | None:
        """Play a scene on a cassette, and return how it failed."""
        stage.scene = scene
        drifts = len(stage.drifts)
        name = stage.provider.name
        # An address of somebody's own is not the provider's, and nobody else's business.
        own = addresses(stage.section).items()
        hosts = {url: f"https://{setting.removesuffix('_url')}.{name}.example" for setting, url in own}
        told = [f"scene: {SCENES[scene].__doc__}", "by: anykontext.testing.live"]
        with taped(path, origin, self._keys(stage), hosts, told):
            try:
                SCENES[scene](stage)
            except (AnykontextError, Unexpected) as error:
                return error
        return Unexpected("; ".join(stage.drifts[drifts:])) if stage.drifts[drifts:] else None

    def _differences(self, stage: Stage, scene: str, path: Path, error: Exception | None) -> list[str]:
        emulated = self._emulator(stage)
        if emulated is None:
            return ["there is no emulator: nothing is compared"]
        other = self.folder / "emulated" / stage.provider.name / path.name
        ended = self._record(emulated, scene, other, "recorded-from-emulator")
        here = guide(stage)
        lines = differences(exchanges(path, here), exchanges(other, guide(emulated)), here.states)
        ends = [end(one) for one in (error, ended)]
        return [*([f"live ends {ends[0]}, the emulator {ends[1]}"] if ends[0] != ends[1] else []), *lines]

    def _emulator(self, stage: Stage) -> Stage | None:
        name = stage.provider.name
        if name not in self._emulated:
            try:
                sandbox = Sandbox(providers=[name], seconds=self.emulated_s)
            except (ValueError, MissingExtra):
                self._emulated[name] = None
                return None
            emulator = sandbox.emulators[name]
            emulator.megapixels = MEGAPIXELS
            self._stack.enter_context(sandbox)
            section: Mapping[str, Any] = {**emulator.config(), "poll_interval_s": LOCAL_POLL_S}
            purse = Purse(EVERYTHING, Decimal(0))  # nothing is paid there
            self._emulated[name] = Stage(stage.subject, section, purse, self.photo, self.registry)
        return self._emulated[name]

    def told(self) -> list[str]:
        """What was found, and what it cost."""
        return [*(line for report in self.reports for line in report.told()), *self.purse.told()]


def guide(stage: Stage) -> Guide:
    """What tells a stage's exchanges apart: the calls of its adapter, and the ids of its tasks."""
    adapter, ids = stage.provider.adapter, {task.id for task in stage.tasks}
    known: dict[str, Call] = {}
    if isinstance(adapter, Checks):
        known["check"] = adapter.check()
    if isinstance(adapter, Uploads):
        known["upload"] = adapter.upload(image_for(adapter.facts, 0, raw=True))
    roles = {_path(call, ids): role for role, call in known.items()}
    roles |= {_path(adapter.poll(task), ids): "poll" for task in stage.tasks}
    return Guide(ids, roles, adapter.facts.statuses.keys())


def is_check(stage: Stage, url: str) -> bool:
    """Whether a URL is that of the adapter's check, at whatever host it was recorded."""
    adapter = stage.provider.adapter
    return isinstance(adapter, Checks) and pattern(url, ()).endswith(pattern(adapter.check().path, ()))


def _path(call: Call, ids: set[str]) -> str:
    return pattern(call.path, ids).partition("?")[0]


def end(error: Exception | None) -> str:
    """How a scene ended, in a word."""
    if isinstance(error, ProviderError):
        return f"in {type(error).__name__}"
    return f"otherwise ({error})" if error else "as expected"


def played(live: Live, provider: str, scene: str) -> Report:
    """Play a scene inside a test; what cannot be played, or not for the money that is left, is skipped."""
    try:
        return live.play(provider, scene)
    except (Cannot, OverCap) as why:
        pytest.skip(str(why))
