"""Asks addons: mitmproxy's hooks, with a short way for what happens in every session."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from mitmproxy import exceptions
from mitmproxy.addonmanager import AddonManager, safecall
from mitmproxy.proxy import commands

Handler = Callable[..., Awaitable[None]]


class Hooks:
    """Runs mitmproxy hooks; knows which of them nobody listens to, and which only one addon does."""

    def __init__(self, addons: AddonManager) -> None:
        self._addons = addons
        self._listeners: dict[str, list[Any]] = {}
        self._sole: dict[str, tuple[Handler, tuple[str, ...]] | None] = {}
        self._known = -1

    def wanted(self, name: str) -> bool:
        """Whether any addon implements this hook."""
        return bool(self._who(name))

    def _who(self, name: str) -> list[Any]:
        if len(self._addons.lookup) != self._known:
            self._listeners.clear()
            self._sole.clear()
            self._known = len(self._addons.lookup)
        answer = self._listeners.get(name)
        if answer is None:
            answer = self._listeners[name] = [addon for addon in self._addons.lookup.values() if hasattr(addon, name)]
        return answer

    async def run(self, hook: commands.StartHook) -> None:
        """Run one hook through all addons, as mitmproxy does: in order, each awaited, a fault of one logged.

        mitmproxy walks all addons and their children each time; where one alone listens, it is called directly.
        """
        sole = self._alone(hook)
        if sole is None:
            await self._addons.trigger_event(hook)
            return
        handler, names = sole
        with contextlib.suppress(exceptions.AddonHalt), safecall():
            await handler(*[getattr(hook, name) for name in names])

    def _alone(self, hook: commands.StartHook) -> tuple[Handler, tuple[str, ...]] | None:
        name = hook.name
        listeners = self._who(name)
        if name not in self._sole:
            handler = getattr(listeners[0], name) if len(listeners) == 1 else None
            fields = tuple(one.name for one in dataclasses.fields(hook))  # type: ignore[arg-type]  # a StartHook is one
            self._sole[name] = (handler, fields) if inspect.iscoroutinefunction(handler) else None
        return self._sole[name]
