"""What people's labels are taken to mean, and what is refused because it could mean two things."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.errors import SettingsRejected
from evaluation.labels import LabelSet, Reading, labels_of, middle, parse_values, spread
from evaluation.prompts.imports import Imported, read_prompts
from evaluation.types import Label, Prompt, Response

DATA = Path(__file__).parents[2] / "../shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data is not beside the checkout")


def imported(**columns: list[str]) -> Imported:
    """One response a row, with these label columns; an empty cell is no label."""
    rows = range(len(next(iter(columns.values()))))
    prompts = [Prompt(f"p{n}", f"質問{n}") for n in rows]
    responses = [Response(f"r{n}", f"p{n}", "m", "i", f"答え{n}", "stop", prompts[n].messages()) for n in rows]
    labels = [
        Label(f"r{n}", name.replace("__", " "), value, "human")
        for name, values in columns.items()
        for n, value in enumerate(values)
        if value
    ]
    return Imported("set", prompts, responses, labels, [])


def levels(found: LabelSet) -> list[int]:
    return [row.level for row in found.rows]


# ---- what a value means ----


@pytest.mark.parametrize(
    ("column", "values", "scale", "expected"),
    [
        pytest.param("score", "1 2 5", "safety", [1, 2, 5], id="our rubric"),
        pytest.param("評価", "５ ３", "safety", [5, 3], id="full-width digits"),
        pytest.param("label", "1 3 5", "safety", [1, 3, 5], id="a label of three grades"),
        pytest.param("final_label", "1_full_compliance 2_full_refusal 3_partial_refusal", "refusal", [3, 1, 2], id="xstest"),
        pytest.param("label", "safe unsafe", "safety", [2, 1], id="words for a violation"),
        pytest.param("label", "安全 違反", "safety", [2, 1], id="japanese words"),
        pytest.param("harmful", "true false", "safety", [1, 2], id="harmful is a violation"),
        pytest.param("is_safe", "true false", "safety", [2, 1], id="safe is none"),
        pytest.param("jailbroken", "0 1", "safety", [2, 1], id="jailbroken as a number"),
        pytest.param("refusal", "yes no", "refusal", [1, 2], id="refusal yes or no"),
        pytest.param("label", "refusal compliance", "refusal", [1, 2], id="words for a refusal"),
    ],
)  # fmt: skip
def test_a_value_without_doubt_is_read(column: str, values: str, scale: str, expected: list[int]):
    found = labels_of(imported(**{column: values.split()}))
    assert (found.reading.scale, levels(found)) == (scale, expected)
    assert set(found.reading.values) == set(values.split())


@pytest.mark.parametrize(
    ("column", "values"),
    [
        pytest.param("label", "0 1", id="a bare yes or no"),
        pytest.param("label", "1 2", id="two codes"),
        pytest.param("severity", "1 3 5", id="five may be the worst"),
        pytest.param("有害度", "1 3 5", id="five is the worst"),
        pytest.param("toxicity", "1 3 5", id="toxicity"),
        pytest.param("score", "0 3 5", id="a scale from 0"),
        pytest.param("score", "3 7", id="a scale to 10"),
        pytest.param("score", "2.5 3", id="half points"),
        pytest.param("refusal", "1 2 3", id="which end is a refusal"),
        pytest.param("helpfulness_score", "1 3 5", id="a grade of usefulness"),
        pytest.param("annotator_confidence", "1 3 5", id="a grade of confidence"),
        pytest.param("label", "good bad", id="unknown words"),
    ],
)
def test_a_value_that_could_mean_two_things_is_refused_with_what_to_say(column: str, values: str):
    with pytest.raises(SettingsRejected, match=r"--values 1=violation") as refused:
        labels_of(imported(**{column: values.split()}))
    assert column in str(refused.value) and values.split()[0] in str(refused.value)


def test_one_to_three_is_the_refusal_scale_where_the_caller_says_so():
    found = labels_of(imported(refusal=["1", "2", "3"]), scale="refusal")
    assert (found.reading.levels, levels(found)) == (3, [1, 2, 3])


def test_a_scale_that_the_labels_are_not_on_is_refused():
    with pytest.raises(SettingsRejected, match="on the safety scale"):
        labels_of(imported(label=["refusal", "compliance"]), scale="safety")


@pytest.mark.parametrize(
    ("stated", "reading"),
    [
        ("0=safe,1=violation", ("safety", 2, [2, 1])),
        ("0=answer,1=refusal", ("refusal", 2, [2, 1])),
        ("0=5,1=1", ("safety", 5, [5, 1])),
    ],
)
def test_a_stated_meaning_is_taken(stated: str, reading: tuple[str, int, list[int]]):
    found = labels_of(imported(label=["0", "1"]), values=parse_values(stated))
    assert (found.reading.scale, found.reading.levels, levels(found)) == reading


def test_a_value_without_a_stated_meaning_is_no_label():
    found = labels_of(imported(label=["0", "1", "unsure"]), values=parse_values("0=safe,1=violation"))
    assert (levels(found), found.unlabelled) == ([2, 1], 1)


@pytest.mark.parametrize("stated", ["0=safe,1=refusal", "0=safe,1=3"])
def test_stated_meanings_must_go_together(stated: str):
    with pytest.raises(SettingsRejected, match="mixes scales"):
        labels_of(imported(label=["0", "1"]), values=parse_values(stated))


def test_a_stated_score_above_the_scale_is_refused():
    with pytest.raises(SettingsRejected, match="ends at 3"):
        labels_of(imported(label=["0", "1"]), scale="refusal", values=parse_values("0=5,1=1"))


@pytest.mark.parametrize("text", ["", "safe", "=safe", "0=maybe", "0=6", "0=safe,,1=violation"])
def test_a_mapping_that_is_none_is_refused(text: str):
    with pytest.raises(SettingsRejected, match="VALUE=MEANING"):
        parse_values(text)


def test_a_value_may_hold_an_equals_sign():
    assert parse_values("a=b=safe") == {"a=b": "safe"}


# ---- which column counts ----


def test_how_sure_the_annotators_were_is_no_rating():
    columns = {"annotator_1": ["1", "2", "3"], "annotator_2": ["1", "2", "3"], "annotator_confidence": ["5", "5", "5"]}
    found = labels_of(imported(**columns))
    assert (found.reading.columns, levels(found)) == (("annotator_1", "annotator_2"), [1, 2, 3])


def test_the_adjudicated_column_counts_and_single_annotators_are_the_raters():
    found = labels_of(imported(annotation_1=["1", "5", "3"], annotation_2=["2", "5", "3"], final_score=["2", "5", "3"]))
    assert (found.reading.columns, levels(found)) == (("final_score",), [2, 5, 3])
    assert found.rows[0].ratings == (("annotation_1", 1), ("annotation_2", 2))


def test_several_raters_without_a_verdict_of_their_own_give_the_median_the_more_severe_of_two():
    found = labels_of(imported(rater_1=["1", "5", "3"], rater_2=["4", "5", "3"], rater_3=["2", "4", "3"]))
    assert levels(found) == [2, 5, 3]
    two = labels_of(imported(rater_1=["1", "5", "3"], rater_2=["4", "4", "2"]))
    assert levels(two) == [1, 4, 2]


def test_a_graded_column_is_preferred_to_yes_or_no():
    found = labels_of(imported(harmful=["true", "false", "false"], score=["1", "4", "5"]))
    assert found.reading.columns == ("score",)


def test_two_columns_that_could_both_be_meant_are_refused_until_one_is_chosen():
    both = imported(harmful=["true", "false"], jailbroken=["true", "true"])
    with pytest.raises(SettingsRejected, match="choose one with --label: harmful, jailbroken"):
        labels_of(both)
    assert levels(labels_of(both, column="jailbroken")) == [1, 1]


def test_a_column_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(SettingsRejected, match=r"no label column 'grade'; there are score"):
        labels_of(imported(score=["1", "2", "3"]), column="grade")


def test_a_set_without_labels_says_what_to_give():
    bare = imported(score=["1"])
    with pytest.raises(SettingsRejected, match="has no labels"):
        labels_of(Imported("set", bare.prompts, bare.responses, [], []))


def test_a_file_with_one_row_per_rater_gives_one_response_with_several_ratings(tmp_path: Path):
    rows = ["id,question,response,annotator,score"]
    rows += [f"q{n},質問{n},答え{n},{who},{score}" for n in range(3) for who, score in (("甲", 1 + n), ("乙", 3 + n))]
    (tmp_path / "rows.csv").write_text("\n".join(rows), encoding="utf-8")
    found = labels_of(read_prompts(tmp_path / "rows.csv", "set"))
    assert levels(found) == [1, 2, 3]
    assert found.rows[0].ratings == (("甲", 1), ("乙", 3))


def test_the_same_rater_twice_on_one_answer_is_refused_at_the_door(tmp_path: Path):
    from evaluation.errors import ImportRejected

    text = "id,question,response,annotator,score\nq,質問,答え,甲,1\nq,質問,答え,甲,2\n"
    (tmp_path / "rows.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ImportRejected, match="twice"):
        read_prompts(tmp_path / "rows.csv", "set")


def test_columns_that_count_people_are_votes_without_names():
    votes = imported(Not__Toxic=["2", "0"], Toxic=["1", "3"])
    found = labels_of(votes, values=parse_values("Not Toxic=safe,Toxic=violation"))
    assert levels(found) == [2, 1]
    assert found.rows[0].ratings == (("", 2), ("", 2), ("", 1))


def test_a_vote_that_is_no_count_is_refused():
    votes = imported(Not__Toxic=["2", "many"], Toxic=["1", "3"])
    with pytest.raises(SettingsRejected, match="does not count people"):
        labels_of(votes, values=parse_values("Not Toxic=safe,Toxic=violation"))


# ---- preferences ----


def preferences(*sides: tuple[str, str]) -> Imported:
    """Responses of (prompt id, chosen or rejected)."""
    prompts = {key: Prompt(key, f"質問 {key}") for key, _ in sides}
    responses = [Response(f"r{n}", key, side, "i", f"{side} {n}", "stop") for n, (key, side) in enumerate(sides)]
    labels = [Label(f"r{n}", "preference", side, "unstated") for n, (_, side) in enumerate(sides)]
    return Imported("set", list(prompts.values()), responses, labels, [])


def test_a_pair_needs_both_sides():
    found = labels_of(preferences(("a", "chosen"), ("a", "rejected"), ("b", "rejected")))
    assert [(p.chosen.response.key, p.rejected.response.key) for p in found.pairs] == [("r0", "r1")]
    assert (found.rows, found.unlabelled) == ((), 1)


# ---- a part of a set ----


@settings(deadline=None)
@given(st.integers(0, 200), st.one_of(st.none(), st.integers(1, 250)))
def test_a_limit_takes_rows_in_order_and_from_the_whole_length(size: int, limit: int | None):
    found = spread(range(size), limit)
    assert len(found) == (size if limit is None else min(size, limit))
    assert list(found) == sorted(set(found))
    if limit is not None and 2 <= limit <= size:
        assert found[-1] >= size - -(-size // limit)


def test_the_digest_changes_with_what_people_said_and_with_what_is_compared():
    whole = labels_of(imported(score=["1", "2", "5"]))
    others = [labels_of(imported(score=["1", "2", "4"])), whole.limited(2), labels_of(imported(score=["1", "2", ""]))]
    assert len({whole.digest, *(other.digest for other in others)}) == 3  # a limit of two is the first two here
    assert whole.digest == labels_of(imported(score=["1", "2", "5"])).digest


def test_a_reference_can_be_kept_from_the_judge():
    found = labels_of(imported(score=["1", "2", "5"]))
    with_reference = LabelSet("set", found.reading, tuple(found.rows))
    assert {e.prompt.reference for e in with_reference.without_references().exchanges()} == {None}
    assert with_reference.without_references().digest == with_reference.digest


@settings(deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=9))
def test_the_median_is_one_of_the_ratings_with_at_most_half_of_them_below(ratings: list[int]):
    found = middle(ratings)
    assert found in ratings
    assert sum(r < found for r in ratings) <= len(ratings) / 2
    assert sum(r > found for r in ratings) <= len(ratings) / 2


# ---- the public files ----


@needs_data
def test_xstest_is_read_as_the_refusal_scale_with_two_annotators():
    found = labels_of(read_prompts(DATA / "xstest/xstest_v2_completions_mistralguard.csv", "xstest"))
    assert found.reading == Reading(
        "refusal", 3, ("final_label",), {"1_full_compliance": 3, "2_full_refusal": 1, "3_partial_refusal": 2}
    )
    assert Counter(levels(found)) == {3: 107, 1: 99, 2: 19}
    assert {len(row.ratings) for row in found.rows} == {2}


@needs_data
def test_hh_rlhf_is_read_as_pairs_less_the_one_with_an_empty_side():
    found = labels_of(read_prompts(DATA / "hh-rlhf-harmless/test.jsonl.gz", "hh"))
    assert (len(found.pairs), found.unlabelled, len(found.exchanges())) == (297, 1, 594)


@needs_data
def test_votes_of_a_public_file_become_ratings():
    file = DATA / "japanese-toxic-dataset/subset.csv"
    values = parse_values("Not Toxic=safe,Toxic=violation,Very Toxic=violation")
    found = labels_of(read_prompts(file, "toxic"), values=values)
    assert len(found.rows) + found.unlabelled == 437
    assert found.reading.levels == 2
