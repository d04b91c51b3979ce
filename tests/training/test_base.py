"""Where a base model comes from, and in which arithmetic it is trained."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest
import torch
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from evaluation.errors import AccessMissing, ModelUnavailable, SettingsRejected
from training.base import base_folder, precision_of


def nobody(words: str) -> None:
    pass


@pytest.mark.parametrize("prefix", ["", "path:"])
def test_a_folder_is_taken_as_it_is(base, tmp_path, prefix):
    assert base_folder(f"{prefix}{base}", tmp_path, nobody) == base


@pytest.mark.parametrize("name", ["nowhere", "path:nowhere", ""])
def test_a_folder_without_a_model_is_refused(tmp_path, name):
    with pytest.raises(SettingsRejected, match="hub:ORG/NAME or a folder"):
        base_folder(name, tmp_path, nobody)


def test_a_model_of_the_hub_is_fetched_without_pickles_and_code(tmp_path, monkeypatch):
    asked: dict[str, object] = {}
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **more: asked.update(more, name=name) or str(tmp_path)
    )
    said: list[str] = []
    assert base_folder("hub:org/name", tmp_path, said.append) == tmp_path
    assert asked["name"] == "org/name"
    assert not [p for p in asked["allow_patterns"] if Path(p).suffix in (".bin", ".pt", ".py", ".pkl")]
    assert said and "hub:org/name" in said[0]


def answer(status: int) -> httpx2.Response:
    return httpx2.Response(status, request=httpx2.Request("GET", "https://huggingface.co/org/name"))


@pytest.mark.parametrize(
    ("failure", "error", "told"),
    [
        pytest.param(GatedRepoError("gated", response=answer(403)), AccessMissing, "is gated", id="gated"),
        pytest.param(RepositoryNotFoundError("no", response=answer(404)), ModelUnavailable, "no model org", id="gone"),
        pytest.param(httpx2.ConnectError("no route"), ModelUnavailable, "cannot be fetched", id="no network"),
    ],
)
def test_a_model_that_the_hub_does_not_give_is_told_in_one_line(tmp_path, monkeypatch, failure, error, told):
    def refuse(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(error, match=told) as refused:
        base_folder("hub:org/name", tmp_path, nobody)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("hardware", "wanted"), [(True, torch.bfloat16), (False, torch.float32)])
def test_the_arithmetic_is_bfloat16_only_where_the_hardware_multiplies_it(monkeypatch, hardware, wanted):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: hardware)
    assert precision_of("auto") is wanted
    assert precision_of("bfloat16") is torch.bfloat16
    assert precision_of("float32") is torch.float32
