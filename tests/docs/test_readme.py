"""The README is plain reStructuredText, as package indexes render it."""

from __future__ import annotations

import re

import pytest

from tests.docs.blocks import README


def test_docutils_has_nothing_to_say():
    core = pytest.importorskip("docutils.core", reason="docutils comes with 'make docs' and 'make lint'")
    settings = {"halt_level": 2, "report_level": 2, "input_encoding": "utf-8", "syntax_highlight": "none"}
    html = core.publish_string(README.read_text(encoding="utf-8"), writer="html5", settings_overrides=settings)
    assert "make demo" in (html.decode() if isinstance(html, bytes) else html)


def test_there_are_no_roles_that_only_sphinx_knows():
    assert not re.search(r":(?:doc|ref|class|func|meth|py:\w+):`", README.read_text(encoding="utf-8"))


def test_no_host_is_named():
    text = README.read_text(encoding="utf-8")
    assert "pypi" not in text.lower()
    assert not re.findall(r"https?://", text)
