#!/usr/bin/env python3
"""Carries out deploy/docker/Dockerfile without Docker, and starts what comes out. As root.

A stage begins as a copy of a bare Debian 12 (debootstrap); its steps run in a chroot. It understands
what that file uses, and ends on anything else: FROM, WORKDIR, COPY, RUN, USER, and of the rest what tells
how the container is started. The network is that of the machine. So it shows that the packages are
right, that the programs start as their user, and that the health check says when they are ready.

    deploy/check --image        HOLDFAST_IMAGE_BASE=DIR takes a Debian that is there already
"""

import contextlib
import glob
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))

IGNORED = {"VOLUME", "EXPOSE", "STOPSIGNAL"}


def run(*command, **options):
    return subprocess.run([str(word) for word in command], check=True, **options)


def instructions(text):
    """(INSTRUCTION, rest), with continued lines joined and comments left out."""
    text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name, re.sub(r"  +", " ", rest.strip()) if name != "HEALTHCHECK" else rest.strip()


class Stage:
    def __init__(self, base, place):
        self.root, self.workdir, self.user = place, "/", None
        self.settings = {}
        run("cp", "-a", base, place)
        shutil.copy("/etc/resolv.conf", place / "etc/resolv.conf")
        run("mount", "-t", "proc", "proc", place / "proc")

    def close(self):
        subprocess.run(["umount", str(self.root / "proc")], check=False)

    def chroot(self, *words, user=None):
        who = ["--userspec", user] if user else []
        return ["chroot", *who, str(self.root), *words]

    def run(self, command):
        print(f"    RUN {command[:100]}", flush=True)
        where = f"cd {shlex.quote(self.workdir)} && {command}"
        log = tempfile.TemporaryFile("w+")
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8"}
        done = subprocess.run(
            self.chroot("/bin/sh", "-c", where), stdout=log, stderr=log, env=environment
        )
        if done.returncode != 0:
            log.seek(0)
            sys.exit(f"{log.read()[-4000:]}\nFAILED: RUN {command}")

    def inside(self, path):
        return self.root / str(pathlib.PurePosixPath(self.workdir, path)).lstrip("/")


def copy(stage, source_root, words):
    *sources, target = words
    place = stage.inside(target)
    for source in sources:
        found = glob.glob(str(source_root / source.lstrip("/")))
        if not found:
            sys.exit(f"FAILED: COPY {source}: nothing there")
        for each in found:
            if os.path.isdir(each):
                tree(pathlib.Path(each), place)
            else:
                if target.endswith("/"):
                    place.mkdir(parents=True, exist_ok=True)
                shutil.copy(each, place)


def tree(source, place):
    """A folder as a build context: what .dockerignore leaves."""
    place.mkdir(parents=True, exist_ok=True)
    listed = run(
        "git",
        "-C",
        ROOT,
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
        source.relative_to(ROOT) if source != ROOT else ".",
        stdout=subprocess.PIPE,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        origin = ROOT / name
        target = place / origin.relative_to(source)
        if origin.is_symlink() or origin.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(origin, target, follow_symlinks=False)


def build(dockerfile, base, work):
    stages, stage = {}, None
    try:
        for name, rest in instructions(dockerfile.read_text()):
            if name == "FROM":
                words = rest.split()
                assert words[0] == "debian:12-slim", rest
                stage = Stage(base, work / f"stage{len(stages)}")
                stages[words[2] if len(words) > 2 else "last"] = stage
                print(f"  FROM {rest}", flush=True)
            elif name == "WORKDIR":
                stage.workdir = rest
                stage.inside(".").mkdir(parents=True, exist_ok=True)
            elif name == "COPY":
                words = rest.split()
                origin = ROOT
                if words[0].startswith("--from="):
                    origin = stages[words.pop(0)[7:]].root
                print(f"    COPY {rest}", flush=True)
                copy(stage, origin, words)
            elif name == "RUN":
                stage.run(rest)
            elif name == "USER":
                stage.user = rest
            elif name in ("ENTRYPOINT", "CMD"):
                stage.settings[name] = json.loads(rest)
            elif name == "HEALTHCHECK":
                stage.settings[name] = json.loads(rest[rest.index("CMD ") + 4 :].strip())
            elif name not in IGNORED:
                sys.exit(f"FAILED: {name} is not understood here")
    except BaseException:
        for each in stages.values():
            each.close()
        raise
    return stages


def start(stage):
    """Starts the container's program before a server, until its health check is content."""
    from holdfast_testing import Process, Server, wait_until

    def healthy():
        check = stage.chroot(*stage.settings["HEALTHCHECK"], user=stage.user)
        return subprocess.run(check, capture_output=True).returncode == 0

    with Server() as server:
        command = [*stage.settings["ENTRYPOINT"], *stage.settings["CMD"]]
        command += ["--upstream", server.uri, "--listen", "127.0.0.1:0"]
        assert not healthy(), "the health check is content before anything was started"
        process = Process(stage.chroot(*command, user=stage.user), name="holdfastd")
        try:
            began = time.monotonic()
            wait_until(
                lambda: healthy() or not process.running(), 60, "the health check is content"
            )
            assert process.running(), process.output()
            print(f"  healthy after {time.monotonic() - began:.1f} s, as user {stage.user}")
            status = stage.chroot(
                "holdfast", "status", "--wal", "/var/lib/holdfast", user=stage.user
            )
            run(*status, stdout=subprocess.DEVNULL)
            assert process.terminate() == 0, process.output()
        finally:
            if process.running():
                process.kill()
    print("  SIGTERM: ended cleanly")


def main():
    if os.geteuid() != 0:
        sys.exit("without_docker: a chroot needs root")
    os.environ.setdefault("HOLDFAST_BUILD", str(ROOT / "build/bin"))
    with contextlib.ExitStack() as stack:
        work = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-image-"))
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        base = os.environ.get("HOLDFAST_IMAGE_BASE")
        if not base:
            base = work / "base"
            print("debootstrap", flush=True)
            run("debootstrap", "--variant=minbase", "bookworm", base, stdout=subprocess.DEVNULL)
        stages = build(ROOT / "deploy/docker/Dockerfile", base, work)
        for stage in stages.values():
            stack.callback(stage.close)
        last = stages["last"]
        for program in ("holdfastd", "holdfast", "holdfast-bench"):
            run(*last.chroot(program, "--version", user=last.user))
        size = run("du", "-sxm", last.root, stdout=subprocess.PIPE).stdout.split()[0].decode()
        bare = run("du", "-sxm", base, stdout=subprocess.PIPE).stdout.split()[0].decode()
        print(f"  the image has {size} MB, {int(size) - int(bare)} more than a bare Debian")
        start(last)
    print("The image is as it should be.")


if __name__ == "__main__":
    main()
