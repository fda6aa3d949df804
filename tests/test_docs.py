"""The documentation: its Python blocks run, page by page; what it says to type in a shell is there."""

import ast
import importlib
import inspect
import pathlib
import re
import shlex

import pytest

import taichi_dr as dr
from taichi_dr import runtime

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")], key=lambda page: ("f64" in page.read_text(encoding="utf-8"), page))
FENCE = re.compile(r"^(\s*)```(\S*)")
PRINTED = re.compile(r"^print\(.*\)  # (.+)$", re.MULTILINE)


def blocks(page):
    """Blocks of a page: (language, number of the first line from 0, lines)."""
    language, first, lines = None, 0, []
    for k, line in enumerate(page.read_text(encoding="utf-8").splitlines()):
        fence = FENCE.match(line)
        if fence and language is None:
            language, first, lines = fence[2], k + 1, []
        elif fence:
            yield language, first, lines
            language = None
        elif language is not None:
            lines.append(line)
    assert language is None, f"{page}: a block that does not end"


def name(page):
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [page for page in PAGES if any(language == "python" for language, *_ in blocks(page))], ids=name)
def test_the_python_blocks_of_a_page_run(page, arch, f32, tmp_path, monkeypatch, capsys):
    """In order, in one namespace and one folder; a comment after a `print` is the line that it prints, or its beginning and three dots."""
    lines = [""] * len(page.read_text(encoding="utf-8").splitlines())
    for language, first, block in blocks(page):
        if language == "python":
            lines[first : first + len(block)] = block
    source = "\n".join(lines) + "\n"
    if arch in ("vulkan", "metal") and "@ti.kernel" in source:
        pytest.skip(f"on {arch} Taichi's own gradients are zero")
    if arch == "vulkan" and page.parent.parent == ROOT / "docs":
        pytest.skip("a software driver takes minutes for all of them: on the CPU they run, here the first pages do")
    script = tmp_path / f"{page.stem}.py"  # Taichi reads kernels from files; lines have the numbers that they have on the page
    script.write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def init(wanted=None, *, precision="f32", strict=False, **options):
        return runtime.device() if precision == runtime.device().precision else runtime.init(arch, precision=precision)

    monkeypatch.setattr(dr, "init", init)
    exec(compile(source, str(script), "exec"), {"__name__": "__main__", "__file__": str(script)})
    printed = iter(capsys.readouterr().out.splitlines())
    for text in PRINTED.findall(source):
        found = any(line.startswith(text.removesuffix("...")) if text.endswith("...") else line == text for line in printed)
        assert found, f"{name(page)}: {text!r} is not printed, or not there"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_a_page_says_to_type_is_there(page):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for language, first, lines in blocks(page):
        assert language, f"{name(page)}, line {first}: a block without a language"
        for line in lines if language in ("shell", "sh", "bash", "console") else []:
            for script in re.findall(r"python (?!-m)(\S+\.py)", line):
                assert (ROOT / script).is_file(), f"{name(page)}: {script}"
            for target in re.findall(r"\bmake ([\w-]+)", line):
                assert target in targets, f"{name(page)}: make {target}"


def test_every_figure_has_its_script():
    scripts = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "figures").glob("*.py"))
    for figure in (ROOT / "docs" / "images").iterdir():
        assert f'"{figure.name}"' in scripts, f"{figure.name}: no script in docs/figures makes it"


MODULES = ("losses", "optim", "schedules", "shapes", "datasets", "pictures", "checkpoint")  # those whose members are called by name
INNER = {"arrays", "io", "runtime"}  # of which users need what `dr` itself has
UNSAID = {
    "checkpoint.Entry",
    "checkpoint.remove_parts",
    "schedules.Schedule",
    "schedules.text",
    "schedules.described",
    "optim.Optimizer",
    "shapes.cut_in_four",
}
UNSAID |= {"datasets.packed_file", "datasets.cache_folder", "datasets.fetch"}  # parts of others


def public_names():
    """What `dr` has, without private parts: by the imports that give it."""
    package = ROOT / "taichi_dr"
    source = next(path for path in (package / "contents.py", package / "__init__.py") if path.is_file())
    imports = [node for node in ast.parse(source.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom) and node.level]
    return {alias.asname for node in imports for alias in node.names if alias.asname and not alias.asname.startswith("_")}


def members(module):
    """Functions and classes that a module of `dr` offers."""
    chosen = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    for key in chosen:
        value = getattr(module, key)
        named = inspect.isroutine(value) or inspect.isclass(value)
        if named and value.__module__.startswith("taichi_dr") and value.__doc__ and not hasattr(dr, key):
            yield key


def test_every_public_name_is_on_an_api_page():
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "api").glob("*.md"))
    shown = {name.removeprefix("taichi_dr.").replace("::", ".") for name in re.findall(r"^\.\. auto(?:class|function):: (\S+)", pages, re.MULTILINE)}
    names = public_names()
    assert {"Mesh", "fit", "losses"} <= names
    missing = sorted(name for name in names - set(MODULES) - INNER if name not in shown)
    missing += [f"{name}.{key}" for name in MODULES for key in members(getattr(dr, name)) if f"{name}.{key}" not in shown | UNSAID]
    assert not missing, f"on no page of docs/api: {', '.join(missing)}"
    gone = sorted(name for name in shown if "." not in name and name not in names)
    assert not gone, f"on a page of docs/api and not in taichi_dr: {', '.join(gone)}"


def typed(page):
    """What a page says to type that begins with our command, as words."""
    for language, _, lines in blocks(page):
        for line in lines if language in ("shell", "sh", "bash", "console") else []:
            if line.startswith("taichi-dr "):
                yield shlex.split(line, comments=True)


@pytest.mark.parametrize("page", [page for page in PAGES if any(typed(page))], ids=name)
def test_commands_of_a_page_are_understood(page, monkeypatch, capsys):
    """By the real parsers; nothing is run."""
    cli = pytest.importorskip("taichi_dr.cli", reason="the command line is not here")
    seen = []
    for command in cli.COMMANDS:
        module = importlib.import_module(f"taichi_dr.cli.{command.replace('-', '_')}")
        monkeypatch.setattr(module, "run", lambda options, parser: seen.append(options))
    for words in typed(page):
        before = len(seen)
        code = cli.main(words[1:])
        assert code == 0 and len(seen) == before + 1, f"{name(page)}: {shlex.join(words)}: {capsys.readouterr().err}"
