"""Side by side with nginx: `compare.py PROGRAM` measures PROGRAM and each nginx found in turn and writes docs/BENCHMARKS.md.

Needs wrk, h2load and taskset. `compare.py NGINX --nginx NGINX --dry` shows what the machine's noise is.
"""

import argparse
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

from servers import Application, Server, build, find_nginx, version

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Name, place, connections, further options of wrk, or of h2load where the place is one of HTTP/2.
ROWS = [
    ("proxied, small, 32 connections", "http /proxied/small", 32, []),
    ("proxied, small, 256 connections", "http /proxied/small", 256, []),
    ("proxied, 100 KB, 32 connections", "http /proxied/100k", 32, []),
    ("uwsgi, small, 32 connections", "http /uwsgi/small", 32, []),
    ("file, 1 KB, 32 connections", "http /1k", 32, []),
    ("file, 100 KB, 32 connections", "http /100k", 32, []),
    ("file, 10 MB, 4 connections", "http /10m", 4, []),
    ("file, 1 KB, a connection each", "http /1k", 32, ["-H", "Connection: close"]),
    ("file, 1 KB, logged, 32 connections", "http /logged/1k", 32, []),
    ("file, 1 KB, ten maps and ten fields, 32 connections", "http /decorated/1k", 32, []),
    ("page, 50 KB, gzip, 32 connections", "http /packed/page", 32, ["-H", "Accept-Encoding: gzip"]),
    ("TLS, file, 1 KB, a handshake each", "https /1k", 32, ["-H", "Connection: close"]),
    ("TLS, file, 1 KB, 32 connections", "https /1k", 32, []),
    ("TLS, proxied, small, 32 connections", "https /proxied/small", 32, []),
    ("TLS, file, 100 KB, 32 connections", "https /100k", 32, []),
    ("HTTP/2, file, 1 KB, 32 connections, 10 streams each", "h2 /1k", 32, ["-m10"]),
    ("HTTP/2, proxied, small, 32 connections, 10 streams each", "h2 /proxied/small", 32, ["-m10"]),
]
METHOD = """

## Method

All servers run `benches/nginx.conf` with one worker on one core, in turn; wrk (h2load for HTTP/2, under TLS) and, for the
proxied rows, a backend nginx share another core; for uwsgi it is a process that answers and closes. Under TLS they show the
same P-256 certificate and speak TLS 1.2 and 1.3; ciphers and tickets are the defaults. CPU is user and system time of the
server's whole process tree. A figure is the median of the rounds; a ratio is this server's figure over nginx's within a
round, then the median, and ± is half the range between rounds: the noise. Where the core was not busy, wrk was the limit and
only the CPU columns compare the servers. How nginx was compiled matters: a build for size or with musl takes far more CPU
than Debian's, so a ratio against such a build flatters.
"""


def load(server, row, core, seconds):
    """One run of wrk or h2load: requests a second, CPU microseconds a request, share of its core the server was busy."""
    _, place, connections, options = row
    scheme, path = place.split()
    url = f"http://127.0.0.1:{server.port}{path}" if scheme == "http" else f"https://127.0.0.1:{server.secure}{path}"
    tool = ["h2load", "-t1", f"-c{connections}", f"-D{seconds}"] if scheme == "h2" else None
    tool = tool or ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
    before = server.cpu()
    said = subprocess.run(["taskset", "-c", str(core), *tool, *options, url], capture_output=True, text=True, check=True).stdout
    used = server.cpu() - before
    # An answer that takes wrk too long is the machine's fault, and in the figures.
    count, wrong = r"(\d+) requests in ", r"Non-2xx.*|(connect|read|write) [1-9]\d*"
    if scheme == "h2":
        count, wrong = r"(\d+) succeeded", r"[1-9]\d* failed.*|[1-9]\d* [345]xx.*"
    requests = int(re.search(count, said)[1])
    wrong = re.search(wrong, said)
    if wrong or not requests:
        sys.exit(f"{server.process.args}: {url}: {wrong[0] if wrong else 'no answer'}")
    return requests / seconds, used / requests * 1e6, used / seconds


def measure(servers, core, options):
    """Per row, a list of rounds, each with the figures of every server; who goes first alternates."""
    rows = [row for row in ROWS if re.search(options.only, row[0])]
    results = {row[0]: [] for row in rows}
    for row in rows:
        for server in servers:
            load(server, row, core, 1)
    for n in range(options.rounds):
        for row in rows:
            order = servers if n % 2 == 0 else servers[::-1]
            got = {server: load(server, row, core, options.seconds) for server in order}
            results[row[0]].append([got[server] for server in servers])
            print(".", end="", flush=True, file=sys.stderr)
    print(file=sys.stderr)
    return results


