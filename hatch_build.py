"""What a package index shows: README with its links made absolute, and the project's addresses. Hatchling runs it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

PICTURES = (".png", ".svg")


class Published(MetadataHookInterface):
    """Fills in ``readme`` and ``urls`` from the one address in pyproject.toml; without one, README stays as it is."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set both, for the tag of this version."""
        address = self.config["repository"].rstrip("/")
        tag = f"v{metadata['version']}"
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute(text, address, tag) if address else text,
        }
        metadata["urls"] = urls(address, tag) if address else {}


def urls(address: str, tag: str) -> dict[str, str]:
    """Return what stands in the index's margin."""
    return {
        "Repository": address,
        "Documentation": f"{address}/blob/{tag}/docs/index.md",
        "Changelog": f"{address}/blob/{tag}/CHANGELOG.md",
        "Issues": f"{address}/issues",
    }


def absolute(text: str, address: str, tag: str) -> str:
    """Return Markdown in which every link to a file of the repository is an address; code stays as it is."""

    def link(found: re.Match[str]) -> str:
        target = found["target"]
        if target is None:
            return found[0]
        kind = "raw" if target.endswith(PICTURES) else "blob"
        return f"]({address}/{kind}/{tag}/{target}"

    code_or_link = r"^```.*?^```|`[^`\n]*`|\]\((?![a-z]+:|#)(?P<target>[^)\s]+)"
    return re.sub(code_or_link, link, text, flags=re.DOTALL | re.MULTILINE)
