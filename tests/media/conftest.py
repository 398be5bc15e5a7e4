"""The media rooms run on one event loop here: `process`, which alone deals with the loops, is tested on all."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
