"""The documentation site, for Sphinx: `make docs` builds it into out/site, warnings as errors."""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import taichi_dr  # noqa: E402

project = "taichi_dr"
author = "the taichi_dr authors"
release = taichi_dr.__version__
html_title = f"taichi_dr {release}"
html_theme = "furo"
html_copy_source = False
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["site.css"]

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say shape and unit
autodoc_default_options = {"members": True, "inherited-members": "tuple", "exclude-members": "kind, model, count, index"}
add_module_names = False
smartquotes = False

SECTIONS = {"Args": "Arguments", "Returns": "Returns", "Raises": "Raises", "Fields": "Fields", "Attributes": "Attributes"}
ENTRY = re.compile(r"^([\w*.]+(?:, [\w*.]+)*):(?: (.*))?$")


def restructured(lines):
    """A docstring of ours, plain text with sections and indented formulas, as reStructuredText."""
    out, section, formula = [], None, None
    for line in lines:
        text, indent = line.strip(), len(line) - len(line.lstrip())
        if not text:
            out.append("")
        elif formula is not None and indent >= formula:
            out.append("    " + line[formula:])
        elif indent == 0:
            section, formula = SECTIONS.get(text.removesuffix(":")) if text.endswith(":") else None, None
            out += ["", f"**{section}**", ""] if section else [escaped(text)]
        elif section is None:
            formula = indent
            out += ["", ".. code-block:: text", "", "    " + text]
        elif indent == 4 and section != "Returns" and (entry := ENTRY.match(text)):
            out += ["", ", ".join(f"``{name}``" for name in entry[1].split(", ")), "    " + escaped(entry[2] or "")]
        elif section == "Returns":
            out += ["", f"- {escaped(text)}"] if text.startswith('"') else [escaped(text)]
        else:
            out.append(("    " if indent > 4 else "") + escaped(text))
    return [*out, ""]


def escaped(text):
    """Text whose marks are only those of code."""
    parts = re.split(r"(`[^`]+`|\"[^\"]*\")", text)
    plain = [part if part.startswith(("`", '"')) else re.sub(r"([*|\\])|(?<=\w)(_)(?=\W|$)", r"\\\1\2", part) for part in parts]
    text = "".join(f"`{part}`" if part.startswith("`") else part for part in plain)
    return re.sub(r"(?<=\w``)(?=\w)", r"\\ ", text)  # of a plural: code must end before a letter does


def setup(app):
    app.connect("autodoc-process-docstring", lambda app, what, name, obj, options, lines: lines.__setitem__(slice(None), restructured(lines)))
