"""Autobahn's test suite (https://pypi.org/project/autobahntestsuite/), which is written for Python 2, under Python 3.

wstest.py prepare DIR    makes the suite in DIR run under Python 3, once
wstest.py run DIR SPEC   runs its fuzzing client as the file SPEC says and writes index.json into the outdir named there

What the suite sends and compares is the str of Python 2, bytes. Here it stays str, of one character a byte (Latin-1), and turns
into bytes where the suite meets the library.
"""
import binascii
import json
import pathlib
import subprocess
import sys
import types

# Seconds at least until a case that got stuck is ended: the machine may be busy.
PATIENCE = 4

# What 2to3 cannot know.
CHANGES = [
    (b"coding=utf-8", b"coding=latin-1"),  # a literal has the characters of its bytes
    (b"(object, Case, )", b"(Case, )"),  # every class is an object, so that it must not stand before one
    (b" / self.p.autoFragmentSize", b" // self.p.autoFragmentSize"),
    (b"v.validate(vss[:i])", b"v.validate(vss[:i].encode('latin-1'))"),
]


def prepare(suite):
    # What is not converted must not be imported, nor the packages that only the reports in HTML need.
    (suite / "__init__.py").write_text("from ._version import __version__ as version\n")
    (suite / "report.py").write_text("CSS_COMMON = CSS_DETAIL_REPORT = CSS_MASTER_REPORT = JS_MASTER_REPORT = ''\n")
    (suite / "case/case9_9_1.py").write_text("")  # in no list of cases, and for an older zope.interface
    for path in suite.glob("case/*.py"):
        code = path.read_bytes()
        for old, new in CHANGES:
            code = code.replace(old, new)
        path.write_bytes(code)
    convert = [sys.executable, "-m", "fissix", "--write", "--nobackups", "--no-diffs", "caseset.py", "fuzzing.py", "case"]
    subprocess.run(convert, cwd=suite, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def to_bytes(value):
    return value.encode("latin-1") if isinstance(value, str) else value


def to_str(value):
    return value.decode("latin-1")


def sending(method):
    """The method of the library, for payloads of str."""
    def send(self, *args, **kwargs):
        if kwargs.get("payload_len") is not None:
            # The library repeats the payload by a quotient that is no whole number in Python 3.
            payload, wanted = kwargs["payload"], kwargs.pop("payload_len")
            kwargs["payload"] = (payload * (wanted // len(payload) + 1))[:wanted]
        return method(self, *map(to_bytes, args), **{name: to_bytes(value) for name, value in kwargs.items()})
    return send


def patiently(method):
    return lambda self, delay: method(self, max(PATIENCE, delay))


def run(spec):
    b2a_hex = binascii.b2a_hex
    binascii.b2a_hex = lambda data: to_str(b2a_hex(to_bytes(data)))
    # No case needs TLS, which would need more packages.
    sys.modules["twisted.internet.ssl"] = types.SimpleNamespace(ClientContextFactory=lambda: None)
    from autobahntestsuite import case, fuzzing
    from twisted.internet import reactor

    client, factory = fuzzing.FuzzingClientProtocol, fuzzing.FuzzingClientFactory
    for name in ["sendFrame", "sendMessage", "sendCloseFrame", "sendMessageFrameData"]:
        setattr(client, name, sending(getattr(client, name)))
    for name in ["killAfter", "closeAfter"]:
        setattr(client, name, patiently(getattr(client, name)))
    on_message, on_pong, log_frame = client.onMessage, client.onPong, client.logRxFrame
    client.onMessage = lambda self, payload, binary: on_message(self, to_str(payload), binary)
    client.onPong = lambda self, payload: on_pong(self, to_str(payload))
    client.logRxFrame = lambda self, header, parts: log_frame(self, header, [to_str(part) for part in parts])
    # Pickles of equal values differ by which of their parts are one object.
    case.Case.compare = lambda self, one, other: one == other
    factory.createReports = lambda self: self.createMasterReportJSON(self.outdir)
    fuzzing.startClient(spec)
    reactor.run()


if __name__ == "__main__":
    what, where, *rest = sys.argv[1:]
    if what == "prepare":
        prepare(pathlib.Path(where) / "autobahntestsuite")
    else:
        sys.path.insert(0, where)
        spec = json.loads(pathlib.Path(rest[0]).read_text())
        clocks = ["openHandshakeTimeout", "closeHandshakeTimeout", "serverConnectionDropTimeout"]
        run({"options": dict.fromkeys(clocks, PATIENCE), **spec})
