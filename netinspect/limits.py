"""Every bound that protects memory and time, with the source of its default.

One frozen object is handed down from the configuration to whatever needs it; nothing reads a global.
Sizes are octets unless the name says otherwise, times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """All bounds. The defaults are what RFCs ask for at least and what Postfix or ClamAV use in practice."""

    # --- SMTP -------------------------------------------------------------------------------------------------
    command_line: int = 4096
    """A command line with its CRLF. RFC 5321 §4.5.3.1.4 says 512, extensions add to it; Postfix takes 2048."""
    auth_line: int = 12_288
    """An AUTH exchange's line. RFC 4954 §4 (12288 octets)."""
    reply_line: int = 2048
    """One line of a reply. RFC 5321 §4.5.3.1.5 says 512; servers in the field send more."""
    reply_lines: int = 128
    """Lines in one reply."""
    recipients: int = 1000
    """Recipients in one transaction. RFC 5321 §4.5.3.1.8 says at least 100; Postfix smtpd_recipient_limit is 1000."""
    message_size: int = 52_428_800
    """Octets of one message (announced with SIZE). Postfix message_size_limit is 10 MiB, most sites raise it."""
    pipeline_backlog: int = 65_536
    """Octets a client may have sent that cannot be handled yet (RFC 2920 §3.1: a client must bound its window)."""
    pipeline_commands: int = 256
    """Commands forwarded and not yet answered."""
    errors_per_session: int = 20
    """Unknown or refused commands before the session is closed. Postfix smtpd_hard_error_limit."""

    # --- spool ------------------------------------------------------------------------------------------------
    spool_memory: int = 4_194_304
    """One message or leaf stays in memory up to this; above it goes to disk."""
    spool_memory_total: int = 67_108_864
    """All spools of the process together in memory; when used up, what arrives next goes to disk at once."""

    # --- MIME -------------------------------------------------------------------------------------------------
    header_bytes: int = 1_048_576
    """One header block. Postfix header_size_limit is 102400; the rest of a longer block is not interpreted."""
    header_count: int = 5_000
    """Fields in one header block."""
    mime_depth: int = 100
    """Nesting of multiparts and messages; deeper parts are kept as one unread leaf. Postfix: 100."""
    mime_parts: int = 10_000
    """Parts of one message."""
    mime_readings: int = 256
    """Contents that other readings of an ambiguous message add to those of the first. Ordinary messages have none."""
    name_length: int = 1024
    """Characters of a file name that are kept."""

    # --- files ------------------------------------------------------------------------------------------------
    archive_depth: int = 12
    """Archives in archives. ClamAV MaxRecursion is 17."""
    archive_members: int = 10_000
    """Members of all archives of one leaf. ClamAV MaxFiles."""
    archive_bytes: int = 200_000_000
    """Unpacked octets of one leaf. ClamAV MaxScanSize is 400 MB."""
    archive_held: int = 150_000_000
    """Octets that are in memory one inside the other: a leaf, the archive in it, the member in that. A worker holds
    80 MB of its own and stays below 256 MB with it (measured on nested archives, tests/scan/test_bombs.py)."""
    member_bytes: int = 100_000_000
    """Unpacked octets of one member. ClamAV MaxFileSize."""
    archive_ratio: int = 250
    """Unpacked over packed size of one member, looked at from `archive_ratio_floor` on. amavis uses 100..500."""
    archive_ratio_floor: int = 1_048_576
    """Below this size a high ratio is harmless (a blank page compresses well)."""

    unpack_time: float = 10.0
    """CPU seconds for the unpacking and the look at one leaf's tree; less than `worker_cpu`, which kills."""
    password_tries: int = 150
    """Passwords tried on all that is encrypted in one leaf. One costs up to 0.1 s (key derivation)."""

    # --- workers ----------------------------------------------------------------------------------------------
    worker_memory: int = 268_435_456
    """Address space a worker may add to what it has at start."""
    worker_cpu: int = 20
    """CPU seconds for one job."""
    worker_time: float = 30.0
    """Wall seconds for one job."""
    scan_time: float = 60.0
    """Wall seconds for the judgement of one message, all engines. RFC 5321 §4.5.3.2.6: a client waits 10 minutes."""
    cache_entries: int = 10_000
    """Examined contents remembered by SHA-256."""
