"""Count what makes the code hard or easy to read, and compare it with the limits that the project keeps.

Run by ./scripts/figures. With --gate the exit code is 1 when a figure is beyond its limit;
./scripts/check does that.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import sys
import tokenize
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_Function = ast.FunctionDef | ast.AsyncFunctionDef

# Words that hide who does what (CONTRIBUTING.md, "Language"). Each is counted as a whole phrase, in any case.
_OLD_WORDS = {
    "is told": r"\b(?:is|are|was|were|be|been|being) told\b",
    "tells": r"\btells\b",
    "stands": r"\bstands?\b(?! for)",
    "mend": r"\bmend(?:s|ed|ing)?\b",
    # Not "there is no", which is plain English, nor Python's `is None`.
    "is no": r"(?<!there )\b(?:is|are|was|were) (?-i:no(?:ne)?) (?!longer|more|less|later|earlier|sooner)",
    "whoever": r"\bwho(?:ever|so)\b",
    "but for": r"\bbut for\b",
}


@dataclass
class Figures:
    """What was counted in one folder of Python files."""

    files: dict[str, int] = field(default_factory=dict)
    code_lines: int = 0
    imports_and_decorators: int = 0
    """The code lines that only import or decorate."""
    functions: list[int] = field(default_factory=list)
    used_once: list[str] = field(default_factory=list)
    classes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    entries: dict[str, int] = field(default_factory=dict)
    local_imports: int = 0


def figures_of(package: Path, below: str = "") -> Figures:
    """Count in the Python files of *package*, or in those whose path in it begins with *below*."""
    counted = Figures()
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        source = path.read_text("utf-8")
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node in tree.body:
                counted.classes[node.name].append(str(relative))
        if not str(relative).startswith(below):
            continue
        lines = _code_lines(source, tree)
        counted.files[str(relative)] = source.count("\n")
        counted.code_lines += len(lines)
        counted.imports_and_decorators += sum(_import_and_decorator_lines(node) for node in ast.walk(tree))
        functions = [node for node in ast.walk(tree) if isinstance(node, _Function)]
        counted.functions += [_length(node, lines) for node in functions]
        counted.used_once += [f"{relative}:{node.lineno} {node.name}" for node in _used_once(tree, functions)]
        counted.local_imports += sum(_local_imports(node) for node in functions)
    for folder in (package, *(path for path in package.rglob("*") if path.is_dir() and path.name != "__pycache__")):
        counted.entries[str(folder.relative_to(package.parent))] = sum(
            1 for entry in folder.iterdir() if not entry.name.startswith("__") and entry.name != "py.typed"
        )
    return counted


def _code_lines(source: str, tree: ast.Module) -> set[int]:
    """The numbers of the lines with code: a token that is neither a comment nor part of a docstring."""
    lines: set[int] = set()
    not_code = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in not_code:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def _import_and_decorator_lines(node: ast.AST) -> int:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return (node.end_lineno or node.lineno) - node.lineno + 1
    return len(node.decorator_list) if isinstance(node, _Function | ast.ClassDef) else 0


def _length(function: _Function, code_lines: set[int]) -> int:
    """The code lines of *function* with its signature, without its decorators."""
    return sum(1 for line in range(function.lineno, (function.end_lineno or 0) + 1) if line in code_lines)


def _used_once(tree: ast.Module, functions: list[_Function]) -> Iterator[_Function]:
    """The private functions and methods whose name occurs once in their file, beside the definition."""
    uses: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            uses[node.id] += 1
        elif isinstance(node, ast.Attribute):
            uses[node.attr] += 1
    for function in functions:
        private = function.name.startswith("_") and not function.name.startswith("__")
        if private and uses[function.name] == 1:
            yield function


def _local_imports(function: _Function) -> int:
    return sum(isinstance(node, (ast.Import, ast.ImportFrom)) for node in function.body)


def old_words(paths: list[Path]) -> dict[str, int]:
    """How often each phrase of the list occurs in *paths*."""
    texts = [path.read_text("utf-8") for path in paths]
    return {
        name: sum(len(re.findall(pattern, text, re.IGNORECASE)) for text in texts)
        for name, pattern in _OLD_WORDS.items()
    }


def pages_and_sources(root: Path, package: Path, below: str = "") -> list[Path]:
    """The files whose language is counted: the package, every page, and the manual."""
    sources = list(package.rglob("*.py"))
    if below:
        return [path for path in sources if str(path.relative_to(package)).startswith(below)]
    folders = ("certs", "deploy", "docs", "scripts")
    pages = [*root.glob("*.md"), *package.rglob("*.md"), root / "tests" / "README.md"]
    for folder in folders:
        pages += [path for path in (root / folder).rglob("*") if path.suffix in {".md", ".toml", ".service", ".conf"}]
    return [*sources, *(page for page in pages if page.is_file())]


@dataclass(frozen=True)
class _Figure:
    name: str
    value: float
    limit: float | None
    """None: the figure is for comparisons only."""
    details: list[str] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        return self.limit is None or self.value <= self.limit


def table(root: Path, package: Path, below: str = "") -> list[_Figure]:
    """Every figure with its limit, and the places behind it."""
    counted = figures_of(package, below)
    twice = {name: files for name, files in counted.classes.items() if len(files) > 1}
    words = old_words(pages_and_sources(root, package, below))
    crowded = {folder: count for folder, count in counted.entries.items() if count > _ENTRIES}
    longest = max(counted.files.items(), key=lambda item: item[1])
    share = 100 * len(counted.used_once) / len(counted.functions)
    return [
        _Figure(
            "classes of one name",
            len(twice),
            0,
            [f"{name}: {', '.join(files)}" for name, files in sorted(twice.items())],
        ),
        _Figure("private functions used once, percent", round(share, 1), 13, counted.used_once),
        _Figure("code lines", counted.code_lines, None),
        _Figure("... without imports and decorators", counted.code_lines - counted.imports_and_decorators, None),
        _Figure("function lines, median", median(counted.functions), 6),
        _Figure("function lines, 90th percentile", quantiles(counted.functions, n=10)[-1], 20),
        _Figure("function lines, longest", max(counted.functions), 60),
        _Figure("longest file", longest[1], 500, [longest[0]]),
        _Figure(
            "most entries in a folder",
            max(counted.entries.values()),
            _ENTRIES,
            [f"{k}: {v}" for k, v in crowded.items()],
        ),
        _Figure("imports inside functions", counted.local_imports, 10),
        *(_Figure(f'"{name}"', count, 5) for name, count in words.items()),
    ]


_ENTRIES = 14


def main() -> int:
    """Print the table; with --gate return whether a limit is broken."""
    parser = argparse.ArgumentParser(description="Count what makes the code hard or easy to read.")
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).parents[1], help="a checkout of relay")
    parser.add_argument("--gate", action="store_true", help="print only what is beyond its limit, and exit 1 for it")
    parser.add_argument("--details", action="store_true", help="name the places behind each figure")
    parser.add_argument("--below", default="", metavar="PREFIX", help="only files below relay/PREFIX")
    arguments = parser.parse_args()
    figures = table(arguments.root, arguments.root / "relay", arguments.below)
    for figure in figures:
        if arguments.gate and figure.kept:
            continue
        mark = " " if figure.kept else "!"
        limit = "" if figure.limit is None else f"   (limit {figure.limit:g})"
        print(f"{mark} {figure.name:40} {figure.value:>9,.10g}{limit}")
        if arguments.details or (arguments.gate and not figure.kept):
            for detail in figure.details:
                print(f"      {detail}")
    return int(arguments.gate and not all(figure.kept for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
