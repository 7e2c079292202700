"""OpenAI's Responses API, as Codex and other clients need it."""
