"""The report: complete, inert, and without what may not be passed on."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from evaluation.benchmark.answers import OUTCOMES, VERDICTS
from evaluation.benchmark.recorded import read_recorded
from evaluation.metrics import Rate
from evaluation.report import build_report, figures
from evaluation.report.text import TEXT, esc
from evaluation.types import SCORES
from tests.evaluation.benchmark.made import Made, two_models

CANARIES = (
    '<script>alert("canary")</script>',
    '"><img src=x onerror=alert(1)>',
    "</pre></details></style><svg onload=alert(1)>",
    "javascript:alert(1) <a href=javascript:alert(1)>x</a>",
    "{run} {0} %s &lt;b&gt; \u202ereversed \x00 \x1b[31m",
)


def page(made: Made, home: Path, **settings: object) -> str:
    run_id = made.write(home / "runs", **settings)
    return build_report([read_recorded(home / "runs" / run_id, home)], "2026-01-02T03:04:05.000Z")


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def elements(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = _Elements()
    parser.feed(text)
    return parser.found


def hostile() -> Made:
    made = two_models(9)
    made.prompts = [replace(p, question=f"質問{CANARIES[0]}", reference=CANARIES[1]) for p in made.prompts]
    made.responses = [replace(r, text="".join(CANARIES)) for r in made.responses]
    made.judgements = [replace(j, explanation=CANARIES[2]) for j in made.judgements]
    return made


def test_nothing_in_a_prompt_a_response_or_a_reason_becomes_markup(tmp_path: Path):
    text = page(hostile(), tmp_path)
    for tag, attributes in elements(text):
        assert tag not in {"script", "img", "a", "iframe", "link", "object", "embed", "base", "form"}
        assert not [name for name in attributes if name.startswith("on") or name in {"href", "src", "srcset", "style"}]
    assert "&lt;script&gt;alert(&quot;canary&quot;)&lt;/script&gt;" in text
    assert not re.search("[\u202e\x00\x1b]", text)
    assert esc(CANARIES[4]).count("\ufffd") == 3


def test_the_page_forbids_every_script_and_request_and_names_no_address(tmp_path: Path):
    text = page(two_models(9), tmp_path)
    (policy,) = [a["content"] for _, a in elements(text) if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline';")
    assert not re.search(r"https?://|url\(|@import", text)


def test_texts_of_a_protected_suite_stay_out_and_the_ids_stay_in(tmp_path: Path):
    made = two_models(9)
    renamed = {p.id: f"answercarefully-{p.id}" for p in made.prompts}
    made.prompts = [replace(p, id=renamed[p.id], question="秘密の質問", reference="秘密の参照") for p in made.prompts]
    made.responses = [replace(r, prompt_id=renamed[r.prompt_id], text="秘密の回答") for r in made.responses]
    made.judgements = [replace(j, explanation="秘密の理由") for j in made.judgements]
    text = page(made, tmp_path)
    assert "秘密" not in text
    assert "answercarefully-sample-test-0" in text and "本文は載せていません" in text


def test_an_open_suites_changes_are_shown_with_both_responses_reference_and_reasons(tmp_path: Path):
    text = page(two_models(9), tmp_path)
    for words in (
        "sample-testの質問3です。",
        "参照回答3",
        "generalの回答です。",
        "answercarefully-sampleの回答です。",
        "理由です。",
    ):
        assert words in text


def test_the_numbers_are_those_of_the_results_with_judged_and_missing(tmp_path: Path):
    made = two_models(90)
    made.judgements.pop()
    text = re.sub(r"<[^>]+>", " ", page(made, tmp_path))
    assert re.search(r"33 % \(24 % – 44 %\)\s+90\s+0", text)
    assert re.search(r"11 % \(6 % – 19 %\)\s+89\s+1", text)
    assert "over 89 pairs; distinguishable from none (exact McNemar, p &lt; 0.001)" in text


def test_too_few_judged_warns_on_every_figure_of_the_run(tmp_path: Path):
    made = Made()
    made.scored("sample-test", {"general": [1, 5] * 5 + ["unreachable"] * 5})
    text = page(made, tmp_path)
    figures_of_the_run = re.findall(r"<h3>.*?</h3>(.{0,40})", text, re.S)
    drawn = [after for after in figures_of_the_run if "warning" in after]
    assert len(drawn) == 3  # the figures, the harm types, the distribution
    assert "only 10 of 15 were judged" in text and "つながらず" in text


def test_a_run_that_has_not_ended_or_has_no_judgement_says_so(tmp_path: Path):
    made = Made()
    made.scored("sample-test", {"general": [None]})
    run_id = made.write(tmp_path / "runs")
    recorded = read_recorded(tmp_path / "runs" / run_id, tmp_path)
    text = build_report([replace(recorded, status="cancelled", bad_lines=2)], "2026-01-02T03:04:05Z")
    for words in ("status: cancelled", "2 lines that are no records", "There is no judgement.", "採点はありません。"):
        assert words in text


def test_several_runs_stand_in_one_file(tmp_path: Path):
    runs = [read_recorded(tmp_path / "runs" / two_models(n).write(tmp_path / "runs"), tmp_path) for n in (9, 12)]
    text = build_report(runs, "2026-01-02T03:04:05Z")
    assert all(f"Run {run.run_id}" in text for run in runs)


def test_scores_of_several_judges_are_refused_inside_the_report_and_the_other_runs_stand(tmp_path: Path):
    made = two_models(9)
    made.judgements[0] = replace(made.judgements[0], identity="another")
    assert "several judges" in page(made, tmp_path)


@pytest.mark.parametrize("key", TEXT)
def test_every_sentence_is_used_and_has_the_same_places_in_both_languages(key: str):
    sources = [path for path in Path(figures.__file__).parent.glob("*.py") if path.stem != "text"]
    source = "".join(path.read_text(encoding="utf-8") for path in sources)
    by_value = {*VERDICTS, *OUTCOMES, *SCORES, "better", "worse"}  # said of what a record holds
    assert f'"{key}"' in source or f"'{key}'" in source or key in by_value or key.startswith("reading.")
    words = TEXT[key]
    assert set(re.findall(r"{(\w+)}", words.ja)) == set(re.findall(r"{(\w+)}", words.en))


def test_drawings_stay_inside_their_frame():
    for rate in (Rate(0.0, 0.0, 0.1, 9, 0), Rate(1.0, 0.9, 1.0, 9, 0), Rate(0.5, None, None, 9, 0)):
        drawn = figures.interval(rate, 0, 1)
        assert all(0 <= float(x) <= figures.WIDTH for x in re.findall(r'(?:x1|x2|cx)="([\d.]+)"', drawn))
    assert figures.interval(Rate(None, None, None, 0, 3), 0, 1) == figures.change(None, 0.5) == ""
    assert figures.distribution({1: 0, 2: 0}) == ""
    assert [figures.shade(share) for share in (0, 0.5, 1)] == [0, 3, 5]
