"""The whole way over real sockets, with both clients: from a request to a picture that can be opened."""

import io
import json
from typing import Any

import pytest
from PIL import Image

from anykontext.adapting import Cancels, Checks, Choices, Numbers, Spec
from anykontext.model.errors import Cancelled, UnsupportedOption
from anykontext.model.job import JobState
from anykontext.model.request import ImageRequest
from anykontext.testing.contract.orders import leaves, modes, values
from anykontext.testing.contract.stage import Stage, StagedContract

LONG_S = 30.0
PROMPT = "make it blue"
SEED = 1234567


class SocketsContract(StagedContract):
    """Happy paths; the unhappy ones are those of the faults."""

    def model_for(self, mode: str) -> str:
        """The first model with this mode."""
        for model, offered, _ in modes(self.facts):
            if offered == mode:
                return model
        pytest.skip(f"capability: it does not {mode}")

    def request_for(self, mode: str = "", **fields: Any) -> ImageRequest:
        """A plain request; a generation where that is offered and nothing is said."""
        mode = mode or ("generate" if any(one == "generate" for _, one, _ in modes(self.facts)) else "edit")
        images = {"images": [self.input_picture()]} if mode == "edit" else {}
        return ImageRequest(PROMPT, model=self.model_for(mode), **images, **fields)

    def options(self, mode: str) -> dict[str, Spec]:
        """What the first model of a mode offers."""
        return dict(self.facts.models[self.model_for(mode)].modes[mode].options)  # type: ignore[index]

    def opened(self, image: Any) -> Image.Image:
        """A result's picture, decoded whole, and of the type and size that are told."""
        found = Image.open(io.BytesIO(image.data))
        found.load()
        assert Image.MIME[found.format or ""] == image.media_type
        assert found.size == (image.width, image.height)
        return found

    def arrived(self, stage: Stage) -> list[Any]:
        """All values that the emulator was sent with its last task."""
        return [value for _, value in leaves(dict(stage.emulator.requests[-1]["body"]))]

    def test_an_edit_comes_back_as_a_picture(self, kind: str, stage: Stage) -> None:
        """One task, one picture; the input arrived, and the prompt."""
        request = self.request_for("edit")
        with stage.client(kind) as client:
            result = client.run(request)

        self.opened(result.image)
        assert (result.provider, result.adapter, result.mode) == (self.facts.name, self.facts.name, "edit")
        assert stage.emulator.counters["accepted"] == 1
        assert len(stage.emulator.requests[0]["images"]) == 1
        assert PROMPT in self.arrived(stage)
        assert stage.emulator.counters["ignored_fields"] == 0

    def test_a_generation_comes_back_as_a_picture(self, kind: str, stage: Stage) -> None:
        """No input, one task, one picture."""
        request = self.request_for("generate")
        with stage.client(kind) as client:
            result = client.run(request)

        self.opened(result.image)
        assert result.mode == "generate"
        assert not stage.emulator.requests[0]["images"]
        assert stage.emulator.counters["accepted"] == 1
        assert stage.emulator.counters["ignored_fields"] == 0

    def test_a_seed_arrives_and_zero_too(self, kind: str, stage: Stage) -> None:
        """0 is a seed."""
        if "seed" not in self.options(self.request_for().mode):
            pytest.skip("capability: it takes no seed")
        with stage.client(kind) as client:
            client.run(self.request_for(seed=SEED))
            seen = self.arrived(stage)
            client.run(self.request_for(seed=0))

        assert SEED in seen
        assert any(value == 0 and not isinstance(value, bool) for value in self.arrived(stage))

    def test_a_format_arrives_and_is_what_comes(self, kind: str, stage: Stage) -> None:
        """Each format of the facts: it is sent, and the picture has it."""
        formats = self.options(self.request_for().mode).get("output_format")
        if not isinstance(formats, Choices):
            pytest.skip("capability: it has no choice of formats")
        with stage.client(kind) as client:
            for word in formats.values:
                image = client.run(self.request_for(output_format=word)).image
                assert self.opened(image).format == word.upper()
                assert word in self.arrived(stage)

    def test_a_safety_arrives(self, kind: str, stage: Stage) -> None:
        """The strictest and the most permissive that it has."""
        spec = self.options(self.request_for().mode).get("safety_tolerance")
        if not isinstance(spec, Numbers):
            pytest.skip("capability: it has no safety_tolerance")
        with stage.client(kind) as client:
            for value in (values(spec)[0], values(spec)[-1]):
                client.run(self.request_for(safety_tolerance=value))
                assert {value, str(value)} & {one for one in self.arrived(stage) if not isinstance(one, bool)}

    def test_two_images_are_two(self, kind: str, stage: Stage) -> None:
        """In one task where it makes several, in two where it does not."""
        with stage.client(kind) as client:
            result = client.run(self.request_for(num_images=2))

        assert len({image.sha256 for image in result.images}) == 2
        assert stage.emulator.counters["accepted"] == (1 if self.facts.images_per_task > 1 else 2)

    def test_a_handle_gives_the_picture_in_another_process(self, kind: str, stage: Stage) -> None:
        """As JSON, in a new client, without another submit."""
        self._needs_tasks()
        with stage.client(kind) as client:
            handle = client.submit(self.request_for()).handle.to_json()
        with stage.client(kind) as other:
            job = other.resume(handle)
            result = other.wait(job.wait())

        self.opened(result.image)
        assert json.loads(result.job.to_json())["tasks"] == json.loads(handle)["tasks"]
        assert stage.emulator.counters["accepted"] == 1

    def test_a_result_names_its_job(self, kind: str, stage: Stage) -> None:
        """A finished job can be asked for again, too."""
        self._needs_tasks()
        with stage.client(kind) as client:
            first = client.run(self.request_for())
            again = client.wait(client.resume(first.job.to_json()).wait())

        assert again.image.sha256 == first.image.sha256
        assert stage.emulator.counters["accepted"] == 1

    def test_a_cancelled_task_ends(self, kind: str, stage: Stage) -> None:
        """Where the provider can cancel; elsewhere that is said before anything is sent."""
        self._needs_tasks()
        stage.emulator.seconds = LONG_S
        with stage.client(kind) as client:
            job = client.submit(self.request_for(), deadline=5)
            if not isinstance(self.adapter, Cancels):
                with pytest.raises(UnsupportedOption):
                    client.wait(job.cancel())
                pytest.skip("capability: a task cannot be cancelled")
            client.wait(job.cancel())
            with pytest.raises(Cancelled):
                client.wait(job.wait())

        assert job.state is JobState.CANCELLED

    def test_no_key_goes_to_where_pictures_lie(self, kind: str, stage: Stage) -> None:
        """Downloads carry none."""
        with stage.client(kind) as client:
            client.run(self.request_for(num_images=2))

        assert stage.emulator.counters["key_leaks"] == 0

    def test_a_key_can_be_checked(self, kind: str, stage: Stage) -> None:
        """A good one is ok, and another is refused; nothing is spent."""
        if not isinstance(self.adapter, Checks):
            pytest.skip("capability: a key cannot be checked without spending")
        found = []
        for settings in ({}, {"api_key": "some-other-key"}):
            with stage.client(kind, **settings) as client:
                found += [one.key for one in client.wait(client.client.check())]

        assert found == ["ok", "refused"]
        assert stage.emulator.counters["submits"] == 0

    def _needs_tasks(self) -> None:
        if not self.has_tasks:
            pytest.skip("capability: it names no task")
