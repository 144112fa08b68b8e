"""An HTML page in one file: elements that escape what they are given, and the style for screens and for paper."""

import html

STYLE = """
:root { color-scheme: light; --line: #d5d9dd; --soft: #f4f6f8; --blue: #0072b2; --warn: #d55e00 }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 84rem; padding: 1rem; background: #fff; color: #1b1f23;
       font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.6rem; margin: 0.5rem 0 } h2 { font-size: 1.25rem; margin: 2.2rem 0 0.4rem }
h3 { font-size: 1rem; margin: 1.4rem 0 0.3rem } p { margin: 0.3rem 0; max-width: 46rem }
code { font: 0.9em ui-monospace, monospace } a { color: var(--blue) }
.wide { overflow-x: auto; margin: 0.6rem 0 }
table { border-collapse: collapse; font-size: 0.875rem; overflow-wrap: normal }
th, td { padding: 0.3rem 0.7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th { background: var(--soft); white-space: normal } pre { font: 0.8rem/1.4 ui-monospace, monospace; margin: 0.4rem 0 }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0 }
td:first-child { background: #fff; white-space: normal; min-width: 7rem; max-width: 16rem; overflow-wrap: anywhere }
.words th, .words td, .text { text-align: left } .words td { white-space: normal; max-width: 24rem }
.warnings { border-left: 4px solid var(--warn); background: #fdf3ec; padding: 0.5rem 1rem; margin: 1rem 0 }
.warnings ul { margin: 0.2rem 0; padding-left: 1.2rem }
figure { margin: 0.6rem 0 } figure img { display: block; height: auto; max-width: 100% }
@media screen and (max-width: 40rem) { figure img { max-width: none; width: 36rem } }
details { margin: 0.5rem 0; border: 1px solid var(--line); border-radius: 4px; padding: 0.4rem 0.8rem }
summary { cursor: pointer; font-weight: 600 } footer { margin-top: 2.5rem; color: #57606a; font-size: 0.875rem }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt } h2, h3 { break-after: avoid } figure, tr { break-inside: avoid }
  .wide { overflow: visible } table { font-size: 7pt } pre { white-space: pre-wrap }
  th, td { padding: 2px 5px } .text { white-space: normal } .words td { overflow-wrap: anywhere }
  @page { size: landscape; margin: 12mm } figure img { max-height: 16cm; width: auto }
  details::details-content { content-visibility: visible }
}
"""
VOID = ("img", "meta")  # elements that have no end
INLINE = ("code", "strong")


class Html(str):
    """Text that is HTML already."""


def tag(name, /, *inside, **attributes):
    """The element `name`, as Html; what is inside is escaped unless it is Html.   attributes: class_ stands for class"""
    given = "".join(f' {key.rstrip("_")}="{_text(value)}"' for key, value in attributes.items())
    if name in VOID:
        return Html(f"<{name}{given}>")
    line = "" if name in INLINE else "\n"
    return Html(f"<{name}{given}>{''.join(map(_escape, inside))}</{name}>{line}")


def _escape(part):
    return part if isinstance(part, Html) else _text(part)


def _text(value):
    """What stands for a value in HTML; bytes of a path that are no text become question marks."""
    return html.escape(str(value).encode(errors="replace").decode())


def table(head, rows, **attributes):
    """A table that scrolls by itself where the page is narrow.   head: [cell], rows: [[cell]], at least one"""
    lines = [tag("tr", *(tag("th", cell, scope="col", **_kind(below)) for cell, below in zip(head, rows[0])))]
    lines += [tag("tr", *(tag("td", cell, **_kind(cell)) for cell in row)) for row in rows]
    return tag("div", tag("table", *lines, **attributes), class_="wide")


def _kind(cell):
    """Words stand to the left, numbers to the right."""
    return {} if cell == "–" or str(cell)[:1].isdigit() else {"class_": "text"}


def bullets(items):
    return tag("ul", *(tag("li", item) for item in items))


def document(title, *body):
    """The text of a whole page, which loads nothing."""
    head = [tag("meta", charset="utf-8"), tag("meta", name="viewport", content="width=device-width, initial-scale=1")]
    head += [tag("title", title), tag("style", Html(STYLE))]
    return "<!DOCTYPE html>\n" + tag("html", tag("head", *head), tag("body", *body), lang="en")
