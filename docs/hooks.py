"""What mkdocs.yml cannot say: pages that lie outside docs/, and pages that are made from the source.

Each page exists once.  README.md and its neighbours are read where they lie; an algorithm's page is made from its
module, and a file that some page links to becomes a page with its source.  A link means the same on the site as in the
repository: it is resolved there, and then written as the site has it.
"""

import re
import shutil
import sys
import tempfile
from pathlib import Path
from posixpath import dirname, normpath, relpath

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, InclusionLevel

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from pages import algorithm_index, algorithm_page, config_page, plots_page, source_page, tests_of  # noqa: E402

from dsgd.algorithms import ALGORITHMS  # noqa: E402

OUTSIDE = {  # path in the repository: path on the site
    "README.md": "README.md",
    "README.zh.md": "README.zh.md",
    "CHANGELOG.md": "changes.md",
    "ARCHITECTURE.md": "design.md",
    "CONTRIBUTING.md": "contributing.md",
    "notebooks/README.md": "notebooks/index.md",
}
INSTALLED = tempfile.TemporaryDirectory(prefix="dsgd-")  # the packages as an installation has them
MODULES = {
    f"dsgd/algorithms/{algorithm.run.__module__.rpartition('.')[2]}.py": name for name, algorithm in ALGORITHMS.items()
}
LINK = re.compile(r"(?<=\]\()([^)#\s:]+)(?=[)#\s])")  # the file that a link means: in this repository, not elsewhere
CODE = re.compile(r"(^ *```.*?^ *```$)", re.DOTALL | re.MULTILINE)


def place(path):
    """Where the site has a file of the repository."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    if path in MODULES:
        return f"algorithms/{MODULES[path]}.md"
    return (
        path.removeprefix("docs/")
        if path.startswith("docs/") and not path.endswith((".py", ".sbatch"))
        else f"source/{path}.md"
    )


def meant(page, target):
    """The file of the repository that a link on a page means."""
    return normpath(f"{dirname(page)}/{target}".lstrip("/"))


def rewritten(text, page, uri):
    """A page's text with its links as they are on the site; code is left as it is."""
    parts = CODE.split(text)
    parts[::2] = [
        LINK.sub(lambda m: relpath(place(meant(page, m[1])), dirname(uri) or "."), part) for part in parts[::2]
    ]
    return "".join(parts)


def linked(text, page):
    """The files of the repository that a page links to."""
    return {meant(page, target) for part in CODE.split(text)[::2] for target in LINK.findall(part)}


@event_priority(100)  # before mkdocstrings reads its paths
def on_config(config):
    """The algorithms in the table of contents; the packages as they lie when they are installed, for mkdocstrings."""
    algorithms = next(item["Algorithms"] for item in config.nav if "Algorithms" in item)
    algorithms += [{name: f"algorithms/{name}.md"} for name in ALGORITHMS]
    for folder, where in {
        "dsgd": "dsgd",
        "simulator": "dsgd/simulator",
        "mpi": "dsgd/mpi",
        "plots": "dsgd/plots",
    }.items():
        shutil.copytree(
            ROOT / folder, Path(INSTALLED.name, where), ignore=shutil.ignore_patterns("__pycache__", "*.npz")
        )
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [INSTALLED.name]
    return config


def on_shutdown():
    INSTALLED.cleanup()


def on_files(files, config):
    """Adds the pages that docs/ does not have."""
    made = {OUTSIDE[path]: (ROOT / path).read_text(encoding="utf-8") for path in OUTSIDE if (ROOT / path).exists()}
    pages = {path: made[uri] for path, uri in OUTSIDE.items() if uri in made}
    pages |= {f"docs/{file.src_uri}": file.content_string for file in files.documentation_pages()}
    made |= {f"algorithms/{name}.md": algorithm_page(name) for name in ALGORITHMS}
    made |= {"algorithms/index.md": algorithm_index(), "api/config.md": config_page(), "api/plots.md": plots_page()}
    cited = {path for page, text in pages.items() for path in linked(text, page)}
    for path in cited | {f"tests/{file}" for name in ALGORITHMS for file, _ in tests_of(name)}:
        if place(path).startswith("source/") and (ROOT / path).is_file():
            made[place(path)] = source_page(path)
    for uri, content in made.items():
        inclusion = InclusionLevel.NOT_IN_NAV if uri.startswith("source/") else InclusionLevel.INCLUDED
        files.append(File.generated(config, uri, content=content, inclusion=inclusion))
    return files


def on_page_markdown(text, page, **others):
    """Links as the site has them."""
    path = next((path for path, uri in OUTSIDE.items() if uri == page.file.src_uri), f"docs/{page.file.src_uri}")
    return text if path.startswith("docs/source/") else rewritten(text, path, page.file.src_uri)
