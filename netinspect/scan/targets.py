"""Where the target of a link or template lies: on this machine, or somewhere else."""

from __future__ import annotations

import re

# In a field every backslash is written twice, so a server may begin with four.
# `file:///` with a drive is this machine (templates are kept so in honest documents); two or four are a server.
_REMOTE = re.compile(
    r"(?:https?|ftp|webdav|mhtml|script|ms-[a-z-]+):|\\{2,}[^\\]|//[^/]|file:/{0,1}/[^/]|file:/{4,}|file:\\\\",
    re.IGNORECASE,
)


def is_remote(target: str) -> bool:
    """Whether opening `target` asks another machine."""
    return _REMOTE.match(target.strip().strip('"')) is not None
