"""Sphinx's configuration: only what comes with Sphinx itself, and nothing from the network."""

from __future__ import annotations

import rl_logging

project = "rl_logging"
author = "The rl_logging authors"
copyright = author
version = release = rl_logging.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
# The table is part of another page.
exclude_patterns = ["_build", "explanation/faults_table.rst", "reference/metrics_by_algorithm.rst"]
html_theme = "alabaster"
html_theme_options = {
    "description": "An experiment logger for reinforcement learning",
    "fixed_sidebar": True,
    "page_width": "1100px",
}
html_show_copyright = False
html_show_sphinx = False

# Single backticks in docstrings are code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

# Annotations are linked where this documentation has the target. Those of other packages would need their inventories
# from the network; those of ours that are no part of the public API are told in words where they matter.
nitpick_ignore_regex = [
    (r"py:.*", r"(collections|pathlib|typing|types|os|threading|logging|msgspec|click|pluggy|pytest)\..*"),
    (r"py:.*", r"(stable_baselines3|skrl|gymnasium|torch|numpy|PIL)\..*"),
    (
        r"py:.*",
        r"(Any|Callable|ClassVar|Final|Iterable|Iterator|Literal|Mapping|NamedTuple|Path|Protocol|Sequence)",
    ),
    (r"py:.*", r"(Array|Figure)"),
    (r"py:.*", r"(np|npt)\..*"),
    (r"py:.*", r"(TracebackType|BaseException|frozenset|optional)"),
]


def _plain_property(app, what, name, obj, options, lines):
    # Napoleon takes what stands before a colon in a property's first line for its type; ours are sentences.
    # An empty comment before them has no colon and leaves no trace.
    if what == "property":
        lines[:0] = ["..", ""]


def _readable_default(app, what, name, obj, options, signature, return_annotation):
    # What msgspec shows for a default that is made anew each time is no Python, and would not be parsed.
    return (signature or "").replace("<factory>", "...") or signature, return_annotation


def setup(app):
    app.connect("autodoc-process-docstring", _plain_property, priority=100)
    app.connect("autodoc-process-signature", _readable_default)
