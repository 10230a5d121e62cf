"""The steps of `ocr_analysis`: pages that are drawn, read, and searched for figures.

Reading needs the extra `ocr` and the program tesseract; without them a page is measured, and says that it was not read.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from graflow import task

try:
    from PIL import Image, ImageDraw, ImageFont
except ModuleNotFoundError:
    raise SystemExit(
        "ocr_analysis looks at images; install what that needs with: pip install 'graflow-celery[ocr]'"
    ) from None

KINDS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
INK = 128  # what is darker is ink, of 255

SAMPLES = {
    "invoice-1.png": "INVOICE 2041\n\nWalrus Ice Company\n\nPaper      120.50\nInk         30.25\nTotal      150.75",
    "invoice-2.png": "INVOICE 2042\n\nNorth Sea Tools\n\nHammer      18.00\nNails        7.40\nTotal       25.40",
    "letter.png": "Dear reader,\n\nthe walrus sleeps on the ice.\nIt sings in the long night.\n\nYours, the keeper",
}

_WORD = re.compile(r"[^\W\d_]{2,}")
_TOTAL = re.compile(r"^total\s+(\d+[.,]\d\d)\s*$", re.IGNORECASE | re.MULTILINE)


def images_under(paths: list[str]) -> list[str]:
    """The images among files and under folders, each once and in order."""
    found: dict[str, None] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise ValueError(f"there is no file or folder {path}")
        under = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.suffix.lower() in KINDS)
        found.update(dict.fromkeys(map(str, under)))
    if not found:
        raise ValueError(f"no images ({', '.join(KINDS)}) among {', '.join(paths) or 'no paths'}")
    return list(found)


def draw_samples(folder: Path) -> list[str]:
    """Two invoices and a letter, drawn as images; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in SAMPLES.items():
        draw_page(folder / name, text)
    return [str(folder / name) for name in SAMPLES]


def draw_page(path: Path, text: str) -> None:
    """Write an image of a page with black text on white."""
    page = Image.new("L", (900, 700), 255)
    ImageDraw.Draw(page).multiline_text((60, 60), text, fill=0, font=ImageFont.load_default(32), spacing=18)
    page.save(path)


def engine() -> str | None:
    """The program that reads images; None where it, or what calls it, is not installed."""
    if find_spec("pytesseract") is None:  # importing it takes seconds, which kept texts need not wait for
        return None
    return shutil.which("tesseract")


def content(path: str) -> str | None:
    """What counts of an image to be read: its bytes. None, for not to be kept, where nothing can read it."""
    return None if engine() is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()


@task
def measure(paths: list[str]) -> list[dict[str, Any]]:
    """Size of each image, and how much of it is ink."""
    return [measured(path) for path in paths]


def measured(path: str) -> dict[str, Any]:
    with Image.open(path) as image:
        levels = image.convert("L").histogram()
        return {"path": path, "size": list(image.size), "ink": round(sum(levels[:INK]) / sum(levels), 4)}


@task(cache=content)
def recognise(path: str) -> str | None:
    """The text of an image, kept by its content, since reading takes a second or more; None where nothing can read."""
    if engine() is None:
        return None
    import pytesseract  # noqa: PLC0415 - reading is optional

    with Image.open(path) as image:
        return str(pytesseract.image_to_string(image)).strip()


@task
def report(measure: list[dict[str, Any]], pages: Sequence[str | None], top: int = 10) -> dict[str, Any]:
    """What the pages say: words, frequent ones, and the totals of invoices."""
    read = [text for text in pages if text is not None]
    words = Counter(word.lower() for text in read for word in _WORD.findall(text))
    totals = [float(found.group(1).replace(",", ".")) for text in read for found in _TOTAL.finditer(text)]
    return {
        "images": len(measure),
        "read": len(read),
        "ink": round(sum(image["ink"] for image in measure) / len(measure), 4),
        "words": words.total(),
        "frequent": [word for word, _ in words.most_common(top)],
        "totals": totals,
        "pages": [
            {**image, "first_line": None if text is None else text.partition("\n")[0]}
            for image, text in zip(measure, pages, strict=True)
        ],
    }
