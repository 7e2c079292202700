"""Reads config.toml into settings. Every fault is told at once, with its key, its place and the nearest known key."""

from tokenferry.config._load import Config, load

__all__ = ["Config", "load"]
