"""Google's `generateContent`, of the Gemini API and of Vertex AI, to and from the Messages API."""
