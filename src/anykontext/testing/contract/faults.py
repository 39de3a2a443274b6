"""Every fault that all emulators know, and where it ends: one table, and what differs is said by the adapter."""

import pytest
from _pytest.mark.structures import ParameterSet

from anykontext.model import errors
from anykontext.sandbox import FAULTS
from anykontext.testing.contract.base import End, no
from anykontext.testing.contract.sockets import SocketsContract
from anykontext.testing.contract.stage import Stage

SOON_S = 0.5

# Fault -> its error, whether money may have been spent, how many tasks were accepted, a deadline where it needs one.
ENDS = {
    "moderated": End(errors.Moderated, maybe_charged=False, accepted=1),
    "moderated-output": End(errors.Moderated, maybe_charged=False, accepted=1),
    "failed": End(errors.GenerationFailed, maybe_charged=False, accepted=1),
    "outage": End(errors.Unavailable, maybe_charged=False),
    "server-error": End(errors.OutcomeUnknown, maybe_charged=True),
    "gateway-page": End(errors.OutcomeUnknown, maybe_charged=True, accepted=1),
    "rate-limited": End(errors.RateLimited, maybe_charged=False),
    "out-of-credit": End(errors.OutOfCredit, maybe_charged=False),
    "bad-key": End(errors.AuthenticationFailed, maybe_charged=False),
    "submit-lost": End(errors.OutcomeUnknown, maybe_charged=True, accepted=1),
    "submit-slow": End(None, accepted=1),
    "poll-errors": End(None, accepted=1),
    "unknown-status": End(errors.DeadlineExceeded, maybe_charged=True, accepted=1, deadline_s=SOON_S),
    "never-ends": End(errors.DeadlineExceeded, maybe_charged=True, accepted=1, deadline_s=SOON_S),
    "expired-url": End(errors.ResultExpired, maybe_charged=True, accepted=1),
    "truncated-image": End(errors.ProtocolError, maybe_charged=True, accepted=1),
    "not-an-image": End(errors.ProtocolError, maybe_charged=True, accepted=1),
}
ONCE = frozenset({"gateway-page", "submit-lost", "submit-slow", "poll-errors", "unknown-status", "never-ends"})


class FaultsContract(SocketsContract):
    """Every end has one name, and says whether it may have been paid."""

    def fault_cases(self) -> list[ParameterSet]:
        """The faults of all emulators, and those of this one that the adapter names an end for."""
        why = self.without_faults
        return [
            pytest.param(fault, id=fault, marks=[no(f"fault {fault}: {why[fault]}")] if fault in why else [])
            for fault in dict.fromkeys([*FAULTS, *self.ends])
        ]

    def end_of(self, fault: str) -> End:
        """Where a fault ends at this provider."""
        return self.ends.get(fault) or ENDS[fault]

    def test_every_fault_has_an_end(self) -> None:
        """The pinned names are all in the table; what differs here says why; what is left out is known."""
        known = set(self.emulator.known_faults()) if self.emulator else set(FAULTS)

        assert set(ENDS) == set(FAULTS)
        assert set(self.ends) | set(self.without_faults) <= known
        assert not set(self.ends) & set(self.without_faults)
        assert [fault for fault, end in self.ends.items() if fault in ENDS and not end.because] == []
        assert [fault for fault, reason in self.without_faults.items() if not reason] == []

    def test_a_fault_ends_as_it_should(self, kind: str, fault: str, stage: Stage) -> None:
        """The error class, whether money may have been spent, and that no task was made twice."""
        end = self.end_of(fault)
        stage.emulator.inject(fault)
        found = None
        with stage.client(kind) as client:
            try:
                result = client.run(self.request_for(), deadline=end.deadline_s)
            except errors.ProviderError as error:
                found = error
            else:
                self.opened(result.image)
        counters = stage.emulator.counters

        assert type(found) is (end.error or type(None)), found
        assert (found.maybe_charged if found else False) is end.maybe_charged
        assert counters["accepted"] == end.accepted
        assert fault not in ONCE or counters["submits"] == 1
        assert found is None or [one.maybe_charged for one in found.attempts] == [end.maybe_charged]
        assert counters["key_leaks"] == 0
        wrong = {"moderated": "output", "moderated-output": "input"}.get(fault)
        assert wrong is None or getattr(found, "stage", "unknown") != wrong, f"{fault} is told as that of the {wrong}"

    def test_a_task_that_was_not_waited_for_is_collected(self, kind: str, stage: Stage) -> None:
        """A deadline leaves a handle, and the picture is there when it is asked for."""
        self._needs_tasks()
        stage.emulator.seconds = 100.0
        with stage.client(kind) as client:
            with pytest.raises(errors.DeadlineExceeded) as late:
                client.run(self.request_for(), deadline=SOON_S)
            assert late.value.handle is not None
            stage.emulator.advance(200)
            result = client.wait(client.resume(late.value.handle.to_json()).wait())

        self.opened(result.image)
        assert stage.emulator.counters["accepted"] == 1
