"""What the numbers of a Run say, in sentences that need no statistics. Each in Japanese and English."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evaluation.benchmark.answers import Verdict
from evaluation.benchmark.comparison import Comparison, JudgeComparison, PairedMean, PairedShare

ALPHA = (
    0.05  # a difference is called distinguishable from none when a result like this has a smaller chance without one
)
FEWEST_PAIRS = 6  # below it even a unanimous exact test cannot reach 5 %

_TESTS_JA = {"exact McNemar": "正確マクネマー検定", "exact sign flip by prompt": "質問ごとの正確符号反転検定"}
_VERDICTS = {
    "unparsed": ("採点を読み取れず", "unparsed"),
    "judge_refused": ("採点者が拒否", "refused by the judge"),
    "unreachable": ("採点者につながらず", "judge unreachable"),
    "not_run": ("未採点", "not judged"),
}


@dataclass(frozen=True)
class Words:
    """The same sentence in both languages."""

    ja: str
    en: str


NOTHING = Words(
    "両方とも採点された質問がないため、比べられません。", "No prompt was judged on both sides: nothing to compare."
)


def percent(share: float | None) -> str:
    """A share as whole percent, one decimal below 1 and above 99 unless it is exactly 0 or 1."""
    if share is None:
        return "-"
    hundred = 100 * share
    return f"{hundred:.1f} %" if 0 < hundred < 1 or 99 < hundred < 100 else f"{hundred:.0f} %"


def p_number(p_value: float) -> str:
    """A p-value with three decimals, and never as zero."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def p_words(p_value: float) -> str:
    """The same in a sentence."""
    return f"p {p_number(p_value)}" if p_value < 0.001 else f"p = {p_number(p_value)}"


def sentence(found: Comparison) -> Words:
    """The outcome that leads: violations where safety was measured, else the first that was."""
    return next(all_sentences(found), NOTHING)


def all_sentences(found: Comparison) -> Iterator[Words]:
    """One sentence for each outcome that was measured on both sides, the leading one first."""
    outcomes: tuple[tuple[Words, PairedShare | PairedMean | None], ...] = (
        (Words("違反回答率", "violation"), found.violation),
        (Words("許容回答率", "acceptable"), found.acceptable),
        (Words("平均点", "mean score"), found.mean_score),
        (Words("攻撃成功率", "attack success"), found.attack_success),
        (Words("回答拒否率", "refusal"), found.refusal),
        (Words("有用性", "usefulness"), found.usefulness),
        (Words("選択問題の正答率", "choice accuracy"), found.choice_accuracy),
    )
    for name, outcome in outcomes:
        if outcome is not None and outcome.pairs:
            yield mean_sentence(name, outcome) if isinstance(outcome, PairedMean) else share_sentence(name, outcome)


def share_sentence(name: Words, found: PairedShare) -> Words:
    """One share on both sides, and whether the difference is distinguishable from none."""
    if found.p_value is None:
        return Words(f"{name.ja}: 比べられる組がありません。", f"{name.en}: no pair to compare.")
    change = _change(percent(found.left), percent(found.right))
    p_value = p_words(found.p_value)
    if found.p_mid is not None and found.p_mid < ALPHA <= found.p_value:
        p_value += f", mid-p {p_number(found.p_mid)}"  # close: the reader should know
    ja, en = (f"{_TESTS_JA[found.test]}、{p_value}", f"{found.test}, {p_value}")
    if found.pairs < FEWEST_PAIRS:
        verdict = Words("組が少なすぎて、差の有無は言えません", "too few pairs to tell a difference from none")
        return Words(
            f"{name.ja} {change.ja}（{found.pairs} 組）。{verdict.ja}。",
            f"{name.en} {change.en} over {found.pairs} pairs; {verdict.en}",
        )
    if found.p_value < ALPHA:
        verdict = Words("差があると言えます", "distinguishable from none")
    else:
        verdict = Words("差があるとは言えません", "not distinguishable from none")
    return Words(
        f"{name.ja} {change.ja}（{found.pairs} 組）。{verdict.ja}（{ja}）。",
        f"{name.en} {change.en} over {found.pairs} pairs; {verdict.en} ({en})",
    )


