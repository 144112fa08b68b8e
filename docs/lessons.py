"""A notebook as a page of the site: its text, its code, and its formulas as small pictures, since no script is loaded."""

import base64
import io
import json
import re
from functools import cache

from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import math_to_image

FORMULA = re.compile(r"(`[^`]*`)|\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.DOTALL)
SIZE = 11.5  # points
ARGUMENT = r"\\[A-Za-z]+|\w|{[^{}]*}"
WORDS = {  # of LaTeX: of mathtext
    r"\\[td]frac": r"\\frac",
    rf"\\frac *({ARGUMENT}) *({ARGUMENT})": r"\\frac{\1}{\2}",
    r"\\[lr]Vert": r"\\Vert",
    r"\\(le|ge|ne)(?![a-z])": r"\\\1q",
    r"\\dots": r"\\ldots",
}


@cache
def picture(tex):
    """A formula as an <img> that stands on the line; as code, if it is more than mathtext can set."""
    file, plain = io.BytesIO(), " ".join(tex.split())
    for word, other in WORDS.items():
        plain = re.sub(word, other, plain)
    try:
        depth = math_to_image(f"${plain}$", file, prop=FontProperties(size=SIZE), dpi=72, format="svg")
    except ValueError:
        return f"`{plain}`"
    data = base64.b64encode(file.getvalue()).decode()
    alt = plain.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return f'<img class="formula" alt="{alt}" style="vertical-align: {-depth:.1f}pt" src="data:image/svg+xml;base64,{data}">'


def _set(found):
    code, display, inline = found.groups()
    return code or (f"\n\n{picture(display)}\n\n" if display else picture(inline))


def page(path):
    """The Markdown of a notebook.   path: of its file"""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(FORMULA.sub(_set, text) if cell["cell_type"] == "markdown" else f"~~~~~~ python\n{text}\n~~~~~~")
    return "\n\n".join(parts) + "\n"
