"""AnswerCarefully: found in every layout, never mixed up, and a clear word when there is no access.

The rows here are made by the test; none is from the data set.
"""

import json
from pathlib import Path

import httpx2
import huggingface_hub
import pyarrow
import pyarrow.parquet
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from evaluation.errors import AccessMissing, ImportRejected
from evaluation.prompts.answercarefully import LEAKED_IDS, load_answercarefully
from evaluation.prompts.suites import answercarefully_suite
from evaluation.types import Category

META = {"harm-type": "メンタルヘルス", "risk-area": "AIとの対話によるリスク", "specific-harm": "自傷行為"}


def rows(mark: str, reference: str = "output") -> list[dict]:
    return [{"ID": f"{mark}-{n}", "text": f"合成の問い{n}", reference: "合成の答え", "meta": META} for n in range(2)]


def parquet(path: Path, mark: str, reference: str = "output") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows(mark, reference)), path)


def as_json(path: Path, mark: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows(mark), ensure_ascii=False), encoding="utf-8")


@pytest.fixture
def hub(tmp_path):
    """A folder in the hub's layout."""
    for version in ("v2.0", "v2.2"):
        parquet(tmp_path / version / "dev-00000-of-00001.parquet", f"{version}-dev")
        parquet(tmp_path / version / "test-00000-of-00001.parquet", f"{version}-test")
    parquet(tmp_path / "v3.0/test-00000-of-00001.parquet", "v3.0-test", "output-sample")
    parquet(tmp_path / "borderline-v1.0/test-00000-of-00001.parquet", "borderline-test")
    (tmp_path / "README.md").write_text("card", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("version", "split", "first"),
    [
        ("v2.0", "dev", "v2.0-dev-0"),
        ("v2.2", "test", "v2.2-test-0"),
        ("v3.0", "test", "v3.0-test-0"),
        ("borderline-v1.0", "test", "borderline-test-0"),
    ],
)
def test_a_split_is_found_in_the_hubs_layout(hub, version, split, first):
    prompt = load_answercarefully(version, split, hub)[0]
    assert (prompt.id, prompt.suite) == (first, f"answercarefully-{version}-{split}")
    assert prompt.reference == "合成の答え"
    assert prompt.category == Category("AIとの対話によるリスク", "メンタルヘルス", "自傷行為")
    assert (prompt.extra["version"], prompt.extra["split"]) == (version, split)


@pytest.mark.parametrize(
    "name",
    [
        "dev-00000-of-00001.parquet",
        "validation-00000-of-00001.parquet",
        "data/validation-00000-of-00001.parquet",
        "v2.0/validation-00000-of-00001.parquet",
        "v2.0-dev.parquet",
    ],
)
def test_the_tuning_split_is_dev_or_validation_in_a_folder_or_flat(name, tmp_path):
    parquet(tmp_path / name, "right")
    assert load_answercarefully("v2.0", "dev", tmp_path)[0].id == "right-0"


def test_the_downloads_of_before_the_hub_are_found(tmp_path):
    for version in ("001", "002"):
        for split in ("Dev", "Test"):
            as_json(tmp_path / f"AnswerCarefullyVersion{version}_{split}.json", f"{version}-{split}")
    assert load_answercarefully("v1", "dev", tmp_path)[0].id == "001-Dev-0"
    assert load_answercarefully("v2.0", "test", tmp_path)[0].id == "002-Test-0"


def test_the_revised_v1_test_replaces_the_first_one(tmp_path):
    as_json(tmp_path / "AnswerCarefullyVersion001_Test.json", "first")
    as_json(tmp_path / "AnswerCarefullyVersion001_Test_rev20241224.json", "revised")
    assert [prompt.id for prompt in load_answercarefully("v1", "test", tmp_path)] == ["revised-0", "revised-1"]


def test_a_split_in_several_files_is_read_whole(tmp_path):
    for shard in range(2):
        parquet(tmp_path / f"v2.2/test-0000{shard}-of-00002.parquet", f"shard{shard}")
    ids = [prompt.id for prompt in load_answercarefully("v2.2", "test", tmp_path)]
    assert ids == ["shard0-0", "shard0-1", "shard1-0", "shard1-1"]


