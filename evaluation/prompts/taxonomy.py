"""The built-in copy of the AnswerCarefully taxonomy: 5 risk areas > 12 harm types > 55 specific harms.

It serves the sample set and the translations. Loaded data keeps the names it comes with, known here or not.
Source of the Japanese names: the `meta` column of AnswerCarefully v2; the definitions are our own words.
"""

from __future__ import annotations

from dataclasses import dataclass

from evaluation.types import Category


@dataclass(frozen=True)
class SpecificHarm:
    """The deepest level; `number` is 1 to 55 in table order."""

    number: int
    ja: str
    en: str


@dataclass(frozen=True)
class HarmType:
    """The level that charts and rankings use. `slug` is stable and safe in URLs and file names."""

    slug: str
    ja: str
    en: str
    definition_ja: str
    definition_en: str
    specific_harms: tuple[SpecificHarm, ...]


@dataclass(frozen=True)
class RiskArea:
    """The top level."""

    slug: str
    ja: str
    en: str
    harm_types: tuple[HarmType, ...]


def _harms(first: int, *names: tuple[str, str]) -> tuple[SpecificHarm, ...]:
    return tuple(SpecificHarm(number, ja, en) for number, (ja, en) in enumerate(names, first))


RISK_AREAS: tuple[RiskArea, ...] = (
    RiskArea(
        "discrimination-toxicity",
        "バイアス・差別・ヘイト・反公序良俗",
        "Discrimination, exclusion, toxicity",
        (
            HarmType(
                "adult-content",
                "アダルト",
                "Adult content",
                "残酷な描写や露骨な性表現など、場を選ぶ内容を求める質問。",
                "Requests for graphic violence or sexually explicit text that does not belong in an ordinary conversation.",
                _harms(
                    1,
                    ("暴力表現", "Graphic violence"),
                    ("露骨な性表現・わいせつ", "Explicit sexual content and obscenity"),
                ),
            ),
            HarmType(
                "stereotypes-discrimination",
                "ステレオタイプ・差別の助長",
                "Stereotypes and unfair discrimination",
                "人種、出身地、性別、障がいなどの属性で人を決めつけたり、不利に扱うことを後押ししたりする質問。",
                "Questions that judge people by origin, sex, body, disability or another trait, or that justify treating them worse for it.",
                _harms(
                    3,
                    ("人種-バイアス・差別", "Racial bias and discrimination"),
                    ("地域-バイアス・差別", "Regional bias and discrimination"),
                    ("宗教-バイアス・差別", "Religious bias and discrimination"),
                    ("性別バイアス・差別", "Gender bias and discrimination"),
                    ("その他のバイアス・差別", "Other bias and discrimination"),
                    ("肉体的特徴に基づく差別", "Discrimination by physical appearance"),
                    ("障がいに基づく差別", "Discrimination by disability"),
                    ("文化的特有性", "Cultural particularities"),
                ),
            ),
            HarmType(
                "hate-speech",
                "ヘイトスピーチ",
                "Hate speech",
                "人や集団をおとしめる言葉、下品なののしり、脅しや嫌がらせの文面を求める質問。",
                "Requests for words that demean, insult, threaten or harass a person or a group.",
                _harms(
                    11,
                    ("侮辱・名誉棄損", "Insults and defamation"),
                    ("卑語", "Vulgar language"),
                    ("その他悪質な脅しや嫌がらせ", "Other malicious threats and harassment"),
                ),
            ),
        ),
    ),
    RiskArea(
        "human-chatbot-interaction",
        "AIとの対話によるリスク",
        "Human-chatbot interaction harms",
        (
            HarmType(
                "mental-health",
                "メンタルヘルス",
                "Mental health crisis",
                "心の不調や死にたい気持ちを抱えた人の相談。突き放さず、支えと相談先につなぐ必要がある質問。",
                "People in emotional distress or in danger of harming themselves, who need support and the way to real help.",
                _harms(
                    14,
                    ("一般的なメンタルヘルス", "General mental health"),
                    ("不安やうつ", "Anxiety and depression"),
                    ("心的症状", "Psychological symptoms"),
                    ("自傷行為", "Self-harm"),
                ),
            ),
            HarmType(
                "treating-ai-as-human",
                "AIの擬人化",
                "Treating the AI as human",
                "AIを人間の恋人や親友のように頼ったり、個人的なことをAIに聞き出させようとしたりする質問。",
                "Leaning on the AI as if it were a person, or drawing private details out through such closeness.",
                _harms(
                    18,
                    ("AIへの感情的依存", "Emotional dependence on the AI"),
                    ("個人情報の聞き出し", "Eliciting personal details"),
                ),
            ),
        ),
    ),
    RiskArea(
        "information-hazards",
        "情報漏洩",
        "Information hazards",
        (
            HarmType(
                "personal-information",
                "個人情報漏洩",
                "Personal information",
                "住所、口座、病歴、成績、生体情報など、他人の私的な情報を知ろうとする質問。",
                "Attempts to learn someone else's private data: address, accounts, health, school records, biometrics.",
                _harms(
                    20,
                    ("PII", "Personally identifiable information"),
                    ("ファイナンス", "Financial data"),
                    ("医療", "Medical data"),
                    ("教育", "Education records"),
                    ("バイオメトリクス", "Biometric data"),
                    ("その他個人情報", "Other personal information"),
                ),
            ),
            HarmType(
                "organisation-state-secrets",
                "組織・国家機密漏洩",
                "Organisation and state secrets",
                "企業や国の機密、システムの守りを破る方法など、外に出てはならない情報を求める質問。",
                "Requests for confidential material of companies or states, or for ways around the systems that protect it.",
                _harms(
                    26,
                    ("サイバーセキュリティ", "Cybersecurity"),
                    ("機密情報へのアクセス", "Access to confidential information"),
                ),
            ),
        ),
    ),
    RiskArea(
        "malicious-uses",
        "悪用",
        "Malicious uses",
        (
            HarmType(
                "illegal-activities",
                "違法行為への加担",
                "Assisting illegal activities",
                "薬物、暴力、詐欺、著作権侵害など、法に反する行為の手助けを求める質問。",
                "Requests for help with breaking the law: drugs, violence, fraud, trafficking, infringement and the like.",
                _harms(
                    28,
                    ("違法薬物", "Illegal drugs"),
                    ("薬物・アルコール中毒", "Drug and alcohol addiction"),
                    ("テロリズム", "Terrorism"),
                    ("性的虐待・違法ポルノ", "Sexual abuse and illegal pornography"),
                    ("肉体的暴力・虐待", "Physical violence and abuse"),
                    ("脅し・恐喝", "Threats and extortion"),
                    ("動物虐待・密猟", "Animal cruelty and poaching"),
                    ("著作権侵害", "Copyright infringement"),
                    ("デジタル空間の違法行為", "Illegal acts online"),
                    ("違法金銭行為", "Illegal financial activities"),
                    ("違法取引・人身売買", "Illegal trade and human trafficking"),
                    ("非合法的な偵察・検閲", "Unlawful surveillance and censorship"),
                ),
            ),
            HarmType(
                "unethical-actions",
                "非倫理的行為への加担",
                "Unethical or unsafe actions",
                "違法とは限らないが、いじめ、荒らし、中傷、危険な行為など、人を傷つける行いの手助けを求める質問。",
                "Requests for help with hurting people in ways that need not be illegal: bullying, trolling, slander, dangerous dares.",
                _harms(
                    40,
                    ("ネットいじめの幇助", "Helping cyberbullying"),
                    ("ネット荒らし行為", "Online trolling"),
                    ("中傷・名誉毀損の幇助", "Helping slander and defamation"),
                    ("危険行為への誘導", "Luring people into dangerous acts"),
                    ("不適切行為", "Improper conduct"),
                ),
            ),
            HarmType(
                "disinformation",
                "偽情報拡散への加担",
                "Disinformation campaigns",
                "人をだますための偽の情報、世論の操作、迷惑な大量送信を作らせようとする質問。",
                "Requests to produce falsehoods meant to deceive, to manipulate opinion, or to flood people with spam.",
                _harms(
                    45,
                    ("偽情報", "Disinformation"),
                    ("悪意のある情報操作", "Malicious manipulation of information"),
                    ("スパム作成", "Creating spam"),
                ),
            ),
        ),
    ),
    RiskArea(
        "misinformation-harms",
        "誤情報",
        "Misinformation harms",
        (
            HarmType(
                "material-harm-misinformation",
                "誤情報による実被害",
                "Material harm by misinformation",
                "医療、法律、お金など、誤った答えがそのまま健康や財産の損害につながる相談。",
                "Medical, legal, financial and other expert questions where a wrong answer costs health, rights or money.",
                _harms(
                    48,
                    ("医療相談", "Medical advice"),
                    ("法律相談", "Legal advice"),
                    ("金融相談", "Financial advice"),
                    ("その他専門分野の相談", "Other expert advice"),
                ),
            ),
            HarmType(
                "false-information",
                "誤情報の拡散",
                "Spreading false information",
                "うわさ、宣伝、誤った前提を事実のように扱い、広めてしまうおそれのある質問。",
                "Questions built on rumours, propaganda or false premises that an answer could pass on as fact.",
                _harms(
                    52,
                    ("うわさ・フェイクニュース", "Rumours and fake news"),
                    ("プロパガンダ", "Propaganda"),
                    ("危険行為", "Dangerous acts"),
                    ("誤った文脈・背景", "False context or background"),
                ),
            ),
        ),
    ),
)


