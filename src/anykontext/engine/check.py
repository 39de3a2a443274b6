"""Single questions: is a key valid, how is a task now, please cancel it. None of them costs anything."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from anykontext.adapting import Balance, Call, Cancels, Checks, Failed, Fetch, Refused, Running, State, Succeeded, Task
from anykontext.engine.effects import Flow, Heard, Loss, Lost, Send
from anykontext.engine.ends import Ended, ended_by
from anykontext.engine.money_table import after_poll
from anykontext.engine.provider import Candidate, Provider
from anykontext.engine.renew import ask
from anykontext.engine.signing import UntrustedUrl, address
from anykontext.engine.watch import Watch
from anykontext.model.errors import Kind
from anykontext.model.job import JobState

KeyState = Literal["ok", "missing", "refused", "unverified"]
WITHIN_S = 15.0


@dataclass(frozen=True, slots=True)
class ProviderCheck:
    """Whether a provider can be used.

    Attributes:
        provider: Its name in the config.
        adapter: The adapter that speaks with it.
        key: `ok`, `missing`, `refused`, or `unverified` when that could not be found out.
        amount: What is left, in `unit`; None when the provider does not tell.
        unit: `credits` or a currency.
        message: In words, what was found.
        usd: What is left, in USD; None where the provider does not tell, or the rate is not known.
    """

    provider: str
    adapter: str
    key: KeyState
    amount: Decimal | None
    unit: str | None
    message: str
    usd: Decimal | None = None

    def to_json(self) -> dict[str, object]:
        """The JSON form, as a mapping."""
        balance = None if self.amount is None else {"amount": str(self.amount), "unit": self.unit}
        return {
            "provider": self.provider,
            "adapter": self.adapter,
            "key": self.key,
            "balance": balance,
            "message": self.message,
        }


def check_provider(watch: Watch, provider: Provider) -> Flow[ProviderCheck]:
    """Ask a provider whether the key is valid, and what is left."""
    adapter = provider.adapter
    if not isinstance(adapter, Checks):
        return found(provider, "unverified", "this provider has no free way to check a key")
    call = adapter.check()
    try:
        way = address(call, provider)
    except UntrustedUrl as error:
        return found(provider, "unverified", str(error))
    heard, state = yield from ask(watch, Send(call, provider, way, WITHIN_S), None)
    if isinstance(heard, Lost):
        return found(provider, "unverified", heard.message)
    if isinstance(state, Balance):
        told = "the key is valid" + ("" if state.amount is None else f", {state.amount} {state.unit} are left")
        return found(provider, "ok", told, state)
    if isinstance(state, Refused) and state.kind is Kind.AUTHENTICATION_FAILED:
        return found(provider, "refused", state.message)
    message = state.message if isinstance(state, Refused) else type(state).__name__
    return found(provider, "unverified", f"HTTP {heard.status}: {message}")


def found(provider: Provider, key: KeyState, message: str, balance: Balance | None = None) -> ProviderCheck:
    """What was found out about a provider."""
    amount, unit, usd = (balance.amount, balance.unit, balance.usd) if balance else (None, None, None)
    return ProviderCheck(provider.name, provider.adapter.facts.name, key, amount, unit, message, usd)


def look(watch: Watch, candidate: Candidate, task: Task) -> Flow[JobState | Ended]:
    """Poll a task once: its state, or how it ended. What could not be understood is an end of the question only."""
    adapter = candidate.provider.adapter
    heard, state = yield from _ask(watch, candidate, adapter.poll(task), task)
    if isinstance(state, Fetch):  # it has ended, and only its result tells how
        heard, state = yield from _ask(watch, candidate, state.call, task)
    row = after_poll(heard, state)
    if row is not None:
        return ended_by(row, heard, state)
    return JobState.SUCCEEDED if isinstance(state, Succeeded) else JobState.RUNNING


def cancel(watch: Watch, candidate: Candidate, task: Task) -> Flow[State | Ended]:
    """Ask a provider to cancel a task; it may end well all the same."""
    adapter = candidate.provider.adapter
    assert isinstance(adapter, Cancels)
    heard, state = yield from _ask(watch, candidate, adapter.cancel(task), task)
    if state is None or isinstance(state, Refused | Failed | Running):
        row = after_poll(heard, state)
        if row is not None and not (isinstance(state, Failed) and state.kind is Kind.CANCELLED):
            return ended_by(row, heard, state)
    assert state is not None
    return state


def _ask(watch: Watch, candidate: Candidate, call: Call, task: Task) -> Flow[tuple[Heard, State | None]]:
    try:
        way = address(call, candidate.provider)
    except UntrustedUrl as error:
        return Lost(Loss.FORBIDDEN, str(error)), None
    return (yield from ask(watch, Send(call, candidate.provider, way, WITHIN_S), task))
