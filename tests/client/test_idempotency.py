"""The same key and the same request is the same job: never a second payment, in threads, tasks and processes."""

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import anykontext as ak
from anykontext.ledger import Ledger, NewSend
from anykontext.sandbox import Emulator, Sandbox

from .conftest import KINDS, Twin, configured, picture

KEY = "order-7"


def ledger_of(twin: Twin) -> Ledger:
    return twin.client._core.ledger  # type: ignore[no-any-return]


def again(twin: Twin, **options: Any) -> Any:
    return twin.edit(**{"idempotency_key": KEY, "seed": 7, **options})


@pytest.fixture
def unchanged(bfl: Emulator) -> Iterator[Callable[[], None]]:
    """Note what the provider has seen; at the end of the test it has seen nothing more."""
    noted: list[dict[str, int]] = []
    yield lambda: noted.append(dict(bfl.counters))
    assert [dict(bfl.counters)] * len(noted) == noted
    assert noted


def test_a_key_that_succeeded_gives_its_result_again_and_nothing_is_sent(
    twin: Twin, bfl: Emulator, unchanged: Callable[[], None]
) -> None:
    first = again(twin, num_images=2)
    unchanged()

    second = again(twin, num_images=2)

    assert first.job_id == second.job_id
    assert [image.data for image in first.images] == [image.data for image in second.images]
    assert (first.cost, first.spent, first.seed, first.provider) == (
        second.cost, second.spent, second.seed, second.provider,
    )  # fmt: skip
    assert {task.id for task in first.job.tasks} == {task.id for task in second.job.tasks}
    assert 2 == bfl.counters["submits"]


def test_a_client_of_the_other_kind_finds_the_result_too(
    twin: Twin, bfl: Emulator, unchanged: Callable[[], None]
) -> None:
    first = again(twin)
    unchanged()

    with Twin(KINDS[twin.is_sync], configured(bfl)) as other:
        assert first.image.data == again(other).image.data


def test_a_job_that_was_submitted_under_the_key_is_known_to_submit(twin: Twin, unchanged: Callable[[], None]) -> None:
    first = again(twin)
    unchanged()

    job = twin.submit(idempotency_key=KEY, seed=7)

    assert (first.job_id, ak.JobState.SUCCEEDED, True) == (job.id, job.state, job.done)
    assert first.image.data == twin.wait(job.wait()).image.data


def test_a_result_that_is_not_in_the_spool_any_more_is_never_paid_for_again(
    twin: Twin, home: Path, unchanged: Callable[[], None]
) -> None:
    first = again(twin)
    unchanged()
    shutil.rmtree(home / "spool")

    with pytest.raises(ak.ResultExpired) as caught:
        again(twin)

    assert (first.job_id, True, first.job) == (caught.value.job_id, caught.value.maybe_charged, caught.value.handle)


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "make it red"},
        {"seed": 8},
        {"num_images": 2},
        {"model": "flux-kontext-max"},
        {"aspect_ratio": "1:1"},
        {"provider_options": {"bfl": {"prompt_upsampling": True}}},
    ],
)
def test_another_request_under_the_key_is_refused(
    twin: Twin, unchanged: Callable[[], None], other: dict[str, Any]
) -> None:
    first = again(twin)
    unchanged()

    with pytest.raises(ak.InvalidRequest, match=f"{KEY!r} belongs to another request .*{first.job_id}"):
        again(twin, **other)


def test_another_picture_under_the_key_is_refused(twin: Twin, tmp_path: Path, unchanged: Callable[[], None]) -> None:
    file = tmp_path / "photo.png"
    file.write_bytes(picture())
    again(twin, image=str(file))
    unchanged()
    assert again(twin, image=picture()).image.data  # the same content, given in another way
    file.write_bytes(picture()[:-12] + b"\0\0\0\x03tEXta\0b\xee\x1e\x01\xc4" + picture()[-12:])

    with pytest.raises(ak.InvalidRequest):
        again(twin, image=str(file))