def table(results, reference):
    """The figures of the first server against those of server number `reference`."""
    yield "| | requests/s | nginx | ratio | CPU µs/request | nginx | ratio | core busy | nginx |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    for name, rounds in results.items():
        pairs = [(figures[0], figures[reference]) for figures in rounds]
        cells = [name]
        for which, digits in ((0, 0), (1, 1)):
            cells += [f"{statistics.median(side[which] for side in sides):,.{digits}f}" for sides in zip(*pairs)]
            cells.append(ratio([ours[which] / theirs[which] for ours, theirs in pairs]))
        cells += [f"{statistics.median(side[2] for side in sides):.0%}" for sides in zip(*pairs)]
        yield f"| {' | '.join(cells)} |"


def ratio(ratios):
    """Median and half the range."""
    return f"{statistics.median(ratios):.2f} ± {(max(ratios) - min(ratios)) / 2:.2f}"


def report(results, memory, programs, options):
    """The text of docs/BENCHMARKS.md."""
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench`: {version(programs[0])} on {cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores,",
        f"Linux {platform.release()}; {options.rounds} rounds of {options.seconds} s a row; load average before the first",
        f"{options.busy:.1f} (other work on the machine shows up as noise).",
    ]
    for n, program in enumerate(programs[1:], 1):
        lines += ["", f"## Against {version(program)} ({build(program)})", "", *table(results, n)]
    lines += ["", "## Memory", "", "| resident after the load, MB | sum over processes | shared pages once |", "|---|--:|--:|"]
    lines += [f"| {version(p)} | {total:.1f} | {shared:.1f} |" for p, (total, shared) in zip(programs, memory)]
    lines += ["", "## Parser", "", f"The lexer and grammar alone: {parser_speed()}."]
    return "\n".join(lines) + METHOD


def parser_speed():
    """What the parser's own benchmark prints."""
    cargo = ["cargo", "run", "--release", "--quiet", "-p", "nginx-rs-parser", "--example", "speed"]
    return subprocess.run(cargo, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def main():
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--nginx", type=pathlib.Path, help="compare with this one only")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--only", default="", help="a pattern for the rows to measure")
    parser.add_argument("--dry", action="store_true", help="print the report, write nothing")
    options = parser.parse_args()
    options.busy = os.getloadavg()[0]
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    references = [options.nginx] if options.nginx else find_nginx(target)
    for needed, package in ((references, "nginx-light"), (shutil.which("wrk"), "wrk"), (shutil.which("h2load"), "nghttp2-client")):
        if not needed:
            sys.exit(f"The benchmark needs the Debian package {package}.")
    programs = [options.program.resolve(), *references]
    with tempfile.TemporaryDirectory() as home:
        results, memory = run(programs, pathlib.Path(home), options)
    text = report(results, memory, programs, options)
    print(text)
    if not options.dry:
        (ROOT / "docs/BENCHMARKS.md").write_text(text)


def run(programs, home, options):
    """Starts everything below `home` and measures."""
    files = home / "files"
    files.mkdir()
    for name, size in (("1k", 1 << 10), ("100k", 100 << 10), ("10m", 10 << 20)):
        (files / name).write_bytes(os.urandom(size))
    line = '<li class="item"><a href="/items/{0}/">Item number {0}</a> <span>{1}</span></li>\n'
    page = "".join(line.format(n, hex(n * 2654435761 % 2**32)) for n in range(800))
    (files / "page").write_text(page[: 50 << 10])
    cores = sorted(os.sched_getaffinity(0))
    application = Application(cores[-1])
    started = [Server(programs[-1], "backend.conf", home / "backend", cores[-1], FILES=files)]
    backends = {"BACKEND": started[0].port, "UWSGI": application.port}
    try:
        for n, program in enumerate(programs):
            values = {"FILES": files, "CERTS": ROOT / "fixtures/certs", **backends}
            started.append(Server(program, "nginx.conf", home / f"server{n}", cores[0], **values))
        servers = started[1:]
        return measure(servers, cores[-1], options), [server.memory() for server in servers]
    finally:
        for server in [application, *started]:
            server.stop()


if __name__ == "__main__":
    main()
