"""What mkdocs.yml cannot say: pages that lie outside docs/, and pages that are made from the source.

Each page exists once.  README.md and its neighbours are read where they lie; an algorithm's page is made from its
module, a notebook's from the notebook, and a file that some page links to becomes a page with its source.  A link means
the same on the site as in the repository: it is resolved there, and then written as the site has it.
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

import lessons  # noqa: E402
from pages import algorithm_index, algorithm_page, config_page, plots_page, source_page, tests_of  # noqa: E402

from dsgd.algorithms import ALGORITHMS  # noqa: E402

NOTEBOOKS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "notebooks").glob("*.ipynb"))
TEXTS = {  # path in the repository: path on the site
    "README.md": "README.md",
    "README.zh.md": "README.zh.md",
    "CHANGELOG.md": "changes.md",
    "ARCHITECTURE.md": "design.md",
    "CONTRIBUTING.md": "contributing.md",
    "notebooks/README.md": "notebooks/index.md",
}
OUTSIDE = (
    TEXTS
    | {path: path.replace(".ipynb", ".md") for path in NOTEBOOKS}
    | {f"{a.run.__module__.replace('.', '/')}.py": f"algorithms/{name}.md" for name, a in ALGORITHMS.items()}
)
LINK = re.compile(r"(?<=\]\()([^)#\s:]+)(?=[)#\s])")  # the file that a link means: in this repository, not elsewhere
CODE = re.compile(r"(^ *(?:```|~~~).*?^ *(?:```|~~~)~*$)", re.DOTALL | re.MULTILINE)
HIDDEN = (".py", ".json", ".sbatch")  # under docs/, as in mkdocs.yml: exclude_docs
PACKAGES = {"dsgd": "dsgd", "simulator": "dsgd/simulator", "mpi": "dsgd/mpi", "plots": "dsgd/plots"}
INSTALLED = tempfile.TemporaryDirectory(prefix="dsgd-")  # the packages as an installation has them, for mkdocstrings


def place(path):
    """Where the site has a file of the repository."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    inside = path.startswith("docs/") and not path.endswith(HIDDEN)
    return path.removeprefix("docs/") if inside else f"source/{path}.md"


def meant(page, target):
    """The file of the repository that a link on a page means."""
    return normpath(f"{dirname(page)}/{target}".lstrip("/"))


def linked(text, page):
    """The files of the repository that a page links to."""
    return {meant(page, target) for part in CODE.split(text)[::2] for target in LINK.findall(part)}


@event_priority(100)  # before mkdocstrings reads its paths
def on_config(config):
    """The algorithms and notebooks in the table of contents, and the packages where mkdocstrings finds them."""
    for title, pages in (
        ("Algorithms", [{name: f"algorithms/{name}.md"} for name in ALGORITHMS]),
        ("Notebooks", [OUTSIDE[path] for path in NOTEBOOKS]),
    ):
        for item in config.nav:
            item.get(title, []).extend(pages)
    for folder, where in PACKAGES.items():
        ignored = shutil.ignore_patterns("__pycache__", "datasets")
        shutil.copytree(ROOT / folder, Path(INSTALLED.name, where), ignore=ignored)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [INSTALLED.name]
    return config


def on_files(files, config):
    """Adds the pages that docs/ does not have."""
    texts = {path: (ROOT / path).read_text(encoding="utf-8") for path in TEXTS if (ROOT / path).exists()}
    texts |= {path: lessons.page(ROOT / path) for path in NOTEBOOKS}
    made = {OUTSIDE[path]: text for path, text in texts.items()}
    made |= {f"algorithms/{name}.md": algorithm_page(name) for name in ALGORITHMS}
    made |= {"algorithms/index.md": algorithm_index(), "api/config.md": config_page(), "api/plots.md": plots_page()}
    texts |= {f"docs/{file.src_uri}": file.content_string for file in files.documentation_pages()}
    cited = {path for page, text in texts.items() for path in linked(text, page)}
    cited |= {f"tests/{file}" for name in ALGORITHMS for file, _ in tests_of(name)}
    sources = [path for path in cited if place(path).startswith("source/") and (ROOT / path).is_file()]
    for uri, content in made.items():
        files.append(File.generated(config, uri, content=content))
    for path in sources:
        page = File.generated(config, place(path), content=source_page(path), inclusion=InclusionLevel.NOT_IN_NAV)
        files.append(page)
    return files


def on_page_markdown(text, page, **others):
    """Links as the site has them; code is left as it is."""
    uri = page.file.src_uri
    path = next((path for path in OUTSIDE if OUTSIDE[path] == uri), f"docs/{uri}")
    if path.startswith(("docs/source/", "dsgd/")):  # made as the site has them
        return text
    parts = CODE.split(text)
    for i in range(0, len(parts), 2):
        parts[i] = LINK.sub(lambda m: relpath(place(meant(path, m[1])), dirname(uri) or "."), parts[i])
    return "".join(parts)


def on_shutdown():
    INSTALLED.cleanup()
