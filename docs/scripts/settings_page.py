"""The page of every setting, made from the YAML files of conf/ and the comments in them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

_SCRIPTS = ("train", "evaluate", "explain", "predict", "serve", "annotate", "export")
_TYPED = {  # what stands before a key on the command line, where it is not the name of the group
    "inherited/films": "data.",
    "inherited/series": "data.",
    "inherited/training": "task.",
    "inherited/callbacks": "callbacks.",
    "inherited/script": "",
    "experiment": "",
    "sweep": "",
    "logger": "logger.",
}
_UNTYPED = ("_target_", "_partial_", "defaults", "hydra")
_INTRO = """# Every setting

This page is made from the files of `conf/` and the comments in them. Type a setting as it stands here, with a value of
your own: `cxr train data.size=512`. `cxr train --cfg job` prints what all settings are in a command of yours, and
`cxr train --help` lists the choices. A value `???` has to be typed.
"""
_INTROS = {
    "inherited": "What several of the files below share. Their keys are typed as they stand here.",
    "experiment": "A recipe: choices and settings under one name, `experiment=NAME`. What is typed beside it wins.",
    "sweep": "Several runs of one training, `sweep=NAME`.",
    "hydra/launcher": "Where the jobs of a sweep run, `hydra/launcher=NAME`.",
}


def settings_page(conf: Path) -> str:
    """Return the page in Markdown: first the scripts, then each group of choices, file by file."""
    parts = [_INTRO]
    for script in _SCRIPTS:
        parts += [f"## cxr {script}", *_of_file(conf / f"{script}.yaml", "")]
    groups = sorted({file.parent for file in conf.rglob("*.yaml")} - {conf})
    for group in groups:
        name = group.relative_to(conf).as_posix()
        parts += [f"## {name}", _INTROS.get(name, f"One of these is chosen with `{name}=NAME`.")]
        for file in sorted(group.glob("*.yaml")):
            typed = _TYPED.get(f"{name}/{file.stem}", _TYPED.get(name, name.replace("/", ".") + "."))
            parts += [f"### {name}={file.stem}" if name != "inherited" else f"### {file.stem}", *_of_file(file, typed)]
    return "\n\n".join(parts) + "\n"


def _of_file(file: Path, prefix: str) -> Iterator[str]:
    """Yield what a file says of itself, what it calls, and a table of its keys."""
    text = file.read_text(encoding="utf-8")
    yield from _head(text)
    root = yaml.compose(text)
    if not isinstance(root, yaml.MappingNode):
        return
    values = yaml.safe_load(text)
    if target := values.get("_target_"):
        yield f"Calls `{target}`."
    if chosen := _chosen(values.get("defaults", [])):
        yield f"Begins with {chosen}."
    rows = [
        f"| `{prefix}{key}` | {_code(value)} | {_escaped(comment)} |"
        for key, value, comment in _leaves(root, values, text.splitlines(), "")
    ]
    if rows:
        yield "\n".join(["| setting | value | |", "|---|---|---|", *rows])


def _head(text: str) -> Iterator[str]:
    """Yield the comment at the top of a file: commands as they are typed, and sentences."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    lines = [line for line in lines if not line.startswith("@package")]
    commands = [line for line in lines if re.match(r"\s|python |make ", line)]
    prose = " ".join(line for line in lines if line not in commands)
    if prose:
        yield _escaped(re.sub(r" - (?=\S)", " · ", prose))
    if commands:
        yield "```text\n" + "\n".join(commands) + "\n```"


def _chosen(defaults: list[Any]) -> str:
    """Return the choices that a file makes, as a reader would type them."""
    words = []
    for one in defaults:
        if isinstance(one, dict):
            ((group, option),) = one.items()
            if "hydra/" in group:
                continue
            group = re.sub(r"^override |@.*", "", group).strip("/")
            words.append(f"`{group}={option}`".replace("'", "").replace("=None", "=null"))
        elif one not in ("_self_", "/inherited/script"):
            words.append(f"`{one.split('@')[0].strip('/')}`")
    return ", ".join(words)


def _leaves(node: yaml.MappingNode, values: Any, lines: list[str], before: str) -> Iterator[tuple[str, Any, str]]:
    """Yield each key that can be typed, with its value and the comment beside it."""
    for key, value in node.value:
        name = key.value
        if name in _UNTYPED and not before:
            continue
        if name in ("_target_", "_partial_"):
            continue
        inner = values[name]
        comment = _comment(key, value, lines)
        nested = isinstance(value, yaml.MappingNode) and value.value and not value.flow_style
        if nested:
            if comment:
                yield f"{before}{name}", None, comment
            yield from _leaves(value, inner, lines, f"{before}{name}.")
        else:
            yield f"{before}{name}", inner, comment


def _comment(key: yaml.Node, value: yaml.Node, lines: list[str]) -> str:
    """Return the comment of a key: above it, behind it, and going on below it."""
    first = key.start_mark.line
    said = list(reversed(list(_above(lines, first, key.start_mark.column))))
    one_line = value.start_mark.line == first and value.end_mark.line == first
    last = first if not one_line else value.end_mark.line
    behind = value.end_mark.column if one_line else key.end_mark.column + 1
    rest = re.search(r"(?:^|\s)#\s?(.*)", lines[last][behind:])
    if rest:
        said.append(rest[1])
    column = lines[last].find("#", behind)
    for line in lines[last + 1 :]:
        goes_on = re.match(r"\s+# ?(.*)", line)
        if not (rest and goes_on and line.find("#") == column):
            break
        said.append(goes_on[1])
    return " ".join(said)


def _above(lines: list[str], first: int, column: int) -> Iterator[str]:
    """Yield the lines of a comment right above a key and as far to the right, from the last one up."""
    for number in range(first - 1, -1, -1):
        match = re.match(r"(\s*)# ?(.*)", lines[number])
        if not match or len(match[1]) != column or all(line.startswith("#") for line in lines[: number + 1]):
            return
        yield match[2]


def _code(value: Any) -> str:
    if value is None:
        return "`null`"
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1 << 20, sort_keys=False)
    text = text.removesuffix("\n").removesuffix("\n...")
    return "`" + text.replace("|", "\\|") + "`"


def _escaped(text: str) -> str:
    """Return a sentence of a comment as Markdown, its pages of docs/ as links."""
    code, plain = r"(`[^`]*`)", r"([\\`*_{}\[\]<>|])"
    parts = [part if part[:1] == "`" else re.sub(plain, r"\\\1", part) for part in re.split(code, text)]
    return re.sub(r"docs/([\w-]+)\.md", r"[\1](\1.md)", "".join(parts))
