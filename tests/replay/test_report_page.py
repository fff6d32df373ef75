"""The report in a real browser: it asks for nothing, its filter works, and everybody can read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from netinspect.policy import Decision, EnvelopeFacts, Facts, MailFacts
from netinspect.replay.report import Report
from netinspect.scan.contract import Unscanned
from tests.browser import chromium
from tests.replay.test_report import ACCEPTED, CLEAN, FACTS, NOW, REFUSED, SESSION, made

HOSTILE = '"><script>document.title="taken"</script><img src=x onerror=\'document.title="taken"\'>'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve verdicts: one of each action, hostile texts, and hosts whose addresses begin with one another's."""
    page = Report()
    for count, action in enumerate(("accept", "tag", "disarm", "quarantine", "tempfail", "drop")):
        facts = replace(CLEAN, session=replace(SESSION, src_ip=f"192.0.2.1{count}", flow_id=count))
        page.add_records(made(facts, Decision(action, "why"), 60 * count, tx_id=1))  # type: ignore[arg-type]
    for count in range(2):
        page.add_records(
            made(FACTS, REFUSED, 500 + count, tx_id=count + 1, reply="550 5.7.1 refused"), capture="a.pcap"
        )
    hostile = MailFacts(HOSTILE, (HOSTILE,), HOSTILE, HOSTILE, (HOSTILE,))
    facts = replace(FACTS, session=replace(SESSION, helo=HOSTILE, src_ip="192.0.2.1"), mail=hostile)
    facts = replace(facts, envelope=EnvelopeFacts(HOSTILE, (HOSTILE,)))
    page.add_records(made(facts, replace(REFUSED, reason=HOSTILE)), capture=HOSTILE)
    unseen = Facts(replace(SESSION, src_ip="2001:db8::1"), unscanned=(Unscanned("replay", "encrypted"),))
    page.add_records(made(unseen, ACCEPTED))
    arabic = MailFacts("a@b", (), "نسخة \u202e من المحضر", "", ())
    page.add_records(made(replace(CLEAN, mail=arabic, session=replace(SESSION, flow_id=77)), ACCEPTED, 900))
    page.add_records(made(replace(CLEAN, session=replace(SESSION, src_ip="2001:db8::1:2", flow_id=78)), ACCEPTED, 1000))
    path = tmp_path_factory.mktemp("report") / "report.html"
    page.write(str(path), now=NOW, version="1.2.3")
    return path.as_uri()


@pytest.fixture
def opened(browser: Browser, report: str) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report)
    yield page
    page.close()
    # Holds for whatever a test did with the page.
    assert said == []
    assert [url.partition("#")[0] for url in asked] == [report]


def shown(page: Page) -> list[str]:
    ids: list[str] = page.locator(".m:not([hidden])").evaluate_all("all => all.map(one => one.id)")
    return ids


def search(page: Page, text: str, count: int) -> None:
    page.get_by_label("Search").fill(text)
    expect(page.get_by_role("status")).to_have_text(f"{count} of 12 verdicts fit")
    assert len(shown(page)) == count


def test_what_a_mail_holds_is_never_run(opened: Page) -> None:
    opened.get_by_role("button", name="Open all").click()
    assert opened.title() == "6 of 12 transactions stopped, netinspect report"
    assert opened.locator("img").count() == 0
    assert opened.locator("script").count() == 1


def test_typing_into_the_search_leaves_what_fits(opened: Page) -> None:
    expect(opened.get_by_role("status")).to_have_text("12 verdicts")
    search(opened, "EICAR", 3)
    search(opened, "eicar a.pcap", 2)
    search(opened, "192.0.2.1", 12)  # the server of all of them is 192.0.2.1
    search(opened, '"192.0.2.10"', 1)
    search(opened, '"2001:db8::1"', 1)
    search(opened, "2001:db8::1", 2)
    search(opened, "session:1", 1)
    search(opened, "(nothing[like+this", 0)
    opened.get_by_role("button", name="Reset").click()
    expect(opened.get_by_role("status")).to_have_text("12 verdicts")


def test_verdict_finding_and_state_are_filters(opened: Page) -> None:
    opened.get_by_label("Verdict", exact=True).select_option("tempfail")
    assert shown(opened) == ["m5"]
    opened.get_by_label("Verdict", exact=True).select_option("")
    opened.get_by_label("Finding", exact=True).select_option("malware")
    assert shown(opened) == ["m7", "m8", "m9"]
    opened.get_by_label("Finding", exact=True).select_option("*")
    opened.get_by_label("Show", exact=True).select_option("u")
    opened.get_by_label("Verdict", exact=True).select_option("accept")
    expect(opened.get_by_role("status")).to_have_text("0 of 12 verdicts fit")


