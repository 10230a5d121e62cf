"""What do images of pages say? A flow whose pages are read once: the same image is not read again.

python examples/flows/ocr_analysis.py scans                  # recorded in .graflow/flows.db
python examples/flows/ocr_analysis.py --samples /tmp/pages   # draws three pages there, and reads them
graflow flow run ocr_analysis --flows examples/flows/ocr_analysis.py paths='["scans"]'

Reading needs the program tesseract and the extra `ocr`; without the program pages are measured only, and it says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

if not __package__:  # run as a file: its neighbours are found from the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from examples.flows.images import draw_samples, images_under, measure, recognise, report
from graflow.flows import FlowRunner, flow
from graflow.state import FlowState, FlowStatus

Images = Annotated[list[str], AfterValidator(images_under)]
"""Files and folders; folders become the images under them when the flow is made."""

NOT_READ = (
    "No page was read: the program tesseract is not here. Install it (apt-get install tesseract-ocr, "
    "brew install tesseract) and run this again"
)


@flow("ocr_analysis")
def ocr_analysis(paths: Images, top: int = 10) -> None:
    """Measure every image, read those that were not read before, and report."""
    pages = recognise.map(paths, name="pages").with_execution("threading")
    measure(task_id="measure", paths=paths) >> pages >> report(task_id="report", top=top)


def print_report(found: Mapping[str, Any], state: FlowState) -> None:
    for page in found["pages"]:
        width, height = page["size"]
        print(f"  {width} x {height}, {page['ink']:.1%} ink  {page['path']}: {page['first_line'] or '-'}")
    if not found["read"]:
        print(NOT_READ)
        return
    counts = next((step.counts for step in state.steps if step.step_name == "pages"), None) or {}
    kept = counts.get("cached", 0)
    print(f"{found['words']} words on {found['read']} pages, of which {kept} had been read before")
    print("Frequent: " + ", ".join(found["frequent"]))
    print(f"Totals: {', '.join(f'{total:.2f}' for total in found['totals'])}; together {sum(found['totals']):.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Read images of pages.")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="images, or folders of them")
    parser.add_argument("--samples", type=Path, metavar="FOLDER", help="draw three pages there, and read them")
    parser.add_argument("--store", metavar="URL", help="where flows and texts are kept (default: .graflow/flows.db)")
    parser.add_argument("--top", type=int, default=5, help="how many words to name (default: %(default)s)")
    options = parser.parse_args()
    paths = options.paths + (draw_samples(options.samples) if options.samples else [])
    if not paths:
        parser.error("give images, or --samples FOLDER")
    with FlowRunner(options.store) as runner:
        state = runner.execute("ocr_analysis", {"paths": paths, "top": options.top})
    if state.status is not FlowStatus.COMPLETED:
        print(f"Flow {state.flow_id} is {state.status}: {state.error}", file=sys.stderr)
        return 1
    print_report(state.outputs, state)
    return 0


if __name__ == "__main__":
    sys.exit(main())
