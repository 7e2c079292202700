"""Anthropic's Messages API: the hub that other formats are translated from and to."""
