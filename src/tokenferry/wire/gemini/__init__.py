"""Google's Gemini API, `generateContent`, as the Gemini API and Vertex AI speak it, to and from the Messages API."""
