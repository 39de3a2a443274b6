"""The fake provider in place of the network: an adapter among those installed, and transports without sockets."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import partialmethod
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import httpx
import pytest

from anykontext import plugins
from anykontext.engine.effects import Loss, Lost, Upload
from anykontext.io import drive_async, drive_sync
from anykontext.io.addresses import Forbidden
from anykontext.model.request import MODELS
from anykontext.testing.fake.service import PRICE, Fake
from anykontext.testing.isolated import forget_shared, isolated

DOMAIN = ".fake.invalid"  # no name below .invalid exists (RFC 2606)
ENTRY_POINT = EntryPoint("fake", "anykontext.testing.fake.adapter", plugins.GROUP)


class Instead:
    """Stands before an attribute of every instance, those made before too; what they set is theirs again later."""

    def __init__(self, name: str, value: object) -> None:
        self._name = name
        self._value = value

    def __get__(self, instance: object, owner: type) -> Any:
        return self._value

    def __set__(self, instance: object, value: object) -> None:
        vars(instance)[self._name] = value


@contextmanager
def faking(folder: Path, providers: Sequence[str] = ("fake",), config: str = "") -> Iterator[Fake]:
    """Let every client in this process speak with the fake, those made before and with another configuration, too.

    Args:
        folder: An empty one, for the configuration and the home folder.
        providers: The names under which the fake is configured.
        config: Further settings of the configuration, as TOML.
    """
    installed = plugins._installed
    with pytest.MonkeyPatch.context() as patch:
        _cut_off(patch)
        patch.setattr(plugins, "_installed", lambda: [*installed(), ENTRY_POINT])
        with isolated(patch, folder, _toml(providers, PRICE, config)) as file:

            def write(price: Decimal | None) -> None:
                file.write_text(_toml(providers, price, config), encoding="utf-8")
                forget_shared()

            fake = Fake(write)
            _reach(patch, fake)
            yield fake


def _reach(patch: pytest.MonkeyPatch, fake: Fake) -> None:
    """Put the fake's transports into the drivers."""

    def handle(request: httpx.Request) -> httpx.Response:
        host = request.url.host
        if not host.endswith(DOMAIN):
            raise Forbidden(_refusal(host))
        provider = host.removesuffix(DOMAIN)
        status, said, headers = fake.answer(provider, request.method, request.url.path, request.content)
        return httpx.Response(status, headers=headers, stream=httpx.ByteStream(json.dumps(said).encode()))

    transport = httpx.MockTransport(handle)
    clients = {
        drive_sync.SyncDriver: httpx.Client(transport=transport, trust_env=False),
        drive_async.AsyncDriver: httpx.AsyncClient(transport=transport, trust_env=False),
    }
    for driver, client in clients.items():
        patch.setattr(driver, "_http", Instead("_http", client), raising=False)
        patch.setattr(driver, "_own", Instead("_own", value=False), raising=False)  # so that it is never closed
        patch.setattr(driver, "keyless", partialmethod(_only, client))


def _only(_driver: object, client: object, _url: str, _provider: object) -> object:
    """The client for links: there is only the one."""
    return client


def _cut_off(patch: pytest.MonkeyPatch) -> None:
    """Close the other way out: the uploads by a vendor's SDK."""

    def refused(effect: Upload, used: object = None) -> Lost:  # noqa: ARG001 - no key is used
        return Lost(Loss.FORBIDDEN, _refusal(effect.provider.name))

    for module in (drive_sync, drive_async):
        patch.setattr(module, "uploaded", refused)


def _refusal(whom: str) -> str:
    return f"the fixture anykontext_fake lets nothing out, and this was for {whom}"


def _toml(providers: Sequence[str], price: Decimal | None, more: str) -> str:
    # The sandbox's key is the one that may stand in a file without a warning.
    prices = "" if price is None else ", ".join(f'"{name}" = {price:f}' for name in MODELS)
    sections = (
        "\n".join(
            [
                f"[providers.{name}]",
                'adapter = "fake"',
                'api_key = "sandbox"',
                f'base_url = "https://{name}{DOMAIN}"',
                f"prices = {{ {prices} }}",
            ]
        )
        for name in providers
    )
    return "\n\n".join([more, *sections])