def test_a_key_counts_within_its_tenant(twin: Twin, bfl: Emulator) -> None:
    first = again(twin, tags={"tenant": "a", "customer": "x"})
    other = again(twin, tags={"tenant": "b"})
    none = again(twin)

    assert 3 == len({first.job_id, other.job_id, none.job_id})
    assert first.job_id == again(twin, tags={"tenant": "a", "customer": "y"}).job_id
    assert 3 == bfl.counters["submits"]


def test_a_running_job_is_attached_to(twin: Twin, bfl: Emulator) -> None:
    bfl.inject("never-ends")
    first = twin.submit(idempotency_key=KEY, seed=7)
    second = twin.submit(idempotency_key=KEY, seed=7)
    with pytest.raises(ak.DeadlineExceeded) as caught:
        again(twin, deadline=0.3)
    bfl.clear()

    assert [first.id] * 2 == [second.id, caught.value.job_id]
    assert first.handle == caught.value.handle == second.handle
    assert twin.wait(first.wait()).image.data == twin.wait(second.wait()).image.data == again(twin).image.data
    assert 1 == bfl.counters["submits"]
    assert 1 == bfl.counters["downloads"]


def test_a_job_that_was_left_at_its_deadline_is_taken_up_by_its_key(twin: Twin, bfl: Emulator) -> None:
    bfl.inject("never-ends")
    with pytest.raises(ak.DeadlineExceeded) as caught:
        again(twin, deadline=0.3)
    bfl.clear()

    result = again(twin)

    assert (caught.value.job_id, 7) == (result.job_id, result.seed)
    assert ak.JobState.SUCCEEDED is ledger_of(twin).job(result.job_id).state  # type: ignore[union-attr]
    assert 1 == bfl.counters["submits"]


@pytest.mark.parametrize("fault", ["bad-key", "out-of-credit", "outage"])
@pytest.mark.usefixtures("quick")
def test_a_job_that_failed_and_surely_cost_nothing_is_begun_anew(twin: Twin, bfl: Emulator, fault: str) -> None:
    bfl.inject(fault)
    with pytest.raises(ak.ProviderError) as caught:
        again(twin)
    bfl.clear()

    result = again(twin)

    assert caught.value.job_id == result.job_id
    assert 1 == bfl.counters["accepted"]
    assert {0, 1} == {one.attempt for one in ledger_of(twin).sends(result.job_id)}
    assert result.image.data == again(twin).image.data
    assert 1 == bfl.counters["accepted"]


def test_a_refused_prompt_is_not_offered_again(twin: Twin, bfl: Emulator, unchanged: Callable[[], None]) -> None:
    bfl.inject("moderated")
    with pytest.raises(ak.Moderated) as first:
        again(twin)
    bfl.clear()
    unchanged()

    with pytest.raises(ak.Moderated) as caught:
        again(twin)
    assert first.value.job_id == caught.value.job_id


class TestUnknown:
    """Nobody knows whether a submit was accepted."""

    @pytest.fixture
    def job_id(self, twin: Twin, bfl: Emulator) -> str:
        bfl.inject("submit-lost")
        with pytest.raises(ak.OutcomeUnknown) as caught:
            again(twin)
        bfl.clear()
        assert caught.value.job_id
        return caught.value.job_id

    def test_the_key_says_so_again_and_sends_nothing(
        self, twin: Twin, job_id: str, unchanged: Callable[[], None]
    ) -> None:
        unchanged()
        for _ in range(2):
            with pytest.raises(ak.OutcomeUnknown, match="jobs resolve") as caught:
                again(twin)
            assert (job_id, True) == (caught.value.job_id, caught.value.maybe_charged)

    def test_it_is_begun_anew_when_a_person_has_said_that_nothing_was_charged(
        self, twin: Twin, bfl: Emulator, job_id: str
    ) -> None:
        assert ledger_of(twin).resolve(job_id, charged=False, who="me").result()

        assert job_id == again(twin).job_id
        assert 2 == bfl.counters["submits"]

    def test_it_is_never_begun_anew_when_a_person_has_said_that_it_was_charged(
        self, twin: Twin, job_id: str, unchanged: Callable[[], None]
    ) -> None:
        assert ledger_of(twin).resolve(job_id, charged=True, who="me").result()
        unchanged()

        with pytest.raises(ak.OutcomeUnknown, match=r"resolved as charged.*new key") as caught:
            again(twin)
        assert caught.value.maybe_charged


