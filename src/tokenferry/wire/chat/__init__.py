"""OpenAI's Chat Completions API and its dialects, to and from the Messages API."""