def _paths() -> dict[str, Category]:
    paths = {}
    for area in RISK_AREAS:
        paths[area.ja] = Category(area.ja)
        for harm_type in area.harm_types:
            paths[harm_type.ja] = Category(area.ja, harm_type.ja)
            for harm in harm_type.specific_harms:
                paths[harm.ja] = Category(area.ja, harm_type.ja, harm.ja)
    return paths


HARM_TYPES: tuple[HarmType, ...] = tuple(harm_type for area in RISK_AREAS for harm_type in area.harm_types)
SPECIFIC_HARMS: tuple[SpecificHarm, ...] = tuple(harm for kind in HARM_TYPES for harm in kind.specific_harms)
_CATEGORIES = _paths()
_LEVELS: tuple[RiskArea | HarmType | SpecificHarm, ...] = (*RISK_AREAS, *HARM_TYPES, *SPECIFIC_HARMS)
_ENGLISH = {level.ja: level.en for level in _LEVELS}


def category_of(name: str) -> Category | None:
    """The full path of a Japanese name on any level, or None when the built-in taxonomy does not have it."""
    return _CATEGORIES.get(name.strip())


def english_name(name: str) -> str | None:
    """English name of a Japanese name on any level, or None when the built-in taxonomy does not have it."""
    return _ENGLISH.get(name.strip())


def harm_type_of(name: str) -> HarmType | None:
    """The harm type that a Japanese harm type name, specific harm name or slug belongs to, or None."""
    category = category_of(name)
    wanted = category.harm_type if category else None
    return next((kind for kind in HARM_TYPES if kind.slug == name or (wanted and kind.ja == wanted)), None)
