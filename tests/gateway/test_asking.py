"""Hooks run as mitmproxy runs them, also on the short way to a sole listener."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Callable

import pytest
from mitmproxy import exceptions, options

from netinspect.gateway.asking import Hooks
from netinspect.gateway.hooks import SmtpFlow, SmtpMessageHook

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # mitmproxy's filters use old names of pyparsing
    from mitmproxy.master import Master


class Addon:
    def __init__(self, name: str, does: Callable[[], None]) -> None:
        self.name = name
        self.does = does

    async def smtp_message(self, flow: SmtpFlow) -> None:
        await asyncio.sleep(0)
        flow.metadata[self.name] = True
        self.does()


class Plain(Addon):
    def smtp_message(self, flow: SmtpFlow) -> None:  # type: ignore[override]
        flow.metadata[self.name] = True
        self.does()


def nothing() -> None:
    pass


def run(*addons: object) -> dict[str, object]:
    flow = SmtpFlow(None, None, None)  # type: ignore[arg-type]

    async def main() -> None:
        master = Master(options.Options())
        hooks = Hooks(master.addons)
        assert not hooks.wanted("smtp_message")
        for addon in addons:
            master.addons.add(addon)
            await hooks.run(SmtpMessageHook(flow))  # who listens is found out anew
        assert hooks.wanted("smtp_message") == bool(addons)
        flow.metadata.clear()
        await hooks.run(SmtpMessageHook(flow))

    asyncio.run(main())
    return flow.metadata


@pytest.mark.parametrize("kind", [Addon, Plain])
def test_a_sole_listener_is_asked_and_awaited(kind: type[Addon]) -> None:
    assert run(kind("one", nothing)) == {"one": True}


def test_several_are_asked_in_their_order() -> None:
    assert list(run(Addon("one", nothing), Plain("two", nothing))) == ["one", "two"]


@pytest.mark.parametrize("kind", [Addon, Plain])
def test_a_fault_of_a_sole_listener_is_logged_and_goes_no_further(
    kind: type[Addon], caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise KeyError("mine")

    with caplog.at_level(logging.ERROR):
        assert run(kind("one", fail)) == {"one": True}
    assert "Addon error: 'mine'" in caplog.text


@pytest.mark.parametrize("kind", [Addon, Plain])
def test_a_sole_listener_may_halt(kind: type[Addon]) -> None:
    def halt() -> None:
        raise exceptions.AddonHalt

    assert run(kind("one", halt)) == {"one": True}
