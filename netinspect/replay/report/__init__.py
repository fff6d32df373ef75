"""The report of a replay: one HTML page that stands by itself. `Report` is all that others need.

    records of a transaction ─▶ digest.Mail ─┬─▶ sums, timeline      what is counted over all of them
                                             └─▶ page.mail ─▶ HTML   kept as octets until the page is written

The page opens nothing: no font, script or picture from elsewhere, and a Content-Security-Policy that forbids it. It
reads without JavaScript; with it there are a filter and tables that can be sorted.
"""

from netinspect.replay.report.report import Report

__all__ = ["Report"]
