"""OpenAI's Chat Completions API, and what vendors made of it."""
