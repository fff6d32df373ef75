"""MIME, incremental: octets of a message in, decoded leaves with their SHA-256 and anomalies out.

Sans-IO but for the spools that it is given: opens no file, reads no clock, logs nothing.
"""

from netinspect.mime.headers import Headers
from netinspect.mime.parser import MimeParser
from netinspect.mime.part import Leaf, Part
from netinspect.mime.summary import MailSummary

__all__ = ["Headers", "Leaf", "MailSummary", "MimeParser", "Part"]
