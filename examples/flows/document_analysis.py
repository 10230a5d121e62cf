"""What do the documents of a folder say? A flow that survives: killed at any moment, it goes on where it was.

python examples/flows/document_analysis.py docs                     # recorded in .graflow/flows.db
python examples/flows/document_analysis.py docs --store off         # not recorded
python examples/flows/document_analysis.py docs --backend redis     # on workers that import examples.flows.documents
graflow flow run document_analysis --flows examples/flows/document_analysis.py paths='["docs"]'
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

if not __package__:  # run as a file: its neighbours are found from the folder above, under the name that workers use
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from examples.flows.documents import analyse, discover, documents_under, duplicates, keywords, report
from graflow.flows import FlowContext, FlowRunner, flow
from graflow.state import FlowState, FlowStatus

Documents = Annotated[list[str], AfterValidator(documents_under)]
"""Files and folders; folders become the documents under them when the flow is made, and stay these when it goes on."""


@flow("document_analysis")
def document_analysis(
    paths: Documents, top: int = 10, backend: Literal["direct", "threading", "redis"] = "threading"
) -> None:
    """Measure every document, compare them, and report."""
    pages = analyse.map(paths, name="pages").with_execution(backend)
    comparisons = duplicates(task_id="duplicates") | keywords(task_id="keywords", top=top)
    comparisons.set_group_name("comparisons")
    discover(task_id="discover", paths=paths) >> pages >> comparisons >> report(task_id="report", top=top)


def print_report(found: Mapping[str, Any]) -> None:
    print(f"\n{found['documents']:,} documents, {found['words']:,} words, {found['links']:,} links")
    for kind, totals in found["kinds"].items():
        print(f"  {kind:<18}{totals['documents']:>6,} documents {totals['words']:>9,} words")
    for title, name, figure in (
        ("The longest", "longest", "words"),
        ("The hardest to read", "hardest", "readability"),
        ("The easiest", "easiest", "readability"),
    ):
        print(f"\n{title}")
        for document in found[name]:
            print(f"  {document[figure]:>8,}  {document['path']}")
    print("\nKeywords\n  " + ", ".join(keyword["word"] for keyword in found["keywords"]))
    alike = found["duplicates"]
    print(f"\n{len(alike['same'])} sets of equal documents, {len(alike['near'])} pairs that are nearly the same")
    for pair in alike["near"][:5]:
        print(f"  {pair['resemblance']:.2f}  {' = '.join(pair['paths'])}")


def run(options: argparse.Namespace) -> FlowState:
    """The flow as it ended."""
    inputs = {"paths": options.paths, "top": options.top, "backend": options.backend}
    if options.store == "off":
        return FlowRunner(durability="off").execute("document_analysis", inputs)
    with FlowRunner(options.store) as runner:
        return runner.execute(FlowContext("document_analysis", inputs, options.id))


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure and compare documents.")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files, or folders of .md, .py, .rst and .txt files")
    parser.add_argument("--store", metavar="URL", help='"off" records nothing (default: the file .graflow/flows.db)')
    parser.add_argument("--id", help="id of the flow: started again under the same one, it goes on")
    parser.add_argument("--top", type=int, default=5, help="how many to name of each sort (default: %(default)s)")
    parser.add_argument("--backend", choices=["direct", "threading", "redis"], default="threading")
    state = run(parser.parse_args())
    if state.status is not FlowStatus.COMPLETED:
        print(f"Flow {state.flow_id} is {state.status}: {state.error}", file=sys.stderr)
        return 1
    print_report(state.outputs)
    print(f"\nFlow {state.flow_id}: {len(state.steps)} steps in {state.total_execution_time:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
