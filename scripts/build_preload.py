"""Builds the library that keeps Chromium's memory for pictures, where there is a C compiler; all else works without."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = "src/asyncrender/browser/preload.c"
FLAGS = ("-O2", "-Wall", "-Wextra", "-shared", "-fPIC")


class PreloadHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it makes a wheel, also an editable one."""
        source = Path(self.root, SOURCE)
        library = source.with_name("libpreload.so")
        library.unlink(missing_ok=True)
        compiler = shutil.which(os.environ.get("CC") or "cc")
        if sys.platform != "linux" or compiler is None:
            return
        done = subprocess.run([compiler, *FLAGS, "-o", library, source], capture_output=True, text=True, check=False)
        if done.returncode:
            self.app.display_warning(f"{SOURCE} was not built, raw frames will come slower: {done.stderr}")
            return
        build_data["artifacts"].append(str(library.relative_to(self.root)))
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
