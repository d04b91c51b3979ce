"""The Judge quality page, and the few words about the embedded judge beside its scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from evaluation import agreement
from evaluation.agreement import Agreement, to_document
from evaluation.journal import create_run
from evaluation.judge.protocol import Exchange
from evaluation.labels import Labelled, LabelSet, PreferencePair, Reading
from evaluation.measuring import measure
from evaluation.types import Category, Judgement, Prompt, Response
from playground.pages import Services, agreement_words, markup, quality, quality_markup
from playground.pages.quality import SHIPPED, Bench
from playground.pages.text import say
from tests.fakes import FakeJudge, FakeReadiness

SECRET = "秘密の本文"
HOSTILE = '<img src=x onerror="alert(1)">${alert(2)}'


def exchange(n: int, text: str = SECRET) -> Exchange:
    prompt = Prompt(f"p{n}", f"{text} 質問{n}", category=Category("領域", "アダルト"))
    return Exchange(prompt, Response(f"r{n}", prompt.id, "m", "i", f"{text} 答え{n}", "stop", prompt.messages()))


def verdict(n: int, score: int | None, why: str = "理由") -> Judgement:
    missing = None if score else "unparsed"
    return Judgement(f"j{n}", f"r{n}", "embedded", FakeJudge().identity, "safety", score, missing, why)  # type: ignore[arg-type]


def labelled(*levels: int, text: str = SECRET, levels_of: int = 5, **about: object) -> LabelSet:
    rows = tuple(Labelled(exchange(n, text), level) for n, level in enumerate(levels))
    return LabelSet("imported", Reading("safety", levels_of, ("score",), {"1": 1}), rows, **about)  # type: ignore[arg-type]


def compared(labels: LabelSet, *scores: int | None) -> Agreement:
    judgements = [verdict(n, score) for n, score in enumerate(scores)]
    return measure(labels, judgements, judge="embedded", identity=FakeJudge().identity)


def judged(tmp_path: Path, labels: LabelSet, *scores: int) -> str:
    """A finished judging run, as the command leaves it."""
    found = compared(labels, *scores)
    with create_run(tmp_path / "runs", "judging", {}, {}) as folder:
        folder.event("started")
        for n, row in enumerate(labels.rows):
            folder.record_prompt(row.exchange.prompt)
            folder.record_response(row.exchange.response)
            folder.record_judgement(verdict(n, scores[n]))
        folder.event("finished", agreement=to_document(found))
    return folder.path.name


def page(services: Services, choice: object, bench: Bench | None = None, language: str = "ja") -> list[str]:
    return quality.show(services, bench or Bench(), choice, language)[:6]


# ---- words ----


@pytest.mark.parametrize(
    ("count", "of", "words"),
    [
        (1, 25, "およそ 25 件に 1 件"),
        (7, 71, "およそ 10 件に 1 件"),
        (1, 3, "およそ 3 件に 1 件"),
        (2, 5, "およそ 10 件に 4 件"),
        (13, 30, "およそ 10 件に 4 件"),
        (29, 30, "およそ 10 件に 9 件"),
        (0, 12, "12 件中 0 件"),
        (12, 12, "12 件すべて"),
    ],
)
def test_a_share_is_told_as_one_in_so_many_where_that_is_true(count: int, of: int, words: str):
    assert agreement_words.often(count, of, "ja") == words


def test_the_sentences_are_computed_from_the_counts_and_give_the_interval():
    found = compared(labelled(*[1] * 20, *[5] * 30), *[1] * 18, 5, 4, *[5] * 27, 2, 2, 1)
    missed, false = agreement_words.sentences(found, "ja")
    assert "20 件のうち 2 件" in missed and "およそ 10 件に 1 件" in missed and "95 % 区間 3〜30 %" in missed
    assert "30 件のうち 3 件" in false
    assert "2 (about 1 in 10, 95 % interval 3 to 30 %)" in agreement_words.sentences(found, "en")[0]


def test_where_none_was_missed_the_interval_says_how_many_it_could_have_been():
    missed = agreement_words.sentences(compared(labelled(*[1] * 9, 5), *[1] * 9, 5), "ja")[0]
    assert "9 件のうち 0 件" in missed and "（95 % 区間 0〜30 %）" in missed


def test_one_class_only_says_that_the_other_error_cannot_be_told():
    told = agreement_words.sentences(compared(labelled(5, 5), 5, 1), "ja")
    assert len(told) == 2 and told[1] == say("ja", "quality.uncountable")


def test_nothing_judged_has_no_sentence():
    assert agreement_words.sentences(compared(labelled(1, 5), None, None), "ja") == []


# ---- beside a score ----


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> Agreement:
    """An agreement shipped for the fake judge: 2 of 20 violations missed."""
    found = compared(labelled(*[1] * 20, *[5] * 30), *[1] * 18, 5, 4, *[5] * 30)
    for module in (agreement_words, quality):
        monkeypatch.setattr(module, "shipped_agreement", lambda: found)
    return found


def test_a_score_of_the_embedded_judge_says_how_often_it_misses_a_violation(shipped: Agreement):
    card = markup.verdict(verdict(0, 4), "ja")
    assert "違反の見逃し: およそ 10 件に 1 件（ラベル付き 50 件で測定）" in card
    assert say("ja", "quality.badge.other") not in card


def test_a_score_of_another_version_says_that_the_figure_is_not_its_own(shipped: Agreement):
    assert say("ja", "quality.badge.other") in markup.verdict(replace(verdict(0, 4), identity="other"), "ja")


def test_another_judges_score_says_nothing_of_the_embedded_one(shipped: Agreement):
    assert "見逃し" not in markup.verdict(replace(verdict(0, 4), judge="openai:gpt"), "ja")


def test_without_a_measurement_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(agreement_words, "shipped_agreement", lambda: None)
    assert "見逃し" not in markup.verdict(verdict(0, 4), "ja")


# ---- the page ----


def test_the_shipped_agreement_is_there_without_any_judging(services: Services):
    headline, confusion, harms, lengths, bias, worst = page(services, SHIPPED)
    found = agreement.shipped_agreement()
    assert found is not None and agreement_words.sentences(found, "ja")[0] in headline.replace("&#x27;", "'")
    assert "<table" in confusion and "<table" in harms and "<table" in lengths
    assert say("ja", "quality.bias") in bias and "<article>" in worst


def test_labels_by_the_writers_of_the_responses_are_not_passed_off_as_a_rating_by_others(services: Services):
    assert say("ja", "quality.writers") in page(services, SHIPPED)[0]
    assert say("ja", "quality.writers") not in quality_markup.headline(compared(labelled(1, 5), 1, 5), None, "ja")


def test_the_texts_of_our_own_rows_are_shown_at_once(services: Services):
    assert "veiled" not in page(services, SHIPPED)[5]
    assert quality.show(services, Bench(), SHIPPED, "ja")[6]["visible"] is False


def test_a_result_of_another_version_says_so_and_of_the_same_too(services: Services, shipped: Agreement, monkeypatch):
    assert say("ja", "quality.same") in page(services, SHIPPED)[0]
    monkeypatch.setattr(quality, "shipped_agreement", lambda: replace(shipped, identity="another-version"))
    headline = page(services, SHIPPED)[0]
    assert "another-vers" in headline and FakeJudge().identity[:12] in headline and "別の版" in headline


def test_while_the_model_is_loading_nobody_waits_for_its_identity(serve: Callable[..., Services], shipped: Agreement):
    headline = page(serve(readiness=FakeReadiness(loading=1_000)), SHIPPED)[0]
    assert say("ja", "quality.same") not in headline and "別の版" not in headline


def test_a_run_of_the_command_appears_when_the_tab_is_chosen(services: Services, tmp_path: Path):
    run_id = judged(tmp_path, labelled(1, 5, 2), 5, 5, 2)
    chooser, headline, *_ = quality.visit(services, Bench(), None, "ja")
    assert run_id in [value for _, value in chooser["choices"]]
    assert chooser["value"] == SHIPPED and headline
    assert quality.visit(services, Bench(), run_id, "ja")[0]["value"] == run_id


def test_an_unfinished_run_and_one_of_another_version_are_not_offered(services: Services, tmp_path: Path):
    with create_run(tmp_path / "runs", "judging", {}, {}) as unfinished:
        unfinished.event("started")
    with create_run(tmp_path / "runs", "judging", {}, {}) as older:
        older.event("finished", agreement={"n": 3})
    chooser = quality.visit(services, Bench(), None, "ja")[0]
    assert {value for _, value in chooser["choices"]} == {SHIPPED}
    assert "run the agreement command again" in page(services, older.path.name)[0]
    assert say("ja", "quality.none") in page(services, unfinished.path.name)[0]


def test_judgings_that_measured_nothing_push_no_result_off_the_list(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(quality, "MOST", 2)
    measured = [judged(tmp_path, labelled(1, 5, 5), 1, 5, 5) for _ in range(3)]
    for _ in range(3):  # as "judge again" on the Benchmark page makes them
        with create_run(tmp_path / "runs", "judging", {}, {}) as again:
            again.event("finished")
    chooser = quality.visit(services, Bench(), None, "ja")[0]
    assert [value for _, value in chooser["choices"]] == [SHIPPED, measured[2], measured[1]]


def test_texts_that_people_brought_are_hidden_until_asked_for(services: Services, tmp_path: Path):
    run_id = judged(tmp_path, labelled(1, 5, 2, protected=True), 5, 5, 2)
    services.store.ingest_all()
    bench = Bench()
    worst = page(services, run_id, bench)[5]
    assert worst.count('class="veiled" aria-hidden="true"') == worst.count(SECRET) + worst.count("理由") > 0
    shown = quality.unveil(services, bench, run_id, "ja", True)
    assert "veiled" not in shown[5] and SECRET in shown[5] and "理由" in shown[5]
    assert shown[6]["visible"] is True
    assert "veiled" in quality.unveil(services, bench, run_id, "ja", False)[5]


def test_a_choice_that_is_none_of_ours_is_answered_in_words(services: Services):
    assert say("ja", "quality.none") in page(services, "../../etc/passwd")[0]
    assert say("ja", "quality.none") in page(services, None)[0]


# ---- its pieces ----


def test_missing_verdicts_stand_beside_the_figures():
    headline = quality_markup.headline(compared(labelled(1, 5, 5), 1, None, 5), None, "ja")
    assert "採点なし 1 件" in headline and say("ja", "missing.unparsed") in headline


def test_an_undefined_figure_is_words_and_never_zero():
    headline = quality_markup.headline(compared(labelled(5, 5), 5, 5), None, "ja")
    assert (
        headline.count(f"<dd>{say('ja', 'figure.undefined')}</dd>") == 5
    )  # sensitivity, kappa, alpha and both correlations


def test_parts_with_few_responses_are_grey_and_explained():
    found = compared(labelled(*[1, 5] * 10), *[1, 5] * 10)
    table = quality_markup.parts(found.by_harm_type, "quality.by_harm", "ja")
    assert '<tr class="few">' in table and say("ja", "quality.few") in table
    assert quality_markup.parts((), "quality.by_harm", "ja") == ""


def test_harm_types_are_named_in_english_where_the_taxonomy_can():
    found = compared(labelled(1, 5), 1, 5)
    assert "Adult content" in quality_markup.parts(found.by_harm_type, "quality.by_harm", "en")


def test_agreement_is_framed_on_the_diagonal_and_for_yes_or_no_on_the_right_side_of_the_line():
    graded = quality_markup.confusion(compared(labelled(1, 5), 1, 5), "ja")
    assert graded.count(" same") == 5
    yes_or_no = quality_markup.confusion(compared(labelled(1, 2, levels_of=2), 1, 5), "ja")
    assert yes_or_no.count(" same") == 5 and say("ja", "level.safety.1") in yes_or_no


def test_preferences_show_ties_and_no_confusion_matrix():
    pair = PreferencePair(exchange(0), exchange(1))
    labels = LabelSet("hh", Reading("safety", 5, ("preference",), {}), pairs=(pair,))
    found = measure(labels, [verdict(0, 3), verdict(1, 3)], judge="embedded", identity="i")
    headline = quality_markup.headline(found, None, "ja")
    assert "同点 1 組" in headline and say("ja", "figure.decided") in headline
    assert quality_markup.confusion(found, "ja") == quality_markup.worst(found, {}, False, "ja") == ""


def test_people_are_named_beside_the_judge():
    rows = tuple(Labelled(exchange(n), 1 + n % 5, (("甲", 1 + n % 5), ("乙", 1 + n % 4))) for n in range(25))
    labels = LabelSet("set", Reading("safety", 5, ("rater",), {}), rows)
    block = quality_markup.bias(compared(labels, *[1 + n % 5 for n in range(25)]), "ja")
    assert "人どうしの一致" in block and "甲" in block and say("ja", "judge.embedded") in block


class Seen(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.mark.parametrize("veiled", [True, False])
def test_hostile_text_adds_no_element_and_no_attribute(veiled: bool):
    def drawn(text: str) -> Seen:
        reading = Reading("safety", 5, (text,), {text: 1})
        rows = tuple(Labelled(exchange(n, text), 1, ((text, 1), ("乙", 5))) for n in range(2))
        found = replace(compared(LabelSet(text, reading, rows), 5, 1), judge=text)
        shown = {f"r{n}": quality_markup.Shown(text, text, text, text) for n in range(2)}
        pieces = (
            quality_markup.headline(found, "other", "ja"),
            quality_markup.bias(found, "ja"),
            quality_markup.worst(found, shown, veiled, "ja"),
            quality_markup.parts((replace(found.by_harm_type[0], key=text),), "quality.by_harm", "ja"),
        )
        return Seen("".join(pieces))

    hostile, harmless = drawn(HOSTILE), drawn("無害な文")
    assert hostile.tags == harmless.tags
    assert hostile.attributes == harmless.attributes