def test_a_name_in_a_table_shows_what_it_is_about(opened: Page) -> None:
    opened.locator("#clients").get_by_role("button", name="2001:db8::1", exact=True).click()
    expect(opened.get_by_role("status")).to_have_text("1 of 12 verdicts fit")
    expect(opened.get_by_label("Search")).to_be_focused()
    opened.locator("#m10 summary").click()
    opened.locator("#m10").get_by_role("button", name="show all of it").click()
    assert shown(opened) == ["m10"]


def test_a_table_can_be_sorted(opened: Page) -> None:
    head = opened.locator("#clients th").filter(has=opened.get_by_role("button", name="Mails"))
    for order in ("descending", "ascending"):
        head.get_by_role("button").click()
        expect(head).to_have_attribute("aria-sort", order)
        cells = opened.locator("#clients tbody tr td:nth-child(3)").all_text_contents()
        assert [int(cell) for cell in cells] == sorted(map(int, cells), reverse=order == "descending")


def test_the_keyboard_reaches_a_session_and_opens_it(opened: Page) -> None:
    opened.keyboard.press("Tab")
    expect(opened.get_by_role("link", name="Skip to the sessions")).to_be_focused()
    expect(opened.get_by_role("link", name="Skip to the sessions")).to_be_in_viewport()
    opened.keyboard.press("Enter")
    for _ in range(12):
        opened.keyboard.press("Tab")
        ring = opened.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert ring != "none"
        if opened.evaluate("document.activeElement.tagName") == "SUMMARY":
            break
    expect(opened.locator("#m1 summary")).to_be_focused()
    opened.keyboard.press("Enter")
    expect(opened.locator("#m1 .x")).to_be_visible()
    opened.keyboard.press("Enter")
    expect(opened.locator("#m1 .x")).not_to_be_visible()


def test_a_link_to_an_entry_opens_it_even_where_the_filter_hides_it(opened: Page) -> None:
    search(opened, "tempfail", 1)
    opened.locator("#timeline details summary").click()
    opened.locator("#timeline table a").first.click()
    expect(opened.locator("#m1 summary")).to_be_focused()
    expect(opened.locator("#m1 .x")).to_be_visible()


def test_without_javascript_everything_is_there(browser: Browser, report: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report)
    expect(page.get_by_role("heading", name="Sessions")).to_be_visible()
    expect(page.locator(".m")).to_have_count(12)
    expect(page.locator("#filter")).not_to_be_visible()
    page.locator("#m7 summary").click()
    expect(page.locator("#m7 .x").get_by_text("Eicar-Test-Signature")).to_be_visible()
    context.close()


@pytest.mark.parametrize("width", [320, 400, 768])
def test_no_screen_is_too_narrow(opened: Page, width: int) -> None:
    opened.set_viewport_size({"width": width, "height": 700})
    opened.get_by_role("button", name="Open all").click()
    assert opened.evaluate("document.documentElement.scrollWidth") <= width


def test_on_paper_there_are_no_controls_and_all_rows_of_a_table(opened: Page) -> None:
    opened.emulate_media(media="print")
    expect(opened.locator("#filter")).not_to_be_visible()
    expect(opened.get_by_role("navigation")).not_to_be_visible()
    assert opened.locator(".scroll").evaluate_all("all => all.every(one => getComputedStyle(one).maxHeight === 'none')")


def test_nothing_moves_for_who_asked_for_that(opened: Page) -> None:
    motion = "getComputedStyle(document.documentElement).scrollBehavior"
    opened.emulate_media(reduced_motion="reduce")
    assert opened.evaluate(motion) == "auto"
    still = "one => getComputedStyle(one).transitionDuration === '0s'"
    assert opened.evaluate(f"[...document.querySelectorAll('*')].every({still})")


