"""An OpenAI-compatible endpoint, used when OPENAI_BASE_URL is set; without it the team needs no model at all."""

import json
import os
import urllib.error
import urllib.request

from agent import Later


def complete(instructions: str, text: str) -> str | None:
    """What the model answers, or None when no model is configured. A model that fails is not replaced in silence."""
    base = os.environ.get("OPENAI_BASE_URL")
    if not base:
        return None
    body = {
        "model": os.environ.get("OPENAI_MODEL", "gpt-4o-mini"),
        "temperature": 0,
        "messages": [{"role": "system", "content": instructions}, {"role": "user", "content": text}],
    }
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("OPENAI_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(base.rstrip("/") + "/chat/completions", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)["choices"][0]["message"]["content"]
    except urllib.error.HTTPError as error:
        raise Later(f"the model answered {error.code}: {error.read(300).decode(errors='replace')}") from None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise Later(f"the model gave no answer: {error}") from None
