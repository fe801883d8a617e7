"""Samples holdfastd under a load with perf, and draws what it found: see bench/flamegraph.

A flame graph: a box for each function, as wide as the samples with it on the stack, above the one that
called it. Boxes beside each other stand in the order of their names, not of time.
"""

import html
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import comparison  # noqa: F401 (for where the support package is)
from holdfast_testing import Proxy, Server, build_bin

OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "build/bench"
SECONDS = os.environ.get("FLAMEGRAPH_SECONDS", "10")
WIDTH, ROW, MARGIN, TITLE = 1200, 17, 10, 40
LEAST_WIDTH = 0.4  # narrower boxes are left out
CHARACTER = 6.6
# Kernel's are blue, others' orange to red, by name: the same function has the same colour everywhere.
FRAME = re.compile(r"\s+[0-9a-f]+ (.+?)(?:\+0x[0-9a-f]+)? \((.*)\)$")


def stacks(script):
    """{(outermost, ..., innermost): samples} of the output of `perf script`."""
    found, stack = {}, []
    for line in [*script.splitlines(), ""]:
        frame = FRAME.match(line)
        if frame:
            kernel = "kernel" in frame[2] or frame[2].endswith(".ko")
            stack.append(frame[1] + ("_[k]" if kernel else ""))
        elif not line.strip() and stack:
            key = tuple(reversed(stack))
            found[key] = found.get(key, 0) + 1
            stack = []
    return found


def tree(found):
    """{name: [samples, its callees]}"""
    root = {}
    for stack, count in found.items():
        level = root
        for name in stack:
            node = level.setdefault(name, [0, {}])
            node[0] += count
            level = node[1]
    return root


def colour(name):
    spread = sum(name.encode()) % 50
    if name.endswith("_[k]"):
        return f"hsl(205 55% {62 + spread // 4}%)"
    return f"hsl({10 + spread * 0.7:.0f} 80% {62 + spread // 5}%)"


def boxes(level, depth, left, scale, total):
    for name in sorted(level):
        count, callees = level[name]
        if count * scale >= LEAST_WIDTH:
            yield name, depth, left, count, count * scale, 100 * count / total
            yield from boxes(callees, depth + 1, left, scale, total)
        left += count * scale


def draw(found, title):
    total = sum(found.values())
    drawn = list(boxes(tree(found), 0, MARGIN, (WIDTH - 2 * MARGIN) / total, total))
    rows = 1 + max(depth for _, depth, *_ in drawn)
    height = TITLE + rows * ROW + MARGIN
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" font-family="system-ui,sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{MARGIN}" y="24" font-size="15" font-weight="600">{html.escape(title)}</text>',
    ]
    for name, depth, left, count, width, percent in drawn:
        top = height - MARGIN - (depth + 1) * ROW
        plain = name.removesuffix("_[k]")
        room = int((width - 6) / CHARACTER)
        shown = plain if len(plain) <= room else plain[: room - 1] + "…" if room > 3 else ""
        out.append(
            f"<g><title>{html.escape(plain)}: {percent:.1f} %, {count} samples</title>"
            f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{ROW - 1}" '
            f'fill="{colour(name)}" stroke="#fff" stroke-width=".5"/>'
            f'<text x="{left + 3:.1f}" y="{top + 12}">{html.escape(shown)}</text></g>'
        )
    return "\n".join([*out, "</svg>\n"])


def top(found, count=40):
    """The functions in which the samples were, and how many per cent of them."""
    own = {}
    for stack, samples in found.items():
        own[stack[-1]] = own.get(stack[-1], 0) + samples
    total = sum(own.values())
    ranked = sorted(own.items(), key=lambda item: -item[1])[:count]
    return "".join(f"{100 * samples / total:5.1f} %  {name}\n" for name, samples in ranked)


def sample(load, settings):
    """`perf script` of a holdfastd under the load."""
    with Server() as server, Proxy(server, settings) as proxy, tempfile.TemporaryDirectory() as tmp:
        command = [build_bin() / "holdfast-bench", *load, "--target", proxy.address]
        command += ["--warmup", "1", "--seconds", str(float(SECONDS) + 2)]
        driver = subprocess.Popen([str(word) for word in command])
        data = os.path.join(tmp, "perf.data")
        record = ["perf", "record", "--quiet", "-F", "997", "--call-graph", "fp", "-o", data]
        record += ["-p", str(proxy.process.pid), "--", "sleep", SECONDS]
        try:
            subprocess.run(record, check=True)
        finally:
            if driver.wait() != 0:
                raise SystemExit("flamegraph: the load had errors")
        script = ["perf", "script", "-i", data, "-F", "ip,sym,dso"]
        return subprocess.run(script, check=True, capture_output=True, text=True).stdout


def main():
    load = sys.argv[1:] or ["unit", "--connections", "32"]
    settings = dict(pair.split("=", 1) for pair in os.environ.get("FLAMEGRAPH_SET", "").split())
    found = stacks(sample(load, settings))
    if not found:
        raise SystemExit("flamegraph: perf has no samples: was holdfastd at work at all?")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    title = f"holdfastd, {' '.join(load)}: CPU time by function, {sum(found.values())} samples"
    (OUTPUT / "flamegraph.svg").write_text(draw(found, title))
    (OUTPUT / "flamegraph.txt").write_text(top(found))
    print(f"{OUTPUT / 'flamegraph.svg'}, flamegraph.txt")


if __name__ == "__main__":
    main()
