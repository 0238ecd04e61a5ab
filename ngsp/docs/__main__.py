"""`python -m ngsp.docs` writes the pages; `--check` says which are stale and exits 1."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ngsp.api.routes import described
from ngsp.docs.errors import errors_page
from ngsp.docs.settings import SKELETON, with_settings
from ngsp.text import tr

ROOT = Path(__file__).resolve().parents[2]


def pages(root: Path = ROOT) -> dict[Path, str]:
    """Each page's path and what it should hold."""
    operations = root / "docs" / "operations.md"
    written = operations.read_text("utf-8") if operations.exists() else SKELETON
    return {
        root / "docs" / "errors.md": errors_page(),
        root / "docs" / "openapi.json": json.dumps(described(), ensure_ascii=False, indent=1, sort_keys=True) + "\n",
        operations: with_settings(written),
    }


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(prog="python -m ngsp.docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a page is stale")
    checking = parser.parse_args(arguments).check
    stale = 0
    for path, wanted in pages(root).items():
        if path.exists() and path.read_text("utf-8") == wanted:
            continue
        stale += 1
        if checking:
            print(tr(f"{path} đã cũ: chạy python -m ngsp.docs", f"{path} is stale: run python -m ngsp.docs"))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted, "utf-8")
            print(tr(f"đã ghi {path}", f"wrote {path}"))
    return 1 if checking and stale else 0


if __name__ == "__main__":
    sys.exit(main())
