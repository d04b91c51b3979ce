"""What a person does on the page, from the first visit to the history."""

from __future__ import annotations

import time
from collections.abc import Callable

from playground.pages.text import say
from tests.browser.conftest import Person, Served
from tests.fakes import REPLIES, FakeEngine, FakeReadiness

Serve = Callable[..., Served]
Visit = Callable[..., Person]
TUNED = REPLIES["answercarefully-sample"]


def eventually(condition: Callable[[], bool], seconds: float = 90) -> bool:
    """Whether the condition comes true; browsers and servers take their time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def shown(person: Person, selector: str) -> str:
    return person.page.inner_text(selector)


# ---- the first visit ----


def test_the_entry_warning_holds_the_focus_is_accepted_by_key_and_is_remembered(serve: Serve, visit: Visit):
    person = visit(serve()).open(accept=False)
    page = person.page
    page.wait_for_selector("#content-warning[open]")
    assert page.evaluate("document.activeElement.id") == "accept-warning"
    page.keyboard.press("Escape")
    assert page.is_visible("#content-warning")
    for _ in range(3):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')")
    page.focus("#accept-warning")
    page.keyboard.press("Enter")
    page.wait_for_selector("#content-warning", state="hidden")
    page.reload()
    page.wait_for_selector("#send")
    assert not page.is_visible("#content-warning")


def test_one_click_gives_two_judged_responses_that_can_be_voted_on(serve: Serve, visit: Visit):
    person = visit(serve()).open()
    assert person.page.input_value("#question textarea") == say("ja", "first.question")
    person.ask()
    person.wait_for_verdicts()
    assert shown(person, "#answer-left .reply") == REPLIES["general"]
    assert shown(person, "#answer-right .reply") == TUNED
    assert shown(person, "#verdict-left .score b") == "2"
    assert shown(person, "#verdict-right .score b") == "5"
    person.page.click("#vote-right")
    person.page.wait_for_selector("#vote-note .done")
    assert person.page.is_disabled("#vote-left")
    assert person.outside == [] and person.errors == []


def test_a_question_sent_while_the_model_loads_is_answered_when_it_is_ready(serve: Serve, visit: Visit):
    readiness = FakeReadiness(loading=1_000_000)
    person = visit(serve(readiness=readiness)).open()
    person.ask()
    person.page.wait_for_selector("#readiness .banner")
    person.page.wait_for_selector("#answer-left .waiting:has-text('40%')")
    readiness.loading = 0
    person.wait_for_answers()
    person.page.wait_for_selector("#readiness .banner", state="detached")
    assert shown(person, "#answer-right .reply") == TUNED


# ---- typing ----

SAFARI = """() => {
    const box = document.querySelector('#question textarea');
    box.dispatchEvent(new CompositionEvent('compositionend', {bubbles: true}));
    for (const type of ['keydown', 'keypress']) {
        box.dispatchEvent(new KeyboardEvent(type, {key: 'Enter', keyCode: type === 'keydown' ? 229 : 13, bubbles: true, cancelable: true}));
    }
}"""


def test_the_enter_that_confirms_a_conversion_does_not_send(serve: Serve, visit: Visit):
    served = serve()
    person = visit(served).open()
    page = person.page
    page.fill("#question textarea", "")
    page.focus("#question textarea")
    keys = page.context.new_cdp_session(page)
    keys.send("Input.imeSetComposition", {"text": "しつもん", "selectionStart": 4, "selectionEnd": 4})
    enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229, "text": "\r"}
    keys.send("Input.dispatchKeyEvent", {"type": "keyDown", **enter})
    keys.send("Input.insertText", {"text": "質問"})
    keys.send("Input.dispatchKeyEvent", {"type": "keyUp", **enter})
    page.wait_for_timeout(400)
    assert served.engine.requests == []
    page.keyboard.press("Shift+Enter")
    page.keyboard.insert_text("二行目")
    page.wait_for_timeout(200)
    assert served.engine.requests == []
    page.keyboard.press("Enter")
    assert eventually(lambda: len(served.engine.requests) == 2)
    assert served.engine.requests[0].messages[-1].content == "質問\n二行目"


def test_the_enter_that_safari_reports_after_the_conversion_does_not_send_either(serve: Serve, visit: Visit):
    served = serve()
    person = visit(served).open()
    person.page.focus("#question textarea")
    person.page.evaluate(SAFARI)
    person.page.wait_for_timeout(500)
    assert served.engine.requests == []
    person.page.keyboard.press("Enter")
    assert eventually(lambda: len(served.engine.requests) == 2)


# ---- while it runs ----


def test_stop_ends_both_sides_and_says_so(serve: Serve, visit: Visit):
    served = serve(engine=FakeEngine(delay_s=0.25))
    person = visit(served).open()
    person.ask()
    person.page.wait_for_selector("#answer-left .reply:has-text('相')")
    person.page.click("#stop")
    person.wait_for_answers()
    assert say("ja", "status.cancelled") in shown(person, "#answer-left .status")
    assert say("ja", "status.cancelled") in shown(person, "#answer-right .status")
    assert eventually(lambda: served.engine.active == 0)


def test_stopping_one_side_leaves_the_other_writing(serve: Serve, visit: Visit):
    served = serve(engine=FakeEngine(delay_s=0.25))
    person = visit(served).open()
    person.ask()
    person.page.wait_for_selector("#answer-left .reply:has-text('相')")
    person.page.click("#stop-left")
    person.wait_for_answers()
    assert say("ja", "status.cancelled") in shown(person, "#answer-left .status")
    assert shown(person, "#answer-right .reply") == TUNED


def test_reloading_in_the_middle_frees_the_engine_and_the_next_question_is_answered(serve: Serve, visit: Visit):
    served = serve(engine=FakeEngine(delay_s=0.2))
    person = visit(served).open()
    person.ask()
    person.page.wait_for_selector("#answer-left .reply:has-text('相')")
    person.page.reload()
    assert eventually(lambda: served.engine.active == 0)
    served.engine.delay_s = 0.005
    person.page.wait_for_selector("#send")
    person.ask()
    person.wait_for_verdicts()
    assert shown(person, "#answer-right .reply") == TUNED


def test_a_failing_side_is_said_in_its_pane_and_the_other_is_whole(serve: Serve, visit: Visit):
    person = visit(serve(engine=FakeEngine(failing=frozenset({"general"})))).open()
    person.ask()
    person.page.wait_for_selector("#answer-left .problem:has-text('メモリが足りなくなりました')")
    person.page.wait_for_selector("#answer-right .foot")
    assert shown(person, "#answer-right .reply") == TUNED


def test_a_prompt_past_the_context_stays_in_the_box_with_the_reason_below_it(serve: Serve, visit: Visit):
    person = visit(serve(engine=FakeEngine(longest=100))).open()
    person.ask("長" * 150)
    person.page.wait_for_selector(".composer .problem:has-text('100 字以内')")
    given_back = "document.querySelector('#question textarea').value"
    person.page.wait_for_function(f"{given_back} !== ''")
    assert person.page.evaluate(given_back) == "長" * 150


def test_what_is_typed_while_a_question_is_refused_stays(serve: Serve, visit: Visit):
    person = visit(serve(engine=FakeEngine(longest=100))).open()
    person.page.evaluate(
        """() => new MutationObserver(() => {
            const box = document.querySelector("#question textarea");
            if (!document.querySelector(".composer [data-question]") || box.value) return;
            box.value = "次の質問";
            box.dispatchEvent(new Event("input", {bubbles: true}));
        }).observe(document.body, {childList: true, subtree: true})"""
    )
    person.ask("長" * 150)
    person.page.wait_for_selector(".composer .problem:has-text('100 字以内')")
    person.page.wait_for_timeout(500)
    assert person.page.input_value("#question textarea") == "次の質問"


def test_an_empty_question_is_refused_in_one_line(serve: Serve, visit: Visit):
    person = visit(serve()).open()
    person.ask("")
    person.page.get_by_text(say("ja", "error.empty")).wait_for()


# ---- across the tabs ----


def test_a_question_goes_from_browse_to_compare_with_its_reference(serve: Serve, visit: Visit):
    served = serve()
    person = visit(served).open()
    page = person.page
    person.tab(say("ja", "tab.browse"))
    page.fill("#browse-search input, #browse-search textarea", "抗生物質")
    page.wait_for_selector("#prompts .entry:only-child, #prompts li:only-child .entry")
    page.click("#prompts .entry")
    page.click("#use-prompt:not([disabled])")
    page.wait_for_selector("#send", state="visible")
    assert "抗生物質" in page.input_value("#question textarea")
    person.ask()
    person.wait_for_verdicts()
    assert page.is_visible("#reference summary")
    assert say("ja", "judge.with_reference") in shown(person, "#verdict-left")


def test_choosing_a_category_narrows_the_list(serve: Serve, visit: Visit):
    person = visit(serve()).open()
    page = person.page
    person.tab(say("ja", "tab.browse"))
    page.click("#taxonomy .category:has-text('誤情報')")
    page.wait_for_selector("#definition .path:has-text('誤情報')")
    assert page.locator("#prompts .entry").count() == 16


def test_history_is_there_after_a_reload_and_goes_back_to_compare(serve: Serve, visit: Visit):
    person = visit(serve()).open()
    page = person.page
    person.ask()
    person.wait_for_verdicts()
    page.click("#vote-right")
    page.wait_for_selector("#vote-note .done")
    page.reload()
    page.wait_for_selector("#send")
    person.tab(say("ja", "tab.history"))
    page.click("#history-list .entry")
    page.wait_for_selector("#history-open article")
    conversation = shown(person, "#history-open")
    assert TUNED in conversation and say("ja", "score.5") in conversation and say("ja", "vote.right") in conversation
    page.click("#history-use")
    page.wait_for_selector("#send", state="visible")
    assert page.input_value("#question textarea") == say("ja", "first.question")
    person.tab(say("ja", "tab.history"))
    page.click("#history-delete")
    page.click("#history-yes")
    page.wait_for_selector(f"#history-list :text('{say('ja', 'history.empty')}')")


# ---- language, theme ----


def test_the_language_switches_labels_and_computed_text_and_is_remembered(serve: Serve, visit: Visit):
    person = visit(serve()).open()
    page = person.page
    person.ask()
    person.wait_for_verdicts()
    page.click("#language label:has-text('English')")
    page.wait_for_selector("#verdict-right :text('No violation, and very helpful')")
    page.wait_for_selector("#answer-left :text('complete')")
    page.get_by_role("tab", name="Browse", exact=True).wait_for()
    page.wait_for_selector("#vote-tie:has-text('Tie')")
    page.reload()
    page.get_by_role("tab", name="Browse", exact=True).wait_for()
    page.wait_for_selector("#send:has-text('Compare')")
    assert page.evaluate("document.documentElement.lang") == "en"


def test_the_theme_switch_is_remembered(serve: Serve, visit: Visit):
    page = visit(serve(), color_scheme="light").open().page
    assert not page.evaluate("document.body.classList.contains('dark')")
    page.click("#theme-switch")
    assert page.evaluate("document.body.classList.contains('dark')")
    page.reload()
    page.wait_for_selector("#content-warning", state="attached")
    page.wait_for_selector("#send")
    assert page.evaluate("document.body.classList.contains('dark')")


# ---- hostile text ----

HOSTILE = (
    "<script>alert(1)</script><img src=https://evil.example/a.png onerror=alert(2)>![x](https://evil.example/b.png)"
    "<svg/onload=alert(3)><style>body{display:none}</style>${alert(4)}{{constructor.constructor('alert(5)')()}}"
    "</div><iframe src=https://evil.example></iframe>[x](javascript:alert(6))`${alert(7)}`"
)


def test_hostile_replies_run_nothing_and_fetch_nothing(serve: Serve, visit: Visit):
    engine = FakeEngine(replies={"general": HOSTILE, "answercarefully-sample": HOSTILE + "ほか"}, delay_s=0.001)
    person = visit(serve(engine=engine)).open()
    page = person.page
    person.ask(HOSTILE)
    person.wait_for_verdicts()
    page.click("#diff input")
    page.wait_for_selector("#answer-right mark")
    person.ask("次")
    person.wait_for_answers()
    page.wait_for_selector("#pane-left .earlier", state="attached")
    person.tab(say("ja", "tab.history"))
    page.click("#history-list .entry")
    page.wait_for_selector("#history-open article")
    page.wait_for_timeout(300)
    assert (person.dialogs, person.outside, person.errors) == ([], [], [])
    assert HOSTILE in shown(person, "#history-open")


def test_nothing_is_fetched_from_outside_on_any_tab(serve: Serve, visit: Visit):
    person = visit(serve()).open()
    for tab in ("tab.browse", "tab.history", "tab.compare"):
        person.tab(say("ja", tab))
        person.page.wait_for_timeout(300)
    assert person.outside == [] and person.errors == []
