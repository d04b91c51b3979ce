"""The command line as people and programs meet it: what it prints, where, and its exit status."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest

from evaluation.errors import UserFacingError
from evaluation.journal import read_run
from evaluation.judge.protocol import Exchange
from evaluation.prompts.suites import load_imported
from evaluation.types import Judgement, Scale, judgement_key
from playground import catalog
from playground.engine.endpoint import EndpointEngine
from playground.engine.router import Router
from tests.openai_server import OpenAIServer, reset
from tests.playground.calling import refused
from tests.playground.engine.serving import KEY, exact_local
from tests.tiny import tiny_folder

ROOT = Path(__file__).parents[2]
DATA = ROOT / "../shared/data"


class Judge:
    """Scores every response 4."""

    id, identity = "embedded", "judge-identity"

    def judge(
        self,
        exchanges: Sequence[Exchange],
        scale: Scale = "safety",
        on_done: Callable[[Judgement], None] | None = None,
    ) -> list[Judgement]:
        return [
            Judgement(
                key=judgement_key(e.response.key, self.identity, scale, 0),
                response_key=e.response.key,
                judge=self.id,
                identity=self.identity,
                score=4,
                explanation="安全です。",
            )
            for e in exchanges
        ]


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(reply=lambda body: "遠くの返事です。") as opened:
        yield opened


@pytest.fixture(scope="module")
def router(tmp_path_factory, server) -> Iterator[Router]:
    """A tiny base with two adapters named as the default pair, and an endpoint."""
    from tests.tiny import tiny_adapter

    home = tmp_path_factory.mktemp("cli")
    base = tiny_folder(home / "base", seed=5)
    adapters = {name: tiny_adapter(home / name, base, seed) for seed, name in enumerate(catalog.DEFAULT_PAIR, 1)}
    with exact_local(base, adapters) as engine:
        yield Router(engine.model_ids, lambda report: engine, [EndpointEngine(server.url, KEY, ["far"])])


@pytest.fixture
def models_here(router, monkeypatch) -> None:
    monkeypatch.setattr(catalog, "build_router", lambda settings: router)
    monkeypatch.setattr(catalog, "judge", lambda judge_id, settings, router: Judge())


@pytest.mark.usefixtures("models_here")
class TestAsk:
    def test_json_is_the_documented_shape_and_nothing_else(self, call):
        said = call("ask", " 質問 ", "--judge", "embedded", "--temperature", "0", "--max-tokens", "8", "--json")
        assert said.status == 0
        assert set(said.document) == {"prompt", "left", "right"}
        assert said.document["prompt"] == "質問"
        for side, model in zip(("left", "right"), catalog.DEFAULT_PAIR, strict=True):
            shown = said.document[side]
            assert set(shown) >= {
                "model", "identity", "text", "finish_reason", "tokens", "ttft_s", "seconds", "judgement",
            }  # fmt: skip
            assert (shown["model"], shown["finish_reason"], shown["tokens"]) == (model, "length", 8)
            assert shown["judgement"] == {
                "judge": "embedded", "identity": "judge-identity", "score": 4, "missing": None, "explanation": "安全です。",
            }  # fmt: skip
        assert said.document["left"]["identity"] != said.document["right"]["identity"]

    def test_without_a_judge_nothing_is_judged(self, call):
        said = call("ask", "質問", "--max-tokens", "4", "--json")
        assert (said.document["left"]["judgement"], said.document["right"]["judgement"]) == (None, None)

    def test_both_sides_are_told_apart_for_people(self, call):
        said = call("ask", "質問", "--right", "openai:far", "--judge", "embedded", "--max-tokens", "4")
        assert said.status == 0
        assert said.out.index("general") < said.out.index("openai:far") < said.out.index("遠くの返事です。")
        assert said.out.count("安全です。") == 2

    def test_a_seed_repeats_the_text(self, call):
        def texts(seed: str) -> list[str]:
            document = call("ask", "質問", "--max-tokens", "12", "--seed", seed, "--json").document
            return [document[side]["text"] for side in ("left", "right")]

        assert texts("1") == texts("1")
        assert texts("1") != texts("2")

    def test_the_pair_is_kept_in_a_run_folder(self, call, home):
        call("ask", "質問", "--judge", "embedded", "--max-tokens", "4")
        [folder] = (home / "runs").iterdir()
        assert read_run(folder).kind == "chat"
        lines = {p.stem: len(p.read_text().splitlines()) for p in folder.glob("*.jsonl")}
        assert {k: lines[k] for k in ("prompts", "responses", "pairs", "judgements")} == {
            "prompts": 1, "responses": 2, "pairs": 1, "judgements": 2,
        }  # fmt: skip

    def test_a_side_that_breaks_off_is_printed_kept_and_ends_with_1(self, call, home, server):
        server.behaviours.append(reset(after_chunks=1))
        said = call("ask", "質問", "--right", "openai:far", "--max-tokens", "4", "--json")
        assert said.status == 1
        assert said.document["right"]["finish_reason"] == "error"
        assert said.document["left"]["finish_reason"] == "length"
        assert "openai:far gave no whole response" in said.err.splitlines()[-1]
        assert KEY not in said.err + said.out
        assert len(list((home / "runs").iterdir())) == 1

    def test_a_judge_that_cannot_work_costs_no_response(self, call, home, monkeypatch):
        def refuse(*arguments: object) -> list[Judgement]:
            raise UserFacingError("The judge refused the API key (401).")

        monkeypatch.setattr(Judge, "judge", refuse)
        said = call("ask", "質問", "--judge", "openai:gpt", "--temperature", "0", "--max-tokens", "8", "--json")
        assert (said.status, said.err.splitlines()[-1]) == (1, "The judge refused the API key (401).")
        assert [said.document[side]["tokens"] for side in ("left", "right")] == [8, 8]
        [folder] = (home / "runs").iterdir()
        assert len((folder / "responses.jsonl").read_text().splitlines()) == 2

    def test_the_embedded_judge_leaves_the_gpu_to_the_vllm_server_of_the_same_call(self, call, monkeypatch):
        taken: list[str] = []
        monkeypatch.setattr("playground.cli.ask.gpu_for", lambda settings, kind: taken.append(kind) or nullcontext())
        wanted = ("ask", "質問", "--judge", "embedded", "--max-tokens", "4")
        assert call(*wanted, "--engine", "vllm").status == 0
        assert taken == []
        assert call(*wanted).status == 0
        assert taken == ["chat"]

    @pytest.mark.parametrize(
        ("arguments", "word"),
        [
            pytest.param(["  "], "empty", id="no-question"),
            pytest.param(["質問", "--temperature", "3"], "--temperature", id="too-hot"),
            pytest.param(["質問", "--temperature", "nan"], "--temperature", id="no-number"),
            pytest.param(["質問", "--top-p", "0"], "--top-p", id="no-nucleus"),
            pytest.param(["質問", "--max-tokens", "0"], "--max-tokens", id="no-tokens"),
            pytest.param(["質問", "--seed", "-1"], "--seed", id="below-zero"),
            pytest.param(["質問", "--left", "nobody"], "no model nobody", id="an-unknown-model"),
            pytest.param(["質問\udcff"], "UTF-8", id="bytes-that-are-no-text"),
        ],
    )
    def test_a_wrong_call_ends_with_2(self, call, home, arguments, word):
        refused(call("ask", *arguments), 2, word)
        assert not (home / "runs").exists()

    def test_a_prompt_too_long_ends_with_1_and_its_numbers(self, call):
        refused(call("ask", "あ" * 2000), 1, "tokens", "Shorten")


def test_an_unknown_judge_ends_before_anything_is_asked(call, router, monkeypatch):
    monkeypatch.setattr(catalog, "build_router", lambda settings: router)
    refused(call("ask", "質問", "--judge", "nobody"), 1, "no judge nobody")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["ask"],
        ["ask", "質問", "--max-tokens", "many"],
        ["ask", "質問", "--colour", "red"],
        ["data"],
        ["data", "import", "file.csv"],
        ["train"],
        ["train", "--preset", "no-such"],
        ["runs", "show"],
    ],
    ids=" ".join,
)
def test_a_call_that_cannot_be_understood_ends_with_2_and_one_line(call, arguments):
    refused(call(*arguments), 2, "--help")


def test_help_ends_with_0_and_names_every_command(call):
    said = call("--help")
    assert said.status == 0
    for command in ("doctor", "models", "suites", "ask", "data", "train", "runs"):
        assert command in said.out


def test_an_interruption_ends_with_1_and_no_traceback(call, monkeypatch):
    def interrupted(settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(catalog, "models", interrupted)
    refused(call("models"), 1, "Interrupted")


def test_a_failure_that_was_foreseen_ends_with_1_and_one_line(call, monkeypatch):
    def fail(settings: object) -> None:
        raise UserFacingError("The disk is full; free 2 GB.")

    monkeypatch.setattr(catalog, "models", fail)
    refused(call("models"), 1, "The disk is full")


def test_a_wrong_setting_ends_with_2_and_names_its_variable(call, monkeypatch):
    monkeypatch.setenv("PLAYGROUND_PORT", "eighty")
    refused(call("models"), 2, "PLAYGROUND_PORT")


class TestWhatIsHere:
    def test_doctor_always_ends_with_0_and_says_what_to_do_about_what_is_absent(self, call):
        said = call("doctor", "--json")
        rows = {row["part"]: row for row in said.document}
        assert said.status == 0
        assert {"gradio", "torch", "python", "accelerator", "home", "embedded model", "OpenAI key"} <= set(rows)
        assert rows["OpenAI key"]["state"] == "absent"
        assert "PLAYGROUND_OPENAI_API_KEY" in rows["OpenAI key"]["detail"]
        assert all(row["state"] in ("ok", "absent", "problem", "unknown") for row in rows.values())

    def test_doctor_shows_that_a_key_is_set_and_never_the_key(self, call, monkeypatch):
        monkeypatch.setenv("PLAYGROUND_OPENAI_API_KEY", KEY)
        monkeypatch.setenv("HF_TOKEN", KEY)
        for options in ([], ["--json"]):
            said = call("doctor", *options)
            assert "set, for" in said.out
            assert KEY not in said.out + said.err

    def test_doctor_changes_nothing(self, call, home):
        call("doctor")
        assert not home.exists()

    def test_models_are_listed_without_loading_one(self, call):
        said = call("models", "--json")
        assert said.document[0] == {"id": "base", "kind": "base", "where": "Gemma 3 270M, embedded"}
        assert "hub:ORG/NAME" in call("models").out

    def test_suites_are_counted(self, call):
        rows = {row["suite"]: row for row in call("suites", "--json").document}
        assert {"sample-tuning", "sample-test", "sample-borderline", "sample-general"} <= set(rows)
        assert all(row["prompts"] > 0 for row in rows.values())
        assert "sample-test" in call("suites").out


class TestImport:
    def test_a_file_becomes_a_suite_and_the_counts_are_json(self, call, home, tmp_path):
        file = tmp_path / "rows.csv"
        file.write_text("question,reference\n質問一,答え一\n,空\n", encoding="utf-8")
        said = call("data", "import", str(file), "--as", "mine", "--json")
        assert said.status == 0
        assert set(said.document) >= {"suite", "prompts", "responses", "labels", "warnings"}
        assert (said.document["suite"], said.document["prompts"]) == ("mine", 1)
        assert len(said.document["warnings"]) == 1
        assert "mine" in {row["suite"] for row in call("suites", "--json").document}

    def test_columns_can_be_named_and_warnings_go_to_the_error_stream(self, call, home, tmp_path):
        file = tmp_path / "rows.tsv"
        file.write_bytes("甲\t乙\n質問\t答え\n\t\n".encode("cp932"))
        said = call(
            "data", "import", str(file), "--as", "m", "--map", "question=甲,reference=乙", "--encoding", "cp932"
        )
        assert said.out == (
            "m: 1 prompts, 0 responses, 0 labels\n"
            "measures safety (because nothing in it says otherwise; --metrics changes it)\n"
        )
        [prompt] = load_imported("m", home).prompts
        assert (prompt.question, prompt.reference) == ("質問", "答え")

    def test_the_metric_can_be_said_and_is_told(self, call, home, tmp_path):
        file = tmp_path / "rows.csv"
        file.write_text("question,reference\n質問,答え\n", encoding="utf-8")
        said = call("data", "import", str(file), "--as", "mine", "--metrics", "usefulness", "--json").document
        assert (said["metrics"], said["metrics_because"]) == (["usefulness"], "as asked for")
        again = call("data", "import", str(file), "--as", "mine", "--json").document
        assert (again["metrics"], again["metrics_because"]) == (["usefulness"], "as it was imported before")
        refused(call("data", "import", str(file), "--as", "mine", "--metrics", "attack"), 2, "another name")
        rows = {row["suite"]: row for row in call("suites", "--json").document}
        assert rows["mine"]["metrics"] == ["usefulness"]

    @pytest.mark.parametrize(
        ("arguments", "word"),
        [
            pytest.param(["missing.csv", "--as", "mine"], "missing.csv", id="no-file"),
            pytest.param(["rows.csv", "--as", "../mine"], "suite name", id="a-path-as-a-name"),
            pytest.param(["rows.csv", "--as", "sample-test"], "sample", id="a-shipped-name"),
            pytest.param(["rows.csv", "--as", "mine", "--map", "question=none"], "none", id="no-such-column"),
            pytest.param(["rows.csv", "--as", "mine", "--map", "question"], "question", id="half-a-mapping"),
            pytest.param(["rows.csv", "--as", "mine", "--encoding", "klingon"], "klingon", id="no-such-encoding"),
            pytest.param(["torn.json", "--as", "mine"], "torn.json", id="a-torn-file"),
        ],
    )
    def test_what_cannot_be_read_ends_with_2_and_leaves_nothing(self, call, home, tmp_path, arguments, word):
        (tmp_path / "rows.csv").write_text("question\n質問\n", encoding="utf-8")
        (tmp_path / "torn.json").write_text('[{"question": "質', encoding="utf-8")
        refused(call("data", "import", *arguments), 2, word)
        assert not (home / "suites").exists() or not list((home / "suites").iterdir())

    def test_a_copy_of_answercarefully_is_imported_as_a_protected_suite(self, call, home, tmp_path):
        rows = [
            {"ID": f"synthetic-{n}", "text": f"質問{n}", "output": f"答え{n}",
             "meta": {"risk-area": "悪用", "harm-type": "違法行為への加担", "specific-harm": "違法薬物"}}
            for n in range(3)
        ]  # fmt: skip
        (tmp_path / "test.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
        said = call("data", "answercarefully", "--from", str(tmp_path / "test.json"), "--json")
        assert (said.status, said.document["suite"], said.document["prompts"]) == (0, "answercarefully-v2.2-test", 3)
        rows = {row["suite"]: row for row in call("suites", "--json").document}
        assert rows["answercarefully-v2.2-test"]["protected"] is True

    @pytest.mark.skipif(not DATA.is_dir(), reason="shared/data is not beside the checkout")
    def test_every_public_file_imports_by_command(self, call, home):
        files = [p for p in sorted(DATA.glob("*/*")) if p.suffix != ".md" and p.parent.name != "LICENSES"]
        assert files
        for number, file in enumerate(files):
            said = call("data", "import", str(file), "--as", f"set-{number}", "--json")
            assert said.status == 0, file.name
            counts = {name: said.document[name] for name in ("prompts", "responses")}
            assert sum(counts.values()) > 0, file.name
        listed = {row["suite"] for row in call("suites", "--json").document}
        assert {f"set-{number}" for number in range(len(files))} <= listed


def test_the_module_runs_as_a_program_and_its_json_can_be_piped(home):
    """`python -m playground models --json | head -c 1` must not end in a traceback."""
    program = f"{sys.executable} -m playground suites --json | head -c 1"
    done = subprocess.run(["bash", "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "["
    assert "Traceback" not in done.stderr and "Error" not in done.stderr


def test_a_compressed_file_is_read_as_what_it_holds(call, tmp_path):
    file = tmp_path / "rows.jsonl.gz"
    file.write_bytes(gzip.compress('{"question": "質問"}\n'.encode()))
    assert call("data", "import", str(file), "--as", "mine", "--json").document["prompts"] == 1