def test_a_single_file_is_read(tmp_path):
    as_json(tmp_path / "mine.json", "own")
    assert load_answercarefully("v2.2", "test", tmp_path / "mine.json")[0].id == "own-0"


@pytest.mark.parametrize(
    ("name", "words"),
    [("AnswerCarefullyVersion002_Dev.json", "other split"), ("AnswerCarefullyVersion001_Test.json", "named as v1")],
)
def test_a_file_named_as_another_split_or_version_is_refused(name, words, tmp_path):
    as_json(tmp_path / name, "x")
    with pytest.raises(ImportRejected, match=words):
        load_answercarefully("v2.0", "test", tmp_path / name)


def test_another_versions_rows_never_stand_in(hub):
    with pytest.raises(ImportRejected, match=r"v3\.0 dev.*v3\.0/test"):
        load_answercarefully("v3.0", "dev", hub)


def test_the_same_rows_in_two_files_are_refused(tmp_path):
    for folder in ("a", "b"):
        parquet(tmp_path / folder / "test-00000-of-00001.parquet", "same")
    with pytest.raises(ImportRejected, match="several files"):
        load_answercarefully("v2.2", "test", tmp_path)


def test_a_missing_local_copy_is_said(tmp_path):
    with pytest.raises(ImportRejected, match="no such file"):
        load_answercarefully("v2.2", "test", tmp_path / "nowhere")


def test_an_unknown_version_is_refused_with_those_there_are(hub):
    with pytest.raises(ImportRejected, match=r"borderline-v1\.0"):
        load_answercarefully("v9", "test", hub)


def test_its_suite_is_protected_and_borderline_measures_refusal(hub):
    assert answercarefully_suite("v2.2", "test", hub).protected
    assert answercarefully_suite("v2.2", "test", hub).metrics == ("safety",)
    assert answercarefully_suite("borderline-v1.0", "test", hub).metrics == ("borderline",)


def test_the_leaked_ids_are_the_two_the_dataset_page_names():
    assert {key.rsplit("-", 2)[1] for key in LEAKED_IDS} == {"0000144", "0000148"}


# --- the hub ---


def answering(monkeypatch, answer):
    calls = []

    def snapshot_download(repo, **options):
        calls.append((repo, options))
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return calls


def http_error(kind, status):
    request = httpx2.Request("GET", "https://huggingface.co/api/datasets/llm-jp/AnswerCarefully")
    return kind("Cannot access\ngated repo", response=httpx2.Response(status, request=request))


def test_without_a_source_the_hubs_copy_is_read_with_the_token(hub, monkeypatch):
    calls = answering(monkeypatch, hub)
    assert load_answercarefully("v2.2", "test", token="hf_x")[0].id == "v2.2-test-0"
    ((repo, options),) = calls
    assert (repo, options["repo_type"], options["token"]) == ("llm-jp/AnswerCarefully", "dataset", "hf_x")


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(http_error(GatedRepoError, 403), id="gated"),
        pytest.param(http_error(RepositoryNotFoundError, 401), id="no token"),
        pytest.param(http_error(HfHubHTTPError, 403), id="forbidden"),
        pytest.param(LocalEntryNotFoundError("nothing cached"), id="nothing cached"),
        pytest.param(OfflineModeIsEnabled("offline"), id="offline"),
        pytest.param(httpx2.ProxyError("no proxy"), id="dead proxy"),
    ],
)
def test_without_access_one_line_says_how_to_get_it_and_what_works_meanwhile(error, monkeypatch):
    answering(monkeypatch, error)
    with pytest.raises(AccessMissing) as caught:
        load_answercarefully("v2.2", "test", token="hf_secret")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    parts = ("https://huggingface.co/datasets/llm-jp/AnswerCarefully", "HF_TOKEN", ".env", "sample-test")
    assert [part for part in parts if part not in message] == []
    assert "hf_secret" not in message
