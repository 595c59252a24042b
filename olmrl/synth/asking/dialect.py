"""What a server understands of a request; learnt from what it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from olmrl.mix.api import ApiError


@dataclass
class Dialect:
    """What a server understands of a request; learnt from what it refuses."""

    format: str = "json_schema"
    """`json_schema`, `json_object` or `text`: how structured answers are asked for."""
    tokens: str = "max_completion_tokens"
    """Name of the limit on tokens."""
    temperature: bool = True

    def speak(self, body: dict[str, Any]) -> dict[str, Any]:
        """A request in terms that the server knows."""
        spoken = dict(body)
        spoken[self.tokens] = spoken.pop("max_completion_tokens")
        if self.format == "json_object":
            spoken["response_format"] = {"type": "json_object"}
        elif self.format == "text":
            del spoken["response_format"]
        if not self.temperature:
            del spoken["temperature"]
        return spoken

    def learn(self, error: ApiError) -> bool:
        """Whether a refusal taught something, so that asking again in other terms may work."""
        told = f"{error.code} {error.message}".lower()
        if error.status not in (400, 422, 501):
            return False
        if "max_completion_tokens" in told and self.tokens == "max_completion_tokens":
            self.tokens = "max_tokens"
        elif "temperature" in told and self.temperature:
            self.temperature = False
        elif self.format != "text" and any(
            word in told for word in ("response_format", "json_schema", "schema", "grammar")
        ):
            self.format = "json_object" if self.format == "json_schema" else "text"
        else:
            return False
        return True