def mean_sentence(name: Words, found: PairedMean) -> Words:
    """A mean score on both sides; distinguishable when the interval of the difference does not hold zero."""
    if found.left is None or found.right is None:
        return Words(f"{name.ja}: 比べられる組がありません。", f"{name.en}: no pair to compare.")
    change = _change(f"{found.left:.2f}", f"{found.right:.2f}")
    low, high = found.difference.low, found.difference.high
    if low is None or high is None:
        return Words(
            f"{name.ja} {change.ja}（{found.pairs} 組）。差の区間は求められません。",
            f"{name.en} {change.en} over {found.pairs} pairs; the difference has no interval",
        )
    told = low > 0 or high < 0
    interval = f"{low:+.2f} {{}} {high:+.2f}"
    return Words(
        f"{name.ja} {change.ja}（{found.pairs} 組）。"
        f"{'差があると言えます' if told else '差があるとは言えません'}（差の 95 % 区間 {interval.format('〜')}）。",
        f"{name.en} {change.en} over {found.pairs} pairs; "
        f"{'' if told else 'not '}distinguishable from none (95 % interval of the difference {interval.format('to')})",
    )


def _change(left: str, right: str) -> Words:
    return Words(f"{left} → {right}", f"{left} -> {right}")


def judges_sentence(found: JudgeComparison) -> Words:
    """How far two judges agree on one scale."""
    if not found.both:
        return Words("両方の採点者が点を付けた回答がありません。", "No response was scored by both judges.")
    same = percent(found.exact.value)
    kappa = found.agreement.kappa
    value = "-" if kappa.value is None else f"{kappa.value:.2f}"
    bounds = ("", "")
    if kappa.low is not None and kappa.high is not None:
        bounds = (
            f"（95 % 区間 {kappa.low:.2f}〜{kappa.high:.2f}）",
            f" (95 % interval {kappa.low:.2f} to {kappa.high:.2f})",
        )
    return Words(
        f"{found.both} 件のうち同じ点は {same}。重み付きカッパ {value}{bounds[0]}。",
        f"the same score for {same} of {found.both} responses; weighted kappa {value}{bounds[1]}",
    )


def too_few_judged(model: str, verdicts: Mapping[Verdict, int], planned: int) -> Words:
    """The warning that stands on every figure of a Run with fewer than 90 % judged."""
    scored = verdicts["scored"]
    ja = "、".join(f"{_VERDICTS[name][0]} {count}" for name, count in verdicts.items() if count and name in _VERDICTS)
    en = ", ".join(f"{count} {_VERDICTS[name][1]}" for name, count in verdicts.items() if count and name in _VERDICTS)
    share = percent(scored / planned)
    return Words(
        f"{model}: 採点できたのは {planned} 件中 {scored} 件（{share}）だけです（{ja}）。数値は採点できた分だけのもので、偏っているおそれがあります。",
        f"{model}: only {scored} of {planned} were judged ({share}; {en}). The figures cover those alone and may be off.",
    )


def mixed_identities(model: str, identities: Sequence[str]) -> Words:
    """The warning for a Model that changed on the way."""
    listed = ", ".join(identities)
    return Words(
        f"{model}: 途中で重み・アダプター・チャットテンプレートのいずれかが変わっています（{listed}）。別のモデルの回答が混ざった数値です。",
        f"{model}: weights, adapter or chat format changed on the way ({listed}); the figures mix several models.",
    )


def nothing_answered(model: str) -> Words:
    """The warning for a Model without a single Response."""
    return Words(f"{model}: 回答が 1 件もありません。", f"{model}: there is no response at all.")
