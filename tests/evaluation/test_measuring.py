"""A judge against people: what is counted, what is left out, and what the figures are made of."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import statistics
from evaluation.agreement import Agreement
from evaluation.judge.protocol import Exchange
from evaluation.labels import Labelled, LabelSet, PreferencePair, Reading
from evaluation.measuring import WORST, measure
from evaluation.statistics import MINIMUM_N, Interval
from evaluation.types import Category, Judgement, Prompt, Response

SAFETY = Reading("safety", 5, ("score",), {})
VIOLATION = Reading("safety", 2, ("harmful",), {"true": 1, "false": 2})
REFUSAL = Reading("refusal", 3, ("final_label",), {})


def exchange(n: int, *, harm: str | None = None, text: str = "答えです。", prompt: str = "") -> Exchange:
    category = Category("領域", harm) if harm else None
    asked = Prompt(prompt or f"p{n}", f"質問{n}", "参考", category)
    return Exchange(asked, Response(f"r{n}", asked.id, "m", "i", text, "stop"))


def labelled(*levels: int, reading: Reading = SAFETY, **about: str) -> LabelSet:
    return LabelSet("set", reading, tuple(Labelled(exchange(n, **about), level) for n, level in enumerate(levels)))


def verdict(n: int, score: int | None, scale: str = "safety", **more: object) -> Judgement:
    missing = "unparsed" if score is None else None
    return Judgement(f"j{n}", f"r{n}", "judge", "id", **{"scale": scale, "score": score, "missing": missing, **more})  # type: ignore[arg-type]


def compared(labels: LabelSet, *scores: int | None, again: tuple[int | None, ...] = ()) -> Agreement:
    scale = labels.reading.scale
    first = [verdict(n, score, scale) for n, score in enumerate(scores)]
    second = [verdict(n, score, scale) for n, score in enumerate(again)]
    return measure(labels, first, second, judge="judge", identity="id")


# ---- counting ----


def test_a_missing_verdict_is_counted_by_its_reason_and_enters_no_figure():
    labels = labelled(1, 2, 4, 5, 5)
    judgements = [
        verdict(0, 1), verdict(1, None), verdict(2, None, missing="judge_refused"), verdict(3, 5),
    ]  # fmt: skip
    found = measure(labels, judgements, judge="judge", identity="id")
    assert (found.labelled, found.n) == (5, 2)
    assert found.missing == {"unparsed": 1, "judge_refused": 1, "not_run": 1}
    assert (found.positives, found.negatives, found.missed, found.false_alarms) == (1, 1, 0, 0)
    assert sum(map(sum, found.confusion)) == 2


def test_without_any_verdict_every_figure_is_undefined_and_none_is_zero():
    found = compared(labelled(1, 5), None, None)
    assert found.n == 0 and found.missing == {"unparsed": 2}
    figures = [value for value in vars(found).values() if isinstance(value, Interval)]
    assert len(figures) == 11 and set(figures) == {Interval(None)}
    assert found.worst == ()


def test_a_verdict_on_the_other_scale_is_no_verdict():
    found = measure(labelled(1), [verdict(0, 1, "refusal")], judge="judge", identity="id")
    assert found.missing == {"not_run": 1}


def test_of_several_verdicts_on_one_response_the_last_counts():
    found = measure(labelled(1), [verdict(0, 5), verdict(0, 1)], judge="judge", identity="id")
    assert found.confusion[0][0] == 1


# ---- figures ----


def test_violations_are_scores_below_3_on_both_sides():
    found = compared(labelled(1, 2, 2, 3, 4, 5), 2, 1, 3, 3, 2, 5)
    assert (found.positives, found.missed, found.negatives, found.false_alarms) == (3, 1, 3, 1)
    assert found.sensitivity == statistics.wilson(2, 3)
    assert found.specificity == statistics.wilson(2, 3)
    assert found.accuracy == statistics.wilson(4, 6)
    assert found.exact == statistics.wilson(2, 6)
    assert found.within_one == statistics.wilson(5, 6)


def test_one_class_only_leaves_the_other_rate_undefined():
    found = compared(labelled(4, 5), 4, 2)
    assert found.sensitivity == Interval(None)
    assert found.specificity.value == 0.5


def test_the_confusion_matrix_has_people_in_rows_and_the_judge_in_columns():
    found = compared(labelled(1, 1, 5), 1, 4, 5)
    assert found.confusion == ((1, 0, 0, 1, 0), (0,) * 5, (0,) * 5, (0,) * 5, (0, 0, 0, 0, 1))


def test_the_difference_is_judge_minus_people():
    assert compared(labelled(1, 2, 3), 2, 3, 5).mean_difference.value == pytest.approx(4 / 3)


def test_yes_or_no_labels_are_compared_with_the_side_of_the_line_and_have_no_points():
    found = compared(labelled(1, 1, 2, 2, reading=VIOLATION), 1, 4, 3, 2)
    assert (found.missed, found.false_alarms) == (1, 1)
    assert found.accuracy.value == 0.5
    assert found.exact == found.within_one == found.mean_difference == Interval(None)
    assert found.confusion == ((1, 0, 0, 1, 0), (0, 1, 1, 0, 0))
    assert found.qwk.value == 0


def test_on_the_refusal_scale_what_is_looked_for_is_a_refusal():
    found = compared(labelled(1, 2, 3, reading=REFUSAL), 1, 3, 3)
    assert (found.positives, found.missed, found.negatives) == (2, 1, 1)
    assert len(found.confusion) == len(found.confusion[0]) == 3


# ---- parts ----


def test_harm_types_keep_the_order_of_the_set_and_those_without_come_last():
    rows = (
        Labelled(exchange(0), 1),
        Labelled(exchange(1, harm="乙"), 1),
        Labelled(exchange(2, harm="甲"), 5),
        Labelled(exchange(3, harm="乙"), 5),
    )
    found = compared(LabelSet("set", SAFETY, rows), 1, None, 5, 5)
    assert [(group.key, group.n, group.missing) for group in found.by_harm_type] == [
        ("乙", 1, 1),
        ("甲", 1, 0),
        (None, 1, 0),
    ]


def test_a_set_without_categories_has_no_harm_types():
    assert compared(labelled(1, 5), 1, 5).by_harm_type == ()


def test_a_part_is_large_enough_from_thirty_on():
    sets = [labelled(*[1, 5] * half, harm="甲") for half in (MINIMUM_N // 2, MINIMUM_N // 2 - 1)]
    assert [compared(labels, *([1, 5] * (len(labels.rows) // 2))).by_harm_type[0].enough for labels in sets] == [
        True,
        False,
    ]


def test_lengths_are_cut_into_bands_of_about_as_many_responses():
    rows = tuple(Labelled(exchange(n, text="あ" * (n + 1)), 1 + n % 5) for n in range(80))
    found = compared(LabelSet("set", SAFETY, rows), *[1 + n % 5 for n in range(80)])
    assert [(group.key, group.n) for group in found.by_length] == [
        ("1-20", 20),
        ("21-40", 20),
        ("41-60", 20),
        ("61-80", 20),
    ]


def test_responses_of_one_length_are_one_band_and_few_responses_none():
    rows = tuple(Labelled(exchange(n), 1) for n in range(40))
    assert [group.key for group in compared(LabelSet("set", SAFETY, rows), *[1] * 40).by_length] == ["5-5"]
    assert compared(labelled(1, 5), 1, 5).by_length == ()


# ---- bias ----


def test_a_judge_that_likes_long_responses_more_than_people_do_has_a_positive_length_bias():
    rows = tuple(Labelled(exchange(n, text="あ" * (n + 1)), 3) for n in range(60))
    generous = [2 + (n > 20) + (n > 40) for n in range(60)]
    found = compared(LabelSet("set", SAFETY, rows), *generous)
    assert found.length_bias.value is not None and found.length_bias.low is not None
    assert found.length_bias.value > 0.8 and found.length_bias.low > 0.5


def test_a_judge_that_is_as_long_winded_as_people_has_none():
    rows = tuple(Labelled(exchange(n, text="あ" * (n + 1)), 1 + n // 12) for n in range(60))
    assert compared(LabelSet("set", SAFETY, rows), *[1 + n // 12 for n in range(60)]).length_bias == Interval(None)


def test_judging_again_counts_the_scores_that_changed():
    found = compared(labelled(1, 2, 3, 4), 1, 2, 3, None, again=(1, 4, None, 4)).repeat
    assert found is not None
    assert (found.n, found.changed, found.largest) == (2, 1, 2)
    assert (found.same.value, found.mean_change.value) == (0.5, 1.0)


def test_what_was_not_judged_again_claims_nothing():
    assert compared(labelled(1, 2), 1, 2).repeat is None
    assert compared(labelled(1), 1, again=(None,)).repeat is None


# ---- people among themselves ----


def rated(*ratings: tuple[int, int]) -> LabelSet:
    rows = [Labelled(exchange(n), min(both), (("甲", both[0]), ("乙", both[1]))) for n, both in enumerate(ratings)]
    return LabelSet("set", SAFETY, tuple(rows))


def test_people_are_compared_with_each_other_and_each_with_the_judge():
    scores = [(1, 1), (2, 3), (3, 3), (4, 4), (5, 4), (1, 2)]
    found = compared(rated(*scores), 1, 2, 3, 4, 5, 1).raters
    assert found is not None and found.names == ("乙", "甲")
    [people] = found.pairs
    assert people.n == 6
    assert people.qwk.value == pytest.approx(statistics.kappa([b for _, b in scores], [a for a, _ in scores], 5))
    assert {pair.first: pair.qwk.value for pair in found.judge}["甲"] == 1.0


def test_agreement_among_people_does_not_depend_on_the_judge():
    labels = rated((1, 1), (2, 3), (4, 4), (5, 4))
    all_judged, none_judged = compared(labels, 1, 2, 4, 5).raters, compared(labels, None, None, None, None).raters
    assert all_judged is not None and none_judged is not None
    assert all_judged.alpha == none_judged.alpha
    assert all_judged.alpha.value is not None


def test_votes_have_no_names_and_still_an_alpha():
    rows = tuple(Labelled(exchange(n), 1 + n % 2, (("", 1), ("", 1 + n % 2))) for n in range(6))
    found = compared(LabelSet("set", VIOLATION, rows), *[1] * 6).raters
    assert found is not None
    assert (found.names, found.pairs, found.judge) == ((), (), ())
    assert found.alpha.value is not None


def test_a_single_rater_is_not_compared_with_anybody():
    assert compared(labelled(1, 5), 1, 5).raters is None


# ---- disagreements ----


def test_the_largest_disagreement_comes_first_and_a_missed_violation_before_a_false_alarm():
    found = compared(labelled(4, 1, 2, 3, 5), 1, 4, 2, 4, 5)
    assert [(row.human, row.judge) for row in found.worst] == [(1, 4), (4, 1), (3, 4)]


def test_with_yes_or_no_labels_only_the_wrong_side_is_a_disagreement():
    found = compared(labelled(1, 1, 2, 2, reading=VIOLATION), 2, 5, 5, 1)
    assert [(row.human, row.judge) for row in found.worst] == [(1, 5), (2, 1)]


def test_the_list_ends_somewhere():
    found = compared(labelled(*[1] * 50), *[5] * 50)
    assert len(found.worst) == WORST


def test_a_judges_words_about_protected_texts_stay_out_of_the_record():
    labels = labelled(1)
    said = [verdict(0, 5, explanation="引用を含む理由")]
    shown = measure(labels, said, judge="judge", identity="id")
    kept = measure(replace(labels, protected=True), said, judge="judge", identity="id")
    assert (shown.worst[0].explanation, kept.worst[0].explanation) == ("引用を含む理由", "")


# ---- preferences ----


def pairs(*lengths: tuple[int, int]) -> LabelSet:
    made = [
        PreferencePair(
            exchange(2 * n, text="あ" * a, prompt=f"p{n}"), exchange(2 * n + 1, text="い" * b, prompt=f"p{n}")
        )
        for n, (a, b) in enumerate(lengths)
    ]
    return LabelSet("set", Reading("safety", 5, ("preference",), {}), pairs=tuple(made))


def test_preferences_count_ties_and_leave_pairs_without_a_verdict_out():
    found = compared(pairs(*[(3, 2)] * 4), 5, 1, 2, 2, 1, 4, 5, None)
    shares = found.preference
    assert shares is not None and found.n == 3
    assert (shares.pairs, shares.judged, shares.missing) == (4, 3, 1)
    assert (shares.higher, shares.ties, shares.lower) == (1, 1, 1)
    assert shares.chosen_higher == statistics.wilson(1, 3)
    assert shares.decided == statistics.wilson(1, 2)
    assert found.qwk == found.sensitivity == Interval(None)


def test_whether_the_longer_is_preferred_is_told_for_people_and_for_the_judge():
    # Chosen is longer, shorter, as long; the judge prefers the longer both times it can.
    shares = compared(pairs((9, 3), (2, 5), (4, 4)), 5, 1, 1, 5, 5, 1).preference
    assert shares is not None
    assert shares.longer_by_people == statistics.wilson(1, 2)
    assert shares.longer_by_judge == statistics.wilson(2, 2)


# ---- any labels and any judge ----


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.one_of(st.none(), st.integers(1, 5))), max_size=40))
def test_every_response_is_either_compared_or_missing_and_every_part_adds_up(rows: list[tuple[int, int | None]]):
    labels = labelled(*[level for level, _ in rows], harm="甲")
    found = compared(labels, *[score for _, score in rows])
    assert found.n + sum(found.missing.values()) == found.labelled == len(rows)
    assert found.positives + found.negatives == found.n == sum(map(sum, found.confusion))
    assert sum(group.n for group in found.by_harm_type) == found.n
    assert 0 <= found.missed <= found.positives and 0 <= found.false_alarms <= found.negatives
