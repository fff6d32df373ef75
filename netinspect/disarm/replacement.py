"""The text that stands where a part was: what was removed, why, and how to ask for it.

Plain text in UTF-8 with CRLF. What comes out of the mail (the name) is shown without anything that a terminal or a
mail program would obey.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from netinspect.disarm.contract import Removal
from netinspect.mime.structured import file_name

_NAME: Final = 200
_LINES: Final = 20
_LINE: Final = 200

_TURNING: Final = {code: "\ufffd" for code in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def shown(text: str, limit: int = _LINE) -> str:
    """`text` on one line: control characters and those that turn the direction are replaced, the middle of a long one
    is cut out."""
    return file_name(text, limit).translate(_TURNING)


def text_for(name: str, reasons: Sequence[str | Removal], incident_id: str) -> bytes:
    """The text for a part called `name` (`""`: it had none), with the `reasons` why it was removed as a whole."""
    what = f'The attachment "{shown(name, _NAME)}"' if name else "A part of this message"
    lines = [
        f"{what} was removed because it may do harm.",
        "",
        "Reason:" if len(reasons) == 1 else "Reasons:",
        *(f"  - {_reason(reason)}" for reason in reasons[:_LINES]),
    ]
    if not reasons:
        lines[2:] = []
    elif len(reasons) > _LINES:
        lines.append(f"  - and {len(reasons) - _LINES} more")
    if lines[-1]:
        lines.append("")
    lines += [
        "The original message was kept. Your administrator can be asked for it under this id:",
        f"  {shown(incident_id)}",
        "",
    ]
    return "\r\n".join(lines).encode("utf-8")


def _reason(reason: str | Removal) -> str:
    if isinstance(reason, str):
        return shown(reason)
    return shown(f"{reason.what} ({reason.where})" if reason.where else reason.what)