STRUCTURE = """() => {
  const wrong = [];
  const all = (query) => [...document.querySelectorAll(query)];
  const seen = (one) => one.checkVisibility();
  for (const one of all('th')) if (!one.scope) wrong.push('th without scope: ' + one.textContent);
  for (const one of all('table')) if (!one.caption) wrong.push('table without caption');
  for (const one of all('tbody tr')) if (!one.querySelector('th[scope=row]')) wrong.push('row without head');
  for (const row of all('tbody tr'))
    if (row.cells.length !== row.closest('table').tHead.rows[0].cells.length) wrong.push('cells: ' + row.textContent);
  for (const one of all('input, select')) if (!one.labels.length) wrong.push('no label: ' + one.id);
  for (const one of all('button, a[href], summary'))
    if (!one.textContent.trim() && !one.closest('[aria-hidden]')) wrong.push('no name: ' + one.outerHTML);
  for (const one of all('[aria-labelledby], [aria-describedby]'))
    for (const id of [one.getAttribute('aria-labelledby'), one.getAttribute('aria-describedby')])
      if (id && !document.getElementById(id)) wrong.push('no element ' + id);
  const ids = all('[id]').map((one) => one.id);
  if (new Set(ids).size !== ids.length) wrong.push('an id twice');
  for (const one of all('a[href^="#"]'))
    if (!document.getElementById(one.getAttribute('href').slice(1))) wrong.push('dead link');
  let before = 0;
  for (const one of all('h1, h2, h3, h4').filter(seen)) {
    const level = Number(one.tagName[1]);
    if (level > before + 1) wrong.push('heading jumps: ' + one.textContent);
    before = level;
  }
  if (all('h1').length !== 1 || all('main').length !== 1) wrong.push('one h1, one main');
  for (const one of all('header, nav, main, footer')) if (!seen(one)) wrong.push('landmark hidden');
  for (const one of all('section')) if (!one.hasAttribute('aria-labelledby')) wrong.push('section without name');
  if (!document.documentElement.lang) wrong.push('no language');
  for (const one of all('[tabindex]')) if (one.tabIndex > 0) wrong.push('tabindex above 0');
  for (const one of all('[aria-hidden] a, [aria-hidden] button'))
    if (one.tabIndex !== -1) wrong.push('focus in hidden part');
  for (const one of all('svg')) if (!one.hasAttribute('aria-hidden')) wrong.push('svg is read aloud');
  return wrong;
}"""


def test_the_structure_is_one_that_a_screen_reader_can_use(opened: Page) -> None:
    opened.get_by_role("button", name="Open all").click()
    assert opened.evaluate(STRUCTURE) == []
    assert opened.get_by_role("status").get_attribute("aria-live") == "polite"


CONTRAST = """() => {
  const parse = (text) => {
    const p = text.match(/[\\d.]+/g).map(Number);
    return { rgb: p.slice(0, 3), a: p[3] ?? 1 };
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => {
    const [x, y] = [light(a), light(b)];
    return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
  };
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const { rgb, a } = parse(getComputedStyle(one).backgroundColor);
      if (a === 1) return rgb;
      if (a !== 0) throw new Error('half transparent');
    }
    return [255, 255, 255];
  };
  const wrong = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let number = 0;
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !one.checkVisibility() || one.closest('script, style, .h, svg')) continue;
    number += 1;
    const style = getComputedStyle(one);
    const size = parseFloat(style.fontSize);
    const enough = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    const got = ratio(parse(style.color).rgb, behind(one));
    if (got < enough) wrong.add(`${one.tagName}.${one.className} ${got.toFixed(2)}: ${walker.currentNode.data}`);
  }
  for (const one of document.querySelectorAll('rect:not(.hit)')) {
    const got = ratio(parse(getComputedStyle(one).fill).rgb, behind(one.closest('section')));
    if (got < 3) wrong.add(`${one.getAttribute('class')} ${got.toFixed(2)}`);
  }
  return [number, [...wrong]];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough_in_both_schemes(opened: Page, scheme: Any) -> None:
    """WCAG 2.2: 1.4.3 for text (4.5, large 3), 1.4.11 for what is drawn (3)."""
    opened.emulate_media(color_scheme=scheme)
    opened.get_by_role("button", name="Open all").click()
    number, wrong = opened.evaluate(CONTRAST)
    assert number > 300
    assert wrong == []


def test_ten_screens_of_verdicts_are_laid_out_in_blocks(browser: Browser, tmp_path: Path) -> None:
    report = Report()
    for count in range(400):
        report.add_records(made(replace(CLEAN, session=replace(SESSION, flow_id=count)), ACCEPTED, count))
    path = tmp_path / "long.html"
    report.write(str(path), now=NOW, version="1")
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.locator("#mails > ol").count() == 8
    page.get_by_label("Search").fill("session:399")
    expect(page.get_by_role("status")).to_have_text("1 of 400 verdicts fit")
    assert page.locator("#mails > ol:not([hidden])").count() == 1
    page.close()
