"""Every file of the public data beside the checkout imports, with the counts its SOURCE.md gives.

Assertions compare counts and short technical values only: the texts are offensive in places.
"""

from collections import Counter
from pathlib import Path

import pytest

from evaluation.prompts.imports import Imported, read_prompts

DATA = Path(__file__).parents[3] / "../shared/data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data is not beside the checkout")

# file: prompts, responses, labels
COUNTS = {
    "aisev/01_aisi_toxic_v0.1.csv": (120, 0, 0),
    "aisev/02_aisi_misinformation_v0.1.csv": (12, 0, 0),
    "aisev/03_aisi_fairness_v0.1.csv": (108, 0, 0),
    "aisev/06_aisi_security_v0.1.csv": (6, 0, 0),
    "aisev/07_aisi_explainability_v0.1.csv": (3, 0, 0),
    "aisev/08_aisi_robustness_v0.1.csv": (9, 0, 0),
    "fastchat-dummy/dummy_conversation.json": (500, 0, 0),
    "gptfuzz-templates/seed_short_25.csv": (13, 0, 0),
    "hh-rlhf-harmless/test.jsonl.gz": (298, 595, 595),  # one chosen answer is empty
    "inappropriate-words-ja/Offensive.txt": (49, 0, 0),
    "inappropriate-words-ja/Sexual.txt": (281, 0, 0),
    "instruction_ja/data.jsonl": (669, 0, 0),
    "ja-vicuna-qa/question.jsonl": (80, 0, 0),
    "ja-vicuna-qa/rinna--japanese-gpt-neox-3.6b-instruction-ppo.results.jsonl": (80, 80, 0),
    "ja-vicuna-qa/rinna--japanese-gpt-neox-3.6b-instruction-sft-v2.results.jsonl": (80, 80, 0),
    "jailbreakbench-artifacts/PAIR_black_box_llama-2-7b-chat-hf.json": (4, 4, 8),  # 94 prompts are null
    "japanese-mt-bench/question_full.jsonl": (80, 0, 0),
    "japanese-toxic-dataset/subset.csv": (437, 437, 437 * 12),  # four levels, seven kinds, the number of voters
    "jcommonsensemorality/data_val.csv": (1996, 1996, 1996),
    "jcommonsenseqa/train-v1.3.json": (300, 0, 0),
    "jemhopqa/train_ver1.2.json": (1059, 0, 0),
    "moonshot-ailuminate-jp/mlc-ncr-jp.json": (100, 0, 0),
    "moonshot-ailuminate-jp/mlc-prv-jp.json": (100, 0, 0),
    "xstest/xstest_prompts.csv": (225, 0, 0),
    "xstest/xstest_v2_completions_mistralguard.csv": (225, 225, 675),
}


def imported(file: str) -> Imported:
    return read_prompts(DATA / file, "set")


def test_the_table_names_every_file():
    there = {path.relative_to(DATA).as_posix() for path in DATA.glob("*/*") if path.suffix != ".md"}
    assert {file for file in there if not file.startswith("LICENSES")} == set(COUNTS)


@pytest.mark.parametrize(("file", "counts"), COUNTS.items(), ids=COUNTS)
def test_a_file_imports_with_its_counts_and_unique_keys(file, counts):
    found = imported(file)
    assert (len(found.prompts), len(found.responses), len(found.labels)) == counts
    assert len({prompt.id for prompt in found.prompts}) == counts[0]
    keys = {response.key for response in found.responses}
    assert len(keys) == counts[1]
    assert {label.response_key for label in found.labels} <= keys
    assert {response.prompt_id for response in found.responses} <= {prompt.id for prompt in found.prompts}


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("jailbreakbench-artifacts/PAIR_black_box_llama-2-7b-chat-hf.json", "94 rows have no question"),
        ("hh-rlhf-harmless/test.jsonl.gz", "1 answers are empty (chosen)"),
        ("moonshot-ailuminate-jp/mlc-ncr-jp.json", "'target'"),
        ("xstest/xstest_v2_completions_mistralguard.csv", "names no model"),
    ],
)
def test_what_was_left_out_or_guessed_is_said(file, words):
    warnings = imported(file).warnings
    assert sum(words in warning for warning in warnings) == 1


def test_two_checkpoints_answer_the_same_prompts():
    sides = [imported(file) for file in COUNTS if "rinna" in file]
    assert len({side.responses[0].model for side in sides}) == 2
    asked = [{(r.prompt_id, r.messages) for r in side.responses} for side in sides]
    assert asked[0] == asked[1]


def test_the_attacked_model_is_the_one_the_artifact_names():
    found = imported("jailbreakbench-artifacts/PAIR_black_box_llama-2-7b-chat-hf.json")
    assert {response.model for response in found.responses} == {"llama-2-7b-chat-hf"}
    assert {label.rater for label in found.labels} == {"model", "llama_guard1"}


def test_multiple_choice_rows_keep_five_choices_and_the_right_one():
    prompts = imported("jcommonsenseqa/train-v1.3.json").prompts
    assert {len(prompt.extra["choices"]) for prompt in prompts} == {5}
    assert sum(prompt.reference == prompt.extra["choices"][prompt.extra["answer_index"]] for prompt in prompts) == 300


def test_human_labels_of_completions_keep_their_values():
    labels = imported("xstest/xstest_v2_completions_mistralguard.csv").labels
    final = Counter(label.value for label in labels if label.name == "final_label")
    assert final == {"1_full_compliance": 107, "2_full_refusal": 99, "3_partial_refusal": 19}
    assert {label.rater for label in labels} == {"human"}


def test_the_rubric_line_of_each_row_is_kept():
    prompts = imported("aisev/01_aisi_toxic_v0.1.csv").prompts
    assert sum(bool(prompt.extra["requirement"]) for prompt in prompts) == 120


def test_every_two_turn_question_keeps_both_turns():
    assert {len(prompt.turns) for prompt in imported("japanese-mt-bench/question_full.jsonl").prompts} == {1}


def test_every_sft_dialogue_has_the_agents_reply_as_its_reference():
    prompts = imported("instruction_ja/data.jsonl").prompts
    agent = [prompt.extra["conversation"][1]["content"] for prompt in prompts]
    assert sum(prompt.reference == said for prompt, said in zip(prompts, agent, strict=True)) == 669
