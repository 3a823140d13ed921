"""Puts the lab's page into wheels and source archives: builds it where it is missing or older than its sources.

Editable installs go without, so that `make demo` needs no npm; a source archive holds the page, so that a wheel made of
it needs none either.
"""

import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Page(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        root = Path(self.root)
        studio = root / "src" / "elegan" / "studio"
        page = studio / "page" / "index.html"
        sources = [path for path in (studio / "web").rglob("*") if path.is_file() and "node_modules" not in path.parts]
        if not page.exists() or any(path.stat().st_mtime > page.stat().st_mtime for path in sources):
            subprocess.run(["sh", str(root / "page.sh")], check=True)
