"""Every exception that netinspect raises on purpose.

    NetinspectError                 one line for the user: what, where, remedy
    ├── ConfigError                 netinspect.toml or an option is wrong
    ├── EnvironmentFault            this machine cannot do what was asked (port taken, package missing)
    ├── EngineError                 an engine could not be built (bad rule file, bad hash list)
    └── CaptureError                a file to replay is no capture

Malformed mail is never an exception: it is an `Anomaly` value. A scanner that gives no answer is
never an exception either: it is an `Unscanned` value.
"""

from __future__ import annotations


class NetinspectError(Exception):
    """Base of all. `str()` of it is one line that names the place and, if there is one, the remedy."""

    def __init__(self, message: str, *, place: str = "", remedy: str = "") -> None:
        self.message = message
        self.place = place
        self.remedy = remedy
        super().__init__(message)

    def __str__(self) -> str:
        head = f"{self.place}: {self.message}" if self.place else self.message
        return f"{head}; {self.remedy}" if self.remedy else head


class ConfigError(NetinspectError):
    """A setting is wrong; `place` is `FILE:LINE` or the option's name."""


class EnvironmentFault(NetinspectError):
    """The machine cannot do what was asked: a port is taken, a program or a privilege is missing."""


class EngineError(NetinspectError):
    """A scan engine cannot be built from what it was given; `place` names the file and line."""


class CaptureError(NetinspectError):
    """A file is no capture, or one nobody here can read; `place` is the file."""
