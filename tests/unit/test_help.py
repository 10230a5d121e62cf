"""What `help()` shows of the three names that every program has: each option, and an example that runs."""

from __future__ import annotations

import doctest
import inspect

import pytest

import graflow
from graflow.core.task import ParallelGroup


@pytest.mark.parametrize("shown", [graflow.task, graflow.workflow, ParallelGroup.with_execution])
def test_help_has_every_option_and_an_example_that_does_what_it_says(shown):
    text = inspect.getdoc(shown)
    options = [name for name in inspect.signature(shown).parameters if name != "self"]
    assert all(f"\n    {option}: " in text for option in options)
    (example,) = doctest.DocTestFinder(recurse=False).find(shown, shown.__name__, globs={})
    said = []
    outcome = doctest.DocTestRunner(verbose=False).run(example, out=said.append)
    assert outcome.attempted >= 3
    assert not outcome.failed, "".join(said)