def side_by_side(twin: Twin, clients: list[Any], count: int) -> list[ak.ImageResult]:
    """So many edits with the same key at the same time, by these clients in turn."""
    data = picture()

    def edit(number: int) -> Any:
        return clients[number % len(clients)].edit(data, "make it blue", seed=7, idempotency_key=KEY)

    if twin.is_sync:
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(edit, range(count)))

    async def main() -> list[ak.ImageResult]:
        return await asyncio.gather(*(edit(number) for number in range(count)))

    return twin.wait(main())  # type: ignore[no-any-return]


@pytest.mark.parametrize("clients", [1, 2])
def test_many_at_the_same_time_are_one_submit(twin: Twin, bfl: Emulator, clients: int) -> None:
    bfl.seconds = 0.3
    others = [type(twin.client)(configured(bfl)) for _ in range(clients - 1)]

    results = side_by_side(twin, [twin.client, *others], 6)

    for other in others:
        twin.wait(other.close())
    assert 1 == len({result.job_id for result in results})
    assert 1 == len({result.image.data for result in results})
    assert 1 == bfl.counters["submits"]


class TestAnotherProcess:
    """A job of the same key that another process works on, or did."""

    @pytest.fixture
    def job_id(self, twin: Twin, bfl: Emulator) -> str:
        """Begun anew by another process, which has not sent anything yet."""
        bfl.inject("bad-key")
        with pytest.raises(ak.AuthenticationFailed) as caught:
            again(twin)
        bfl.clear()
        job_id = caught.value.job_id
        assert job_id
        assert ledger_of(twin).reopen(job_id, "elsewhere").result()
        return job_id

    @staticmethod
    def intend(twin: Twin, job_id: str) -> None:
        send = NewSend(0, "bfl", "flux-kontext-pro", None)
        assert ledger_of(twin).intents(job_id, 1, [send], owner="elsewhere").result()

    def test_nothing_is_sent_while_it_holds_the_job(
        self, twin: Twin, job_id: str, unchanged: Callable[[], None]
    ) -> None:
        unchanged()
        with pytest.raises(ak.DeadlineExceeded) as caught:
            again(twin, deadline=0.4)
        assert job_id == caught.value.job_id

    def test_its_end_is_ours(self, twin: Twin, bfl: Emulator, job_id: str) -> None:
        with Twin("Client", configured(bfl)) as other:
            done = other.edit(seed=7)
        ledger = ledger_of(twin)
        told = ledger.job(done.job_id).result  # type: ignore[union-attr]

        def end() -> None:
            time.sleep(0.3)
            ledger.finish(job_id, ak.JobState.SUCCEEDED, owner="elsewhere", result=told).result()

        with ThreadPoolExecutor(1) as pool:
            ending = pool.submit(end)
            assert done.image.data == again(twin).image.data
            ending.result()

    def test_it_is_begun_anew_when_that_process_went_before_it_sent_anything(
        self, twin: Twin, bfl: Emulator, job_id: str
    ) -> None:
        ledger_of(twin).renew("elsewhere", lease_s=0).result()

        assert job_id == again(twin).job_id
        assert 1 == bfl.counters["accepted"]

    def test_it_is_unknown_when_that_process_went_after_an_intent(
        self, twin: Twin, job_id: str, unchanged: Callable[[], None]
    ) -> None:
        self.intend(twin, job_id)
        ledger_of(twin).renew("elsewhere", lease_s=0).result()
        unchanged()

        with pytest.raises(ak.OutcomeUnknown) as caught:
            again(twin)
        assert job_id == caught.value.job_id

    def test_it_is_unknown_as_soon_as_that_process_goes(
        self, twin: Twin, job_id: str, unchanged: Callable[[], None]
    ) -> None:
        self.intend(twin, job_id)
        unchanged()

        def go() -> None:
            time.sleep(0.3)
            ledger_of(twin).renew("elsewhere", lease_s=0).result()

        with ThreadPoolExecutor(1) as pool:
            going = pool.submit(go)
            with pytest.raises(ak.OutcomeUnknown):
                again(twin, deadline=10)
            going.result()

    def test_its_task_is_polled_when_it_goes(self, twin: Twin, bfl: Emulator, job_id: str) -> None:
        with Twin("Client", configured(bfl)) as other:
            handle = other.submit(seed=7).handle
        self.intend(twin, job_id)
        ledger_of(twin).accepted(job_id, 1, 0, handle, owner="elsewhere").result()
        ledger_of(twin).renew("elsewhere", lease_s=0).result()

        result = again(twin)

        assert (job_id, handle.tasks) == (result.job_id, result.job.tasks)
        assert 1 == bfl.counters["accepted"]


