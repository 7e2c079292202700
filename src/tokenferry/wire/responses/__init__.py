"""OpenAI's Responses API, as Codex and others use it, to and from the Messages API."""
