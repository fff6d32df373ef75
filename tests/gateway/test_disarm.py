"""A message to be disarmed: the original is kept first, the rewritten one goes on, and never the one that came."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.proxy import commands

from netinspect.config import Settings
from netinspect.config.schema import GatewaySettings, QuarantineSettings
from netinspect.gateway import hooks, replies
from netinspect.gateway.services import Services
from netinspect.inspector import Judgement
from netinspect.policy import Decision
from netinspect.smtp.events import Envelope, MessageEnd
from netinspect.store.quarantine import Quarantine
from tests.gateway.play import BODY, Play
from tests.test_disarming import DOCUMENT, SESSION, Engines, inspector, mail, part

DISARM = Decision("disarm", "test", headers=(("X-Netinspect-Action", "disarm"),), rules=("test",))
HEADER = b"X-Netinspect-Action: disarm\r\n"
REWRITTEN = b"X-Netinspect-Action: accept\r\nSubject: x\r\n\r\n.rewritten\r\n"


@dataclass
class Disarming(Play):
    """A session whose judgement disarms. `kept`: the quarantine works; `late`: an addon says disarm after all else."""

    decision: Decision | None = DISARM
    rewritten: bytes = REWRITTEN
    kept: bool = True
    late: Decision | None = None

    def _do(self, command: commands.Command) -> None:
        if isinstance(command, hooks.SmtpStoreHook):
            command.flow.stored = self.kept
        if isinstance(command, hooks.SmtpVerdictHook) and self.late is not None:
            command.flow.decision = self.late
        super()._do(command)

    def _judge(self, hook: hooks.SmtpMessageHook) -> None:
        super()._judge(hook)
        inspection = hook.flow.inspection
        if inspection is not None and self.rewritten:
            inspection.rewritten = inspection._inspector.new_spool()
            inspection.rewritten.write(self.rewritten)
            self.inspection = inspection

    def data(self) -> bytes:
        """Send the message with DATA; what the client is told, unless the server gets it."""
        self.greet().envelope()
        self.client(b"DATA\r\n")
        return self.client(BODY + b".\r\n")


def test_with_data_the_server_gets_the_rewritten_message_and_our_header() -> None:
    play = Disarming()
    assert play.data() == b""
    assert play.asked.index("smtp_store") > play.asked.index("smtp_verdict")
    assert play.server(b"354 go\r\n") == HEADER + b"Subject: x\r\n\r\n..rewritten\r\n.\r\n"
    play.server(b"250 queued\r\n")
    assert play.to_client.endswith(b"250 queued\r\n")
    verdict = play.verdicts()[-1]
    assert (verdict["action"], verdict["reply"]) == ("disarm", "250 queued")
    assert play.inspection.rewritten is None, "closed with the message"


def test_with_bdat_the_size_is_that_of_the_rewritten_message() -> None:
    play = Disarming().greet().envelope()
    play.client(b"BDAT %d LAST\r\n" % len(BODY) + BODY)
    sent = HEADER + b"Subject: x\r\n\r\n.rewritten\r\n"
    assert play.to_server == b"BDAT %d LAST\r\n" % len(sent) + sent


def test_a_message_whose_original_cannot_be_kept_is_deferred() -> None:
    play = Disarming(kept=False)
    assert play.data().startswith(b"451 ")
    assert b"DATA" not in play.to_server
    assert play.verdicts()[-1]["action"] == "tempfail"


@pytest.mark.parametrize("late", [None, DISARM], ids=["judgement", "addon"])
def test_a_message_that_nobody_rewrote_is_deferred(late: Decision | None) -> None:
    play = Disarming(rewritten=b"", late=late, decision=Decision("accept") if late else DISARM)
    assert play.data().startswith(b"451 ")
    assert b"DATA" not in play.to_server
    assert play.verdicts()[-1]["reason"] == "not disarmed"


def test_an_addon_may_still_refuse_what_was_disarmed() -> None:
    play = Disarming(late=Decision("reject", "mine", 550, "5.7.1", "No"))
    assert play.data().startswith(b"550 ")
    assert "smtp_store" not in play.asked


def test_what_is_smuggled_is_not_disarmed() -> None:
    play = Disarming().greet().envelope()
    play.client(b"DATA\r\n")
    assert play.client(BODY + b"\n.\nmore\r\n.\r\n").startswith(b"550 ")
    assert b"DATA" not in play.to_server


@pytest.mark.parametrize("answer", [250, 550])
def test_octets_that_have_flowed_on_cannot_be_disarmed_and_go_to_quarantine(answer: Any) -> None:
    settings = Settings(
        gateway=GatewaySettings(delivery="cut-through"), quarantine=QuarantineSettings(answer=answer)
    )
    play = Disarming(settings=settings, decision=Decision("accept"), late=DISARM).greet().envelope()
    policy = replace(play.layer.services.inspector.policy, quarantine=Decision("quarantine", "", answer, "2.0.0", "Ok"))
    play.layer.services.inspector.policy = policy
    play.client(b"DATA\r\n")
    play.server(b"354 go\r\n")
    told = play.client(BODY + b".\r\n")
    assert told.startswith(str(answer).encode())
    assert b"\r\n.\r\n" not in play.to_server
    assert "server" in play.closed
    assert play.verdicts()[-1]["action"] == "quarantine"


@given(cuts=st.lists(st.integers(0, 60), max_size=5), late=st.booleans(), kept=st.booleans(), done=st.booleans())
def test_however_it_comes_the_original_is_never_delivered(
    cuts: list[int], late: bool, kept: bool, done: bool
) -> None:
    play = Disarming(kept=kept, rewritten=REWRITTEN if done else b"", late=DISARM if late else None)
    play.greet().envelope()
    play.client(b"DATA\r\n")
    octets = BODY + b".\r\n"
    edges = [0, *sorted({min(cut, len(octets)) for cut in cuts}), len(octets)]
    for start, stop in itertools.pairwise(edges):
        play.client(octets[start:stop])
    if play.to_server.endswith(b"DATA\r\n"):
        play.server(b"354 go\r\n")
        play.server(b"250 ok\r\n")
    assert (b"rewritten" in play.to_server) is (kept and done)
    assert b"hello" not in play.to_server


# --- what an addon wants disarmed ---------------------------------------------------------------------------------


class Kept:
    """A message judged by somebody else's rule, whose decision an addon has changed to disarm."""

    def __init__(self, folder: Path, raw: bytes, *, judged: bool = True) -> None:
        made = inspector(Engines())
        settings = Settings(quarantine=QuarantineSettings(directory=str(folder)))
        services = Services(settings, made, cast(Any, None), Quarantine(folder))
        inspection = made.begin(SESSION)
        inspection.feed(raw)
        inspection.end(Envelope(), MessageEnd(len(raw)))
        self.flow = hooks.SmtpFlow(cast(Any, None), cast(Any, None), SESSION, inspection=inspection)

        async def run() -> None:
            if judged:
                judgement = await inspection.judge()
                inspection._forget_rewritten()
                self.flow.judgement = replace(judgement, decision=Decision("accept"))
            self.flow.decision = Decision("disarm", "mine", rules=("mine",))
            await services.store(self.flow)

        asyncio.run(run())
        assert self.flow.decision is not None
        self.decision = self.flow.decision
        self.message = inspection.rewritten.getvalue() if inspection.rewritten else b""
        self.stored = [path.read_bytes() for path in folder.rglob("message.eml")]
        inspection.close()


