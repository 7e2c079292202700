"""Anthropic's Messages API, through which all other formats are translated."""
