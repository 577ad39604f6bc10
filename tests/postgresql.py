"""A PostgreSQL server of one's own, in a folder, on a Unix socket: to be killed and started."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

# Faster than a server's own settings; what is committed is still written to the disk first.
SETTINGS = {
    "listen_addresses": "",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


def programs() -> Path | None:
    """The folder of the newest server that is installed, or none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    there = shutil.which("initdb")
    return Path(there).parent if there else None


class Server:
    """A server in a folder of its own, which `close` removes."""

    def __init__(self) -> None:
        self.programs = programs()
        # A short path: that of a socket has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="glimpse-pg-"))
        self.user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:  # as whom the server refuses to run
            account = pwd.getpwnam(self.user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self._run("initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N")
        self.start()

    @property
    def url(self) -> str:
        """The URL of its database."""
        return f"postgresql://postgres@/postgres?host={self.folder}"

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        options = [f"-k {self.folder}", *(f"-c {key}='{each}'" for key, each in SETTINGS.items())]
        self._run("pg_ctl", "-D", "data", "-l", "log", "-w", "-o", " ".join(options), "start")

    def kill(self) -> None:
        """Kills it and all its processes, as a power cut would."""
        number = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        own = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        for each in (number, *map(int, own)):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        end = time.monotonic() + 20
        while time.monotonic() < end and Path(f"/proc/{number}").exists():
            time.sleep(0.02)

    def close(self) -> None:
        """Ends it and removes its folder."""
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        command = [str((self.programs or Path()) / program), *arguments]
        if os.geteuid() == 0:
            command = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups",
                       *command]  # fmt: skip
        with (self.folder / "out").open("w+") as out:
            done = subprocess.run(
                command, cwd=self.folder, env={**os.environ, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
            out.seek(0)
            if check and done.returncode:
                raise RuntimeError(f"{command}: {out.read()}")
