"""All benchmarks that fit this machine, one after another, and their figures in one file.

    make bench            or python -m benchmarks [NAME …] [--out FILE]

A benchmark says in its docstring how it is run here, in a line ``make bench: ARGUMENTS``, in which {json} stands for
the file it writes its figures to and {demo} for the checkpoint of the demo, which is trained first (``train.py
experiment=demo``: a benchmark too). One without such a line wants runs of its own and is run by hand. What a machine
cannot do a benchmark says in a last line, ``not run: WHY``, and exits with 0.

``benchmarks/results/<machine>.json`` is written after each, so that what is done is kept. Under 30 minutes on two
cores; quiet machine, please.
"""

import argparse
import ast
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine

HERE = Path(__file__).parent
ROOT = HERE.parent
LIMIT_S = 600.0
"""Seconds after which a benchmark is ended, and the next one begun."""
_DEMO = "demo"
_DEMO_LIMIT_S = 1800.0
_RATIO = ("ratio", "times", " / ")  # in the name of a figure that travels from machine to machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="benchmarks to run, without .py; none: all that fit")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/<machine>.json")
    given = parser.parse_args()
    commands = {path.stem: line for path in sorted(HERE.glob("*.py")) if (line := how(path)) is not None}
    if unknown := [name for name in given.names if name not in (*commands, _DEMO)]:
        parser.error(f"{', '.join(unknown)}: expected some of {', '.join((*commands, _DEMO))}")
    about = machine()
    show_machine(about)
    out = given.out or HERE / "results" / f"{about['name']}.json"
    done: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))["benchmarks"] if out.exists() else {}
    for name, result in results(commands, given.names, ROOT / "outputs" / "benchmarks" / about["name"]):
        done[name] = result
        write(out, {"machine": about, "benchmarks": done})
    show(done)
    Console().print(f"written to {out}", highlight=False)


def how(path: Path) -> str | None:
    """Return the arguments that ``make bench`` runs a benchmark with, None where it is run by hand."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    lines = (line.strip() for line in text.splitlines())
    return next((line.removeprefix("make bench:").strip() for line in lines if line.startswith("make bench:")), None)


def results(commands: dict[str, str], names: list[str], folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run what is asked for (nothing: all) and yield what each gave: status, seconds, figures."""
    chosen = names or [_DEMO, *commands]
    checkpoint = folder / "demo" / "checkpoints" / "best.ckpt"
    if _DEMO in chosen or any("{demo}" in commands[name] for name in chosen):
        yield _DEMO, demo(folder / "demo")
    for name in chosen:
        if name == _DEMO:
            continue
        if "{demo}" in commands[name] and not checkpoint.exists():
            yield name, {"status": "not run: the demo has left no checkpoint"}
            continue
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / "figures.json"
            words = [word.format(json=file, demo=checkpoint) for word in commands[name].split()]
            yield name, ended([sys.executable, str(HERE / f"{name}.py"), *words], file)


def demo(folder: Path) -> dict[str, Any]:
    """Train the demo, or take the one that this machine has trained, and return what it reached and took."""
    command = [sys.executable, str(ROOT / "train.py"), f"experiment={_DEMO}", f"hydra.run.dir={folder}"]
    told = ended(command, None, _DEMO_LIMIT_S)
    file = folder / "result.json"
    if not file.exists():
        return told
    result = json.loads(file.read_text(encoding="utf-8"))
    last = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))[-1]
    figures = {key: result["metrics"][key] for key in ("test/map_50", "test/map") if key in result["metrics"]}
    figures |= {"seconds": result["seconds"], "epochs": result["epochs"], "precision": last["precision"]}
    return {"status": "ran", "seconds": result["seconds"], "figures": figures}


def ended(command: list[str], figures: Path | None, limit_s: float = LIMIT_S) -> dict[str, Any]:
    """Run a command to its end, its output shown, and return its status, seconds and figures."""
    Console().rule(" ".join(Path(word).name if Path(word).is_absolute() else word for word in command[1:]))
    start, last = time.monotonic(), ""
    piped: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}  # this clone
    with subprocess.Popen(command, cwd=ROOT, env=here, start_new_session=True, **piped) as process:  # noqa: S603
        watch = threading.Timer(limit_s, os.killpg, (process.pid, signal.SIGKILL))  # with the processes it started
        watch.start()
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
                last = line.strip() or last
            process.wait()
        finally:
            watch.cancel()
            if process.poll() is None:  # the user has ended this one
                os.killpg(process.pid, signal.SIGKILL)
    seconds = round(time.monotonic() - start, 1)
    if process.returncode:
        late = seconds >= limit_s
        return {"status": f"ended after {limit_s / 60:.3g} minutes" if late else f"failed: {last}", "seconds": seconds}
    if last.startswith("not run"):
        return {"status": last}
    content = json.loads(figures.read_text(encoding="utf-8")) if figures and figures.exists() else None
    return {"status": "ran", "seconds": seconds, "figures": content}


def ratios(figures: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Yield the figures that travel from machine to machine, by their path: their name says that they are a ratio."""
    if isinstance(figures, dict):
        for name, value in figures.items():
            yield from ratios(value, f"{key} · {name}" if key else str(name))
    elif isinstance(figures, list):  # rows of a table: the words of each say which it is
        for row in (row for row in figures if isinstance(row, dict)):
            words = ", ".join(value for value in row.values() if isinstance(value, str))
            yield from ratios(row, f"{key} · {words}" if key else words)
    elif isinstance(figures, int | float) and not isinstance(figures, bool) and any(word in key for word in _RATIO):
        yield key, float(figures)


def write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)


def show_machine(about: dict[str, Any]) -> None:
    table = Table("this machine", "", title=f"{about['processor']}, {about['cores']} cores", title_justify="left")
    table.add_row("instructions", ", ".join(about["instructions"]))
    table.add_row("bfloat16", about["bfloat16"])
    for what, value in about["gflops"].items():
        table.add_row(what, f"{value:g} GFLOP/s")
    table.add_row("copy of memory", f"{about['copy_gb_s']:g} GB/s")
    table.add_row("GPU", about["gpu"] or "none")
    Console().print(table)


def show(done: dict[str, Any]) -> None:
    table = Table("benchmark", "ratio", "", title="What travels from machine to machine", title_justify="left")
    for name, result in done.items():
        rows = list(ratios(result.get("figures")))
        took = f", {result['seconds']:.0f} s" if "seconds" in result else ""
        table.add_row(name, "", f"{result['status']}{took}")
        for key, value in rows:
            table.add_row("", key, f"{value:.3g}")
    Console().print(table)


if __name__ == "__main__":
    main()
