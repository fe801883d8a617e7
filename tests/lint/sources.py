"""What the lints share: which files are ours, and C text without comments and literals."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def tracked(root=ROOT):
    """All files of the checkout that git tracks or would add, as paths below root."""
    if not (root / ".git").exists():
        return sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    paths = [pathlib.Path(name) for name in listed.stdout.split("\0") if name]
    return sorted(path for path in set(paths) if (root / path).is_file())


def c_files(root=ROOT, folders=("include", "wal", "proxy", "bench", "tests", "docs")):
    return [
        path for path in tracked(root) if path.suffix in (".c", ".h") and path.parts[0] in folders
    ]


_SKIPPED = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)


def without_comments_and_literals(text):
    """The same lines, with comments, strings and characters blanked."""
    return _SKIPPED.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)


def root_argument():
    """The checkout to look at: the first argument (the lints' own test gives one), or this one."""
    return pathlib.Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT


def finish(findings):
    for finding in findings:
        print(finding)
    sys.exit(1 if findings else 0)