def test_what_an_addon_wants_disarmed_is_disarmed_before_it_is_kept(tmp_path: Path) -> None:
    raw = mail(part(DOCUMENT, "a.docm"))
    kept = Kept(tmp_path, raw)
    assert (kept.decision.action, kept.decision.rules, kept.flow.stored) == ("disarm", ("mine",), True)
    assert kept.stored == [raw]
    assert kept.message != raw
    assert len(kept.message) < len(raw)
    assert isinstance(kept.flow.judgement, Judgement)
    assert kept.flow.judgement.decision == kept.decision


def test_what_an_addon_wants_disarmed_and_cannot_be_goes_to_quarantine(tmp_path: Path) -> None:
    signature = b"Content-Type: application/pkcs7-signature; name=smime.p7s\r\n\r\nMIIC\r\n"
    kept = Kept(tmp_path, mail(part(DOCUMENT, "a.docm"), signature))
    assert (kept.decision.action, kept.flow.stored, kept.message) == ("quarantine", True, b"")


def test_what_nobody_judged_is_not_disarmed(tmp_path: Path) -> None:
    kept = Kept(tmp_path, mail(part(DOCUMENT, "a.docm")), judged=False)
    assert (kept.decision.action, kept.flow.stored, kept.stored) == ("tempfail", False, [])
    assert kept.decision.reason == replies.NOT_DISARMED.reason


def test_a_mail_with_nothing_in_it_is_tagged_and_not_kept(tmp_path: Path) -> None:
    kept = Kept(tmp_path, mail(part(b"harmless", "a.txt")))
    assert (kept.decision.action, kept.stored) == ("tag", [])
