"""After a refused key: the same exchange once more where there is another; keys are changed under running jobs."""

from dataclasses import replace

from anykontext.adapting import Refused, State, Task
from anykontext.engine.effects import Flow, Heard, Renew, Send
from anykontext.engine.money_table import understood
from anykontext.engine.provider import Provider, Renewable
from anykontext.engine.watch import Watch
from anykontext.model.errors import Kind

WITHIN_S = 30.0  # a callable may fetch the key over the network


def has_new_key(watch: Watch, provider: Provider, state: State | None) -> Flow[bool]:
    """Whether the provider refused our key and there is another one now."""
    if not (isinstance(state, Refused) and state.kind is Kind.AUTHENTICATION_FAILED):
        return False
    key: object = provider.key
    if not isinstance(key, Renewable) or watch.left_s <= 0:
        return False
    found: bool = watch.see((yield Renew(provider, min(watch.left_s, WITHIN_S))))
    return found


def ask(watch: Watch, send: Send, task: Task | None) -> Flow[tuple[Heard, State | None]]:
    """Send what may be repeated freely, never a submit: once more with a new key where the old one was refused."""
    ends_s = watch.seconds + send.within_s
    heard: Heard = watch.see((yield send))
    state = understood(send.provider.adapter, heard, task)
    renewed = yield from has_new_key(watch, send.provider, state)
    left_s = ends_s - watch.seconds
    if renewed and left_s > 0:
        heard = watch.see((yield replace(send, within_s=left_s)))
        state = understood(send.provider.adapter, heard, task)
    return heard, state
