"""The scripts that run in documents and workers: each is a function of (config, key) in a file of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any


def read(name: str) -> str:
    """The text of a file in this package."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def read_bytes(name: str) -> bytes:
    """A file in this package."""
    return resources.files(__package__).joinpath(name).read_bytes()


def call(name: str, config: Mapping[str, Any], key: str) -> str:
    """JavaScript that runs a script."""
    return f"({read(name).rstrip()})({json.dumps(config)}, {json.dumps(key)});"
