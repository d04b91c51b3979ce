"""Settings from the environment (`PLAYGROUND_*`) and `.env`. Keys stay here: never in a file, log, run folder or page."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from evaluation.errors import SettingsRejected
from evaluation.judge.prices import OPENAI_ORIGIN
from playground import profiles
from playground.profiles import Profile, ProfileName
from playground.users import Role

ROOT = Path(__file__).resolve().parents[1]
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Settings(BaseSettings):
    """One field per variable; the variable is `PLAYGROUND_` plus the field's name in capitals."""

    model_config = SettingsConfigDict(env_prefix="PLAYGROUND_", env_file=".env", extra="ignore")

    home: Path = ROOT / "var"  # index, runs, converted models, imported suites
    host: str = Field(default_factory=lambda: "0.0.0.0" if os.environ.get("SPACE_ID") else LOOPBACK[0])
    port: int = Field(7860, ge=1, le=65535)
    max_context: int = Field(4096, ge=64)  # tokens of prompt plus reply for models in this process
    openai_base_url: str = "https://api.openai.com/v1"
    openai_api_key: SecretStr | None = None
    openai_models: Annotated[tuple[str, ...], NoDecode] = ()  # offered in Compare; names separated by commas
    openai_requests_per_minute: float | None = Field(None, gt=0)  # the account's limit, for models and judge together
    models: Annotated[tuple[str, ...], NoDecode] = ()  # more checkpoints for Compare: hub:ORG/NAME or path:FOLDER
    judge_model: str = "gpt-4o-2024-08-06"  # offered as a judge when a key is set
    hf_token: SecretStr | None = Field(None, validation_alias="HF_TOKEN")
    answercarefully: Path | None = None  # a local copy; without one the hub is asked
    chat_keeps_gpu: bool = False  # runs wait for the GPU until the app ends, instead of chat making room for them
    sql_box: bool | None = (
        None  # read-only SQL on the Benchmark page; unset: only for an owner who signs in or is alone
    )

    profile: ProfileName | None = None  # local, replay, zerogpu or gpu; unset: what fits (profiles.py)
    users: Path | None = None  # file of users, their roles and hashed passwords: `python -m playground users add`
    hub_owners: Annotated[tuple[str, ...], NoDecode] = ()  # Hugging Face user names, by role, for a Space with hf_oauth
    hub_operators: Annotated[tuple[str, ...], NoDecode] = ()
    hub_raters: Annotated[tuple[str, ...], NoDecode] = ()
    open: bool = False  # serve the profile local beyond this machine without users: whoever reaches it is the owner
    trusted_proxies: int | None = Field(
        None, ge=0
    )  # before the app, whose X-Forwarded-For is believed; unset: 1 on a Space
    tokens_per_day: int | None = Field(None, ge=0)  # for all strangers together, in place of the profile's
    spend_usd_per_day: float | None = Field(None, ge=0)
    retention_days: float | None = Field(None, gt=0)  # conversations older than that are deleted; unset: kept

    engine: Literal["transformers", "vllm"] = "transformers"  # what answers for the embedded model and its adapters
    judge_url: str | None = None  # a second server, for judges vllm:NAME; unset: the server that answers
    judge_api_key: SecretStr | None = None  # of that server
    vllm_model: str = "embedded"  # what the app's own vLLM server holds: embedded, hub:ORG/NAME or path:FOLDER
    vllm_args: str = ""  # more options for that server, as in a shell
    vllm_url: Annotated[tuple[str, ...], NoDecode] = ()  # servers that somebody else runs; none is started then
    vllm_api_key: SecretStr | None = None  # of those servers

    @field_validator(
        "answercarefully",
        "openai_api_key",
        "openai_requests_per_minute",
        "hf_token",
        "sql_box",
        "vllm_api_key",
        "judge_url",
        "judge_api_key",
        "profile",
        "users",
        "trusted_proxies",
        "tokens_per_day",
        "spend_usd_per_day",
        "retention_days",
        mode="before",
    )
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("openai_models", "models", "vllm_url", "hub_owners", "hub_operators", "hub_raters", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("models")
    @classmethod
    def _known_kind(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for model in value:
            if not model.startswith(("hub:", "path:")):
                raise ValueError(f"{model} must begin with hub: or path:")
        return value

    @field_validator("vllm_model")
    @classmethod
    def _known_base(cls, value: str) -> str:
        if value == "":
            return "embedded"
        if value != "embedded" and not value.startswith(("hub:", "path:")):
            raise ValueError(f"{value} must be embedded, or begin with hub: or path:")
        return value

    @field_validator("vllm_url")
    @classmethod
    def _base_urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"{url} must begin with http:// or https://")
        return tuple(f"{url.rstrip('/').removesuffix('/v1')}/v1" for url in value)

    @field_validator("judge_url")
    @classmethod
    def _judges_base_url(cls, value: str | None) -> str | None:
        return cls._base_urls((value,))[0] if value else None

    @field_validator("vllm_args")
    @classmethod
    def _readable(cls, value: str) -> str:
        shlex.split(value)  # raises ValueError for an open quotation
        return value

    @property
    def vllm_key(self) -> str | None:
        """The key of the servers that somebody else runs, in clear."""
        return self.vllm_api_key.get_secret_value() if self.vllm_api_key else None

    @property
    def judge_key(self) -> str | None:
        """The key of the judges' own server, in clear."""
        return self.judge_api_key.get_secret_value() if self.judge_api_key else None

    @property
    def vllm_options(self) -> list[str]:
        """`vllm_args` in words."""
        return shlex.split(self.vllm_args)

    @property
    def endpoint_key(self) -> str | None:
        """The key for the endpoint. A server of one's own asks for none, so any word will do there; OpenAI needs a real one."""
        own_server = not f"{self.openai_base_url}/".startswith(f"{OPENAI_ORIGIN}/")
        return self.openai_key or ("none" if own_server else None)

    @property
    def offers_sql(self) -> bool:
        """Whether the page has the SQL box: it shows the texts of every run, so it is the owner's alone."""
        return (self.is_alone or self.users is not None) if self.sql_box is None else self.sql_box

    @property
    def is_alone(self) -> bool:
        """Whether the app is served to this machine only."""
        return self.host in LOOPBACK

    @property
    def own_names(self) -> tuple[str, ...]:
        """The names by which the app may be asked, where whoever reaches it is its owner; empty: any.

        A proxy of one's own, or PLAYGROUND_OPEN, is asked by names that we do not know.
        """
        unasked = self.users is None and not self.allowed.public and not self.open and self.proxies == 0
        return LOOPBACK if unasked and self.is_alone else ()

    @property
    def allowed(self) -> Profile:
        """The profile in force. Raises SettingsRejected for budgets that it has no use for."""
        name = self.profile or profiles.detected()
        return profiles.profile(name, tokens_per_day=self.tokens_per_day, spend_usd_per_day=self.spend_usd_per_day)

    @property
    def answers_at_once(self) -> int:
        """Pairs that are streamed at once; the others stand in line."""
        return self.allowed.concurrent_answers

    @property
    def proxies(self) -> int:
        """Proxies before the app whose X-Forwarded-For is believed."""
        on_space = int(bool(os.environ.get("SPACE_ID")))
        return on_space if self.trusted_proxies is None else self.trusted_proxies

    @property
    def hub_users(self) -> dict[str, Role]:
        """Roles of people who sign in with Hugging Face; the highest one counts."""
        by_role: tuple[tuple[Role, tuple[str, ...]], ...] = (
            ("rater", self.hub_raters), ("operator", self.hub_operators), ("owner", self.hub_owners),
        )  # fmt: skip
        return {name: role for role, names in by_role for name in names}

    @property
    def runs(self) -> Path:
        """Folder of all run folders."""
        return self.home / "runs"

    @property
    def openai_key(self) -> str | None:
        """The key in clear, for the client that sends it; None when unset or empty."""
        return self.openai_api_key.get_secret_value() if self.openai_api_key else None


def load_settings() -> Settings:
    """Read the settings. Raises SettingsRejected naming the variable that is wrong."""
    try:
        return Settings()
    except UnicodeDecodeError as error:
        raise SettingsRejected(f".env is not UTF-8 text ({error.reason}); save it as UTF-8 and start again.") from error
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise SettingsRejected(
            f"PLAYGROUND_{name} is not usable: {first['msg']}; change it in .env or the environment."
        ) from error
