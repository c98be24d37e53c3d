"""Takes pictures of the report for docs/: light, dark, and a phone's width.

    mbqa-bundle evaluate ... --out evaluation.json
    python tools/report_screenshots.py evaluation.json

The committed ones show a real evaluation with --layers: 160 held-out questions of the demo model's corpus (which it
knows perfectly) on a virtual Snapdragon 8 Gen 3, fp16 on its CPU and GPU, w8a16 and w8a8 on its DSP, on a busy
computer. Without a file it uses the example document of the tests. Needs Chromium and selenium (tests/browser.py), and
pillow, which comes with matplotlib.
"""

import argparse
import io
import json
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bundler.report import write_report  # noqa: E402
from tests import evaluations  # noqa: E402
from tests.browser import Browser, browser  # noqa: E402

SETTLED_S = 0.5
SHOTS = (
    ("light", "light", (1280, 2420), "", "scrollTo(0, 0)"),
    ("dark", "dark", (1280, 2420), "", "scrollTo(0, 0)"),
    ("phone", "light", (390, 1200), "#order=sure", "document.getElementById('questions').scrollIntoView()"),
)
"""Name, colour scheme, size of the window, what is filtered, and where the page is scrolled to."""


def take(tab: Browser, page: Path, folder: Path) -> None:
    for name, scheme, size, fragment, scroll in SHOTS:
        tab.scheme(scheme)
        tab.size(*size)
        tab.open(page, fragment)
        tab.run(scroll)
        time.sleep(SETTLED_S)
        picture = Image.open(io.BytesIO(tab.picture())).convert("RGB")
        path = folder / f"report-{name}.png"
        picture.save(path, optimize=True)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluation", type=Path, nargs="?", help="evaluation.json; the tests' example without it")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    asked = parser.parse_args()
    document = json.loads(asked.evaluation.read_text()) if asked.evaluation else evaluations.document()
    with tempfile.TemporaryDirectory() as scratch, browser(Path(scratch) / "profile") as tab:
        page = Path(scratch) / "report.html"
        write_report(document, page)
        take(tab, page, asked.out)


if __name__ == "__main__":
    main()