@pytest.mark.parametrize("kind", KINDS)
def test_who_attaches_gets_the_image_of_the_provider_that_the_job_went_on_to(kind: str) -> None:
    with Sandbox(providers=["bfl", "together"], seconds=0.3) as sandbox:
        bfl, together = sandbox.emulators["bfl"], sandbox.emulators["together"]
        bfl.inject("failed")
        config = ak.Config(
            providers={name: one.config() for name, one in sandbox.emulators.items()},
            routes={
                "default": {
                    "strategy": "ordered",
                    "candidates": ["bfl", "together"],
                    "failover_on": ["generation_failed"],
                    "on_maybe_charged": "continue",
                }
            },
        )
        with Twin(kind, config) as twin:
            results = side_by_side(twin, [twin.client], 3)

        assert {"together"} == {result.provider for result in results}
        assert 1 == len({result.job_id for result in results})
        assert (1, 1) == (bfl.counters["submits"], together.counters["submits"])


def test_a_call_that_was_cancelled_while_it_was_planned_leaves_a_key_that_can_be_used(bfl: Emulator) -> None:
    with Twin("AsyncClient", configured(bfl)) as twin:
        core = twin.client._core.store
        begin = core.begin

        def slow(new: Any) -> Any:
            begun = begin(new)
            time.sleep(0.2)
            return begun

        core.begin = slow

        async def main() -> None:
            task = asyncio.ensure_future(twin.client.edit(picture(), "make it blue", seed=7, idempotency_key=KEY))
            while not core.ledger.jobs():  # noqa: ASYNC110 - it is written in another thread
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0.4)

        twin.wait(main())
        assert ["cancelled"] == [one.state for one in core.ledger.jobs()]
        core.begin = begin

        assert 7 == again(twin, deadline=10).seed
        assert 1 == bfl.counters["submits"]


class TestWithoutTaskIds:
    """Together answers with the image itself."""

    @pytest.fixture(params=KINDS)
    def twin(self, request: pytest.FixtureRequest, together: Emulator) -> Iterator[Twin]:
        config = ak.Config(providers={"together": together.config()})
        with Twin(request.param, config) as one:
            yield one

    @pytest.fixture
    def together(self) -> Iterator[Emulator]:
        with Sandbox(providers=["together"], seconds=0.05) as sandbox:
            yield sandbox.emulators["together"]

    def test_the_result_is_found_again(self, twin: Twin, together: Emulator) -> None:
        first = again(twin)

        assert first.image.data == again(twin).image.data
        assert 1 == together.counters["submits"]

    def test_a_lost_one_is_unknown_again(self, twin: Twin, together: Emulator) -> None:
        together.inject("submit-lost")
        for _ in range(2):
            with pytest.raises(ak.OutcomeUnknown):
                again(twin)
        assert 1 == together.counters["submits"]

    def test_a_submitted_one_is_attached_to(self, twin: Twin, together: Emulator) -> None:
        job = twin.submit(idempotency_key=KEY, seed=7)
        assert twin.wait(job.wait()).image.data == again(twin).image.data
        assert 1 == together.counters["submits"]
