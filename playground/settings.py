"""Settings from the environment (`PLAYGROUND_*`) and `.env`. Keys stay here: never in a file, log, run folder or page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from evaluation.errors import SettingsRejected
from evaluation.judge.prices import OPENAI_ORIGIN

ROOT = Path(__file__).resolve().parents[1]


class Settings(BaseSettings):
    """One field per variable; the variable is `PLAYGROUND_` plus the field's name in capitals."""

    model_config = SettingsConfigDict(env_prefix="PLAYGROUND_", env_file=".env", extra="ignore")

    home: Path = ROOT / "var"  # index, runs, converted models, imported suites
    host: str = "127.0.0.1"
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
    sql_box: bool | None = None  # read-only SQL on the Benchmark page; unset: only when served to this machine alone

    @field_validator(
        "answercarefully", "openai_api_key", "openai_requests_per_minute", "hf_token", "sql_box", mode="before"
    )
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("openai_models", "models", mode="before")
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

    @property
    def endpoint_key(self) -> str | None:
        """The key for the endpoint. A server of one's own asks for none, so any word will do there; OpenAI needs a real one."""
        own_server = not f"{self.openai_base_url}/".startswith(f"{OPENAI_ORIGIN}/")
        return self.openai_key or ("none" if own_server else None)

    @property
    def offers_sql(self) -> bool:
        """Whether the page has the SQL box: it shows the texts of every run, so it is the owner's alone."""
        return self.host in ("127.0.0.1", "localhost", "::1") if self.sql_box is None else self.sql_box

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
