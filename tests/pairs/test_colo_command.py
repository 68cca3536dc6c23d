#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The command colo against a colod that says what is scripted: every command and every error,
a server that hangs, talks rubbish, or hangs up. Needs neither KVM nor root."""
import contextlib
import fcntl
import json
import os
import pty
import re
import secrets
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))),
                                "system"))
import bed  # noqa: E402
import scripted  # noqa: E402
from bed import check  # noqa: E402
from scripted import Server, event, no, page, status  # noqa: E402

COLO = os.path.join(bed.BUILD, "colo")
COMPLETION = os.path.join(bed.PROJECT, "packaging", "completion", "colo")
PAIR_FILE = """# a pair
[pair]
nodes = alpha; beta
key = %s
[vm]
memory = 64MiB
kernel = %s
[node alpha]
replication = 127.0.0.1:7700
control = 127.0.0.1:7701
heartbeat = 127.0.0.1:7702
[node beta]
replication = 127.0.0.2:7700
control = 127.0.0.2:7701
heartbeat = 127.0.0.2:7702
[arbiter]
type = manual
"""
EVIL = "\x1b]0;owned\x07\x1b[2J\r\n\x9b31m\u202eevil\u2028\x7f"


class Done:
    def __init__(self, code, out, err, seconds):
        self.code, self.out, self.err, self.seconds = code, out, err, seconds

    def __repr__(self):
        return f"status {self.code} in {self.seconds:.2f} s\n{self.out}{self.err}"

    @property
    def both(self):
        return self.out + self.err


class Place:
    """Directories of a test's own, and colo run with them."""

    def __init__(self, *pairs):
        self.dir = tempfile.mkdtemp(prefix="colo-cmd-")
        self.run_dir = self.path("run")
        self.config_dir = self.path("etc")
        os.mkdir(self.run_dir)
        os.mkdir(self.config_dir)
        self.secret = secrets.token_hex(32)
        self.write("key", self.secret + "\n", 0o600)
        self.write("kernel", "no kernel")
        self.environment = {
            name: value for name, value in os.environ.items()
            if name not in ("NO_COLOR", "LC_ALL", "LC_CTYPE", "JOURNAL_STREAM")}
        self.environment.update(COLO_RUN_DIR=self.run_dir, COLO_CONFIG_DIR=self.config_dir,
                                TERM="xterm", LANG="C.UTF-8", TZ="UTC")
        for pair in pairs or ("web",):
            self.add(pair)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text, mode=0o644):
        with open(os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode),
                  "w") as file:
            file.write(text)
        return self.path(name)

    def add(self, pair):
        self.write(f"etc/{pair}.conf", PAIR_FILE % (self.path("key"), self.path("kernel")))

    def colo(self, *words, text="", environment=None, colo=COLO):
        began = time.monotonic()
        done = subprocess.run([colo, *words], input=text, capture_output=True, text=True,
                              errors="surrogateescape", timeout=4 * bed.PATIENCE_S,
                              env=dict(self.environment, **(environment or {})))
        return Done(done.returncode, done.stdout, done.stderr, time.monotonic() - began)

    def server(self, pair="web", **answers):
        return Server(self.run_dir, pair, **answers)


class AtTerminal:
    """colo on a terminal of its own."""

    def __init__(self, place, *words, environment=None):
        self.seen = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(COLO, [COLO, *words], dict(place.environment, **(environment or {})))

    def read(self, until, seconds=bed.PATIENCE_S):
        """TRUE when `until` was seen; None: everything up to the end."""
        deadline = time.monotonic() + seconds
        while until is None or until.encode() not in self.seen:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                return False
            try:
                piece = os.read(self.fd, 4096)
            except OSError:
                piece = b""
            if not piece:
                return until is None
            self.seen += piece
        return True

    def type(self, text):
        os.write(self.fd, text.encode())

    def raw(self):
        return not termios.tcgetattr(self.fd)[3] & termios.ICANON

    def end(self):
        self.read(None, 20)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return code

    @property
    def text(self):
        return self.seen.decode(errors="surrogateescape")


def is_one_line(done, *words, code=None):
    lines = done.err.splitlines()
    return (len(lines) == 1 and lines[0].startswith("colo: ") and not done.out
            and all(word in lines[0] for word in words)
            and (code is None or done.code == code))


def is_clean(text):
    """Nothing that a terminal would obey."""
    return not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\udc80-\udcff]",
                         text)


def the_first_line_says_whether_it_is_protected():
    running = {"state": "running", "uptime_ms": 5}
    rests = {"state": "paused", "uptime_ms": 5}
    lost = {"reachable": False, "alive": False, "state": None}
    for code, word, answer in (
            (0, "PROTECTED: the guest runs on alpha, and beta stands by", status()),
            (0, "PROTECTED (standby): the guest runs on beta, and alpha stands by",
             status(state="standby", role="secondary", peer={"state": "protected"})),
            (0, "PROTECTED (handing): alpha hands the guest over to beta",
             status(state="handing")),
            (1, "NOT PROTECTED (solo): the guest runs on alpha alone",
             status(state="solo", protected=False, guest=running)),
            (1, "NOT PROTECTED (syncing 43 %): the guest runs on alpha alone, and beta is being",
             status(state="syncing", protected=False,
                    sync={"percent": 43, "remaining_bytes": 1 << 30, "eta_ms": 125000})),
            (1, "NOT PROTECTED (joining): the guest runs on beta alone, and alpha is being",
             status(state="joining", protected=False, role="secondary")),
            (1, "NOT PROTECTED (promoting): alpha takes the guest over",
             status(state="promoting", protected=False)),
            (1, "NOT PROTECTED (protected): ", status(protected=False)),
            (2, "NOT RUNNING (solo): the guest does not run (paused)",
             status(state="solo", protected=False, guest=rests)),
            (2, "NOT RUNNING (standby): this node stands by, and has lost its primary",
             status(state="standby", role="secondary", protected=False, peer=lost)),
            (2, "NOT RUNNING (waiting): alpha waits",
             status(state="waiting", protected=False, role="none", peer=lost,
                    guest={"state": "none", "uptime_ms": None})),
            (2, "NOT SERVING (holding): ", status(state="holding", protected=False)),
            (2, "NOT RUNNING (fenced): ",
             status(state="fenced", protected=False, role="none", peer=lost)),
            (2, "NOT PROTECTED (fenced): ",
             status(state="fenced", protected=False, role="none", peer={"state": "solo"})),
            (2, "NOT RUNNING (stopped): ",
             status(state="stopped", protected=False, role="none", guest={"state": "none"})),
            (3, "UNKNOWN: colod tells of an unknown state, dancing", status(state="dancing")),
            (3, "UNKNOWN: colod tells of no state", {})):
        with Place() as place, place.server(status=answer):
            done = place.colo("status", "web")
            first = done.out.splitlines()[0] if done.out else ""
            check(f"status {code}: web: {word}...",
                  done.code == code and first.startswith("web: " + word) and not done.err, done)


def the_view_shows_what_there_is():
    with Place() as place, place.server() as server:
        text = place.colo("status").out
        for piece in ("for           3 h 12 min", "this node, primary, guest running for 2 d 3 h",
                      "beta          standby, generation 7, heartbeats come",
                      "generation    7, epoch 1234",
                      "pause 410 us, p99 900 us, commit 2.1 ms",
                      "gate guarded, mode compare, 90210 matched, 400 by checkpoint, "
                      "12 divergences, 3 held",
                      "10.0.0.1:7702 - 10.0.0.2:7702  up, round trip 180 us",
                      "DOWN for 3 s, loss 25.00 %, forged 3",
                      "differ by -12 us, give or take 40 us",
                      "etcd, ok, record: protected, generation 7",
                      "colo-vm 4712", "colo-heartbeat 4713, restarted 1 time",
                      "colo-netcompare NOT RUNNING, restarted 5 times"):
            check(f"the view has \"{piece}\"", piece in text, text)
        server.answers["status"] = status(
            state="syncing", protected=False, reason="the link was cut",
            advice="mend it", sync={"percent": 43, "remaining_bytes": 3 << 29,
                                    "eta_ms": 125000})
        text = place.colo("status").out
        server.answers["status"] = status(
            state="joining", mode="colo", peer={
                "differs": "vm/cpus: ours 1, theirs 2\nx\x1b: y",
                "trouble": "the peer ended: it is of another pair"},
            sync={"percent": None, "remaining_bytes": None, "eta_ms": None,
                  "memory_left": 1 << 30, "disks_left": 1 << 29, "ms_left": 5000},
            comparator={"mode": {"compare": False, "why": "x"}})
        vm = place.colo("status").out.replace("\xa0", " ")
        for piece in ("under way, 1.5 GiB left, about 5 s", "mode buffered", ", mode colo",
                      "no connection the peer ended: it is of another pair\n",
                      "files differ  vm/cpus: ours 1, theirs 2\n                x\\x1b: y\n"):
            check(f"... as colo-vm and colo-netcompare tell it {piece!r}", piece in vm, vm)
        for piece in ("43 %, 1.5 GiB left, about 2 min 5 s", "why           the link was cut",
                      "what to do    mend it"):
            check(f"... of a first sync \"{piece}\"", piece in text.replace("\xa0", " "), text)


def brief_is_one_line():
    for line, answer in (
            ("web: protected, primary alpha, secondary beta, generation 7, epoch 1234", status()),
            ("web: standby, primary beta, secondary alpha, generation 7, epoch 1234",
             status(state="standby", role="secondary")),
            ("web: solo, primary alpha, no secondary, generation 8",
             status(state="solo", protected=False, generation=8, epoch=None)),
            ("web: syncing 43 %, primary alpha, secondary beta, generation 8",
             status(state="syncing", protected=False, generation=8, epoch=None,
                    sync={"percent": 43})),
            ("web: fenced, primary beta, no secondary, generation 7",
             status(state="fenced", role="none", protected=False, epoch=None,
                    peer={"state": "solo"})),
            ("web: waiting, no primary, no secondary, generation 7",
             status(state="waiting", role="none", protected=False, epoch=None)),
            ("web: unknown, no primary, no secondary", {})):
        with Place() as place, place.server(status=answer):
            done = place.colo("status", "--brief")
            check(line, done.out == line + "\n" and not done.err, done)


def json_is_what_colod_said():
    with Place() as place, place.server() as server:
        done = place.colo("status", "web", "--json")
        check("status --json has all of it", json.loads(done.out) == status(), done)
        server.answers["status"] = status(reason=EVIL)
        done = place.colo("status", "--json", "web")
        check("... with controls escaped, and the same in the end",
              json.loads(done.out) == status(reason=EVIL)
              and is_clean(done.out.replace("\n", "")), done)
        done = place.colo("status", "--json")
        check("without a pair it is an array",
              [one["pair"] for one in json.loads(done.out)] == ["web"], done)
    with Place() as place:
        done = place.colo("status", "--json", "web")
        answer = json.loads(done.out)
        check("of a pair that is not there it says so",
              done.code == 3 and answer["pair"] == "web" and answer["state"] is None
              and answer["error"]["code"] == "absent", done)


def all_pairs_and_the_worst_of_them():
    with Place("db", "mail", "web") as place:
        with place.server("db"), \
                place.server("web", status=status(state="solo", protected=False)):
            done = place.colo("status", "--brief")
            lines = done.out.splitlines()
            check("a line for each pair, in order",
                  [line.split(":")[0] for line in lines] == ["db", "mail", "web"]
                  and done.code == 3, done)
            check("... the one without a colod says what to do",
                  "start it with `colo start mail`" in lines[1], done)
            with place.server("mail", status=status(state="stopped", protected=False)):
                done = place.colo("status", "-b")
                check("not running is the worst", done.code == 2, done)
            done = place.colo("status", "--json")
            check("as JSON an array",
                  [one.get("pair") for one in json.loads(done.out)] == ["web", "mail", "web"],
                  done)
        done = place.colo("stop")
        check("another command asks which", is_one_line(done, "db, mail, web", code=2), done)


def which_pair():
    with Place() as place:
        os.mkdir(place.path("etc/other.conf.d"))
        check("a pair that is not configured", is_one_line(
            place.colo("stop", "nope"), "nope.conf", "pairs here: web", code=2))
        for word in ("..", "UPPER", "a b", "x" * 33, "", "\x1b[2J"):
            done = place.colo("stop", word)
            check(f"{word!r} is no name", is_one_line(done, "is no name", code=2)
                  and is_clean(done.err.strip()), done)
        check("a path of a file that is not there", is_one_line(
            place.colo("stop", "./x.conf"), "No such file", code=2))
        named = place.write("file.conf", open(place.path("etc/web.conf")).read())
        with place.server("file", stop={}) as server:
            done = place.colo("stop", named)
            check("a path's pair is named by the file", done.code == 0
                  and server.asked[0] == ("stop", {"force": False}), done)
        broken = place.write("broken.conf", "[nonsense")
        with place.server("broken", stop={}):
            check("a broken file does not keep from its colod",
                  place.colo("stop", broken).code == 0)
        os.unlink(place.path("etc/web.conf"))
        done = place.colo("stop")
        check("no pair at all", is_one_line(done, "no pair is configured", code=2), done)
        done = place.colo("status")
        check("... is status 3 to monitoring", done.code == 3, done)
        with place.server():
            check("a colod whose file is gone is asked all the same",
                  place.colo("status", "web").code == 0)


def words_that_make_no_sense():
    with Place() as place:
        done = place.colo()
        check("no command: the summary, status 2", done.code == 2 and "Usage" in done.err, done)
        for word, meant in (("stauts", "status"), ("statu", "status"), ("check-point",
                            "checkpoint"), ("standdown", "stand-down"), ("prom", "promote"),
                            ("event", "events"), ("logs", "log")):
            done = place.colo(word)
            check(f"{word}: did you mean {meant}",
                  is_one_line(done, f"did you mean `colo {meant}`?", code=2), done)
        check("nothing is near", is_one_line(place.colo("frobnicate"), "see `colo help`", code=2))
        check("a word of controls is clean",
              is_clean(place.colo("\x1b[2Jstatus").err.replace("\n", "")))
        for words in (("stop", "--frob"), ("stop", "web", "db"), ("stop", "--timeout"),
                      ("stop", "--timeout", "x"), ("stop", "--timeout=-1"),
                      ("stop", "--timeout=nan"), ("events", "--since", "x"),
                      ("events", "--since=-5"), ("log", "-n", "-3"), ("keygen",), ("version", "x"),
                      ("help", "nothing"), ("promote",), ("--frob", "stop"),
                      ("start", "--force")):
            done = place.colo(*words)
            check(f"colo {' '.join(words)}: one line, status 2", is_one_line(done, code=2), done)
        check("words of status that make no sense are status 3",
              is_one_line(place.colo("status", "--frob"), code=3)
              and is_one_line(place.colo("status", "--watch=-1"), code=3)
              and is_one_line(place.colo("status", "nope"), code=3))


def help_and_version():
    with Place() as place:
        summary = place.colo("help").out
        commands = re.findall(r"^  ([a-z-]+) ", summary, re.M)
        check("help lists the commands", {"status", "stand-down", "keygen"} <= set(commands),
              summary)
        for command in commands:
            text = place.colo("help", command)
            check(f"help {command}", text.code == 0 and f"colo {command}" in text.out
                  and text.out == place.colo(command, "--help").out
                  and text.out == place.colo("--help", command).out, text)
        check("--help is help", place.colo("--help").out == summary)
        check("version", re.fullmatch(r"colo \d+\.\d+\n", place.colo("version").out)
              and place.colo("--version").out == place.colo("version").out)
        manual = open(os.path.join(bed.PROJECT, "docs", "colo.1")).read().replace("\\-", "-")
        for command in commands:
            check(f"the manual has {command}", f".It Cm {command}" in manual)
        return place, commands


def the_completion_knows_what_the_command_knows():
    def complete(place, *words):
        line = " ".join(("colo", *words))
        script = f"""
            source {COMPLETION}
            COMP_WORDS=({' '.join(repr(word) for word in ('colo', *words))})
            COMP_CWORD={len(words)} COMP_LINE={line!r} COMP_POINT={len(line)}
            _colo && printf '%s\\n' "${{COMPREPLY[@]}}" """
        done = subprocess.run(["bash", "-c", script], env=place.environment, text=True,
                              capture_output=True, timeout=20)
        check(f"completion of \"{line}\" says nothing else", not done.stderr, done.stderr)
        return [word.strip() for word in done.stdout.split()]

    with Place("db", "web") as place:
        commands = re.findall(r"^  ([a-z-]+) ", place.colo("help").out, re.M)
        check("completion has all commands", sorted(complete(place, "")) == sorted(commands),
              complete(place, ""))
        for command in commands:
            options = set(re.findall(r"(--[a-z-]+)", place.colo("help", command).out))
            offered = set(complete(place, command, "--"))
            check(f"... and the options of {command}", options == offered, options ^ offered)
        check("... and the pairs", complete(place, "status", "") == ["db", "web"])
        check("... behind options", complete(place, "--timeout", "3", "stop", "w") == ["web"],
              complete(place, "--timeout", "3", "stop", "w"))
        check("... and what begins so", complete(place, "st") == ["start", "stop", "stand-down",
              "status"] or sorted(complete(place, "st")) ==
              ["stand-down", "start", "status", "stop"])
        check("... and the commands to be helped with",
              sorted(complete(place, "help", "")) == sorted(commands))


def no_colod():
    advice = "colod is not running for web on this host: start it with `colo start web`"
    with Place() as place:
        for words in (("stop",), ("checkpoint",), ("switchover",), ("promote", "--force", "--yes"),
                      ("stand-down",), ("events",), ("console",), ("log",)):
            done = place.colo(*words)
            check(f"{' '.join(words)} without a colod",
                  is_one_line(done, f"colo: web: {advice}", code=3), done)
        done = place.colo("status")
        check("status without a colod", done.code == 3
              and done.out == f"web: UNKNOWN: {advice}\n", done)
        with place.server() as server:
            server.sock.shutdown(socket.SHUT_RDWR)
            server.sock.close()
            check("a socket that is left behind is the same",
                  is_one_line(place.colo("stop"), advice, code=3))


def not_permitted():
    if os.geteuid() != 0:
        bed.skip("who may not connect is told to be root", "that takes root to try")
        return
    with Place() as place, place.server():
        os.chmod(place.dir, 0o755)
        os.chmod(place.run_dir, 0o755)
        done = subprocess.run([COLO, "stop", "web"], env=place.environment, text=True,
                              capture_output=True, user=65534, group=65534, extra_groups=[],
                              timeout=20)
        check("who may not connect is told to be root",
              done.returncode == 3 and "Permission denied" in done.stderr
              and "run this as root" in done.stderr, done)
        os.chmod(place.config_dir, 0o700)
        for words, code in ((("stop",), 2), (("status",), 3), (("stop", "web"), 3)):
            done = subprocess.run([COLO, *words], env=place.environment, text=True,
                                  capture_output=True, user=65534, group=65534,
                                  extra_groups=[], timeout=20)
            check(f"... by {' '.join(words)} too, who may not see what pairs there are",
                  done.returncode == code and "run this as root" in done.stderr, done)


ASKING = (("stop",), ("checkpoint",), ("switchover",), ("promote", "--force", "--yes"),
          ("stand-down",), ("start",), ("console",), ("events",), ("status", "web"))


def a_server_that_hangs():
    with Place() as place:
        with place.server(**dict.fromkeys(
                ("status", "start", "stop", "checkpoint", "stand_down", "events"))):
            for words in ASKING:
                done = place.colo("--timeout", "0.3", *words)
                check(f"{' '.join(words)}: no answer ends by itself",
                      done.code == 3 and "did not answer in time" in done.both
                      and 0.25 < done.seconds < 20, done)
            done = place.colo("status", "web")
            check("status waits two seconds if not told otherwise",
                  done.code == 3 and done.seconds > 1.9, done)
        with place.server(accept=False) as server:
            waiting = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    one = socket.socket(socket.AF_UNIX)
                    one.setblocking(False)
                    waiting.append(one)
                    one.connect(server.path)
            done = place.colo("status", "--timeout=0.3", "web")
            check("nor does one that takes nobody any more", done.code == 3
                  and done.seconds < 20, done)
        stuck = {"status": b'{"id":1,"ok":true,"res'}
        with place.server(**stuck):
            done = place.colo("status", "--timeout=0.3", "web")
            check("... or says half a line", done.code == 3 and done.seconds < 20, done)
        flood = b"".join(json.dumps(event(n, "x")).encode() + b"\n" for n in range(1000))

        def never_ends(_):
            return flood * 200
        with place.server(status=never_ends):
            done = place.colo("status", "--timeout=0.5", "web")
            check("... or never stops with something else", done.code == 3
                  and done.seconds < 30, done)


def a_server_that_talks_rubbish():
    rubbish = {
        "no JSON": b"hello\n", "an array": b"[1,2]\n", "nothing": b"\n",
        "binary": bytes(range(256)) + b"\n", "a NUL": b'{"id":1,"ok":true\x00}\n',
        "deep nesting": b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"\n",
        "deep arrays": b"[" * 100000 + b"\n", "no answer": b'{"hello":1}\n',
        "a number too long": b'{"id":1,"ok":' + b"9" * 5000 + b"\n",
        "a line without end": b"x" * (1 << 21),
        "a long line": b'{"id":1,"ok":true,"result":"' + b"x" * (1 << 21) + b'"}\n',
        "half a line": b'{"id":1'}
    for name, answer in rubbish.items():
        with Place() as place, place.server(stop=answer, events=answer) as server:
            server.hang_up = True
            for words in (("stop",), ("events",)):
                done = place.colo(*words, "--timeout=10")
                check(f"{words[0]}: {name} is said to be nonsense",
                      is_one_line(done, "colod", code=3) and is_clean(done.err.strip()), done)
    strange = {
        "ok without a result": (b'{"id":1,"ok":true}\n', 0),
        "a result that is a number": (b'{"id":1,"ok":true,"result":5}\n', 0),
        "an answer to somebody else first":
            (b'{"id":99,"ok":true,"result":{}}\n{"id":1,"ok":true,"result":{}}\n', 0),
        "no without a reason": (b'{"id":1,"ok":false}\n', 1),
        "no with a reason of another type":
            (b'{"id":1,"ok":false,"error":{"code":5,"message":[]}}\n', 1),
        "no to nobody": (b'{"id":null,"ok":false,"error":{"message":"a line is"}}\n', 1),
        "ok that is a word": (b'{"id":1,"ok":"yes","result":{}}\n', 1)}
    for name, (answer, code) in strange.items():
        with Place() as place, place.server(stop=answer):
            done = place.colo("stop")
            check(f"{name}: status {code}", done.code == code, done)


def a_server_that_hangs_up():
    with Place() as place:
        with place.server(stop=b"", status=b"") as server:
            server.hang_up = True
            for words in (("stop",), ("promote", "--force", "--yes"), ("switchover",)):
                done = place.colo(*words)
                check(f"{words[0]}: it hung up", is_one_line(done, "hung up", code=3), done)
        with place.server(stop=b'{"id":1,"ok":') as server:
            server.hang_up = True
            done = place.colo("stop")
            check("... in the middle of a line", is_one_line(done, "middle", code=3), done)


def colod_says_no():
    codes = ("wrong-state", "refused", "failed", "busy", "bad-request")
    commands = {"stop": ("stop",), "checkpoint": ("checkpoint",), "switchover": ("switchover",),
                "promote": ("promote", "--force", "--yes"), "stand_down": ("stand-down",),
                "start": ("start",), "events": ("events",)}
    for command, words in commands.items():
        for code in codes:
            with Place() as place, place.server(**{command: no(code, f"{code}: do this next")}):
                done = place.colo(*words)
                check(f"{words[0]}: {code} is told as it was said",
                      is_one_line(done, f"colo: web: {code}: do this next", code=1), done)


def hostile_texts():
    with Place() as place, place.server(stop=no("failed", EVIL)) as server:
        done = place.colo("stop")
        check("a message cannot reach the terminal raw",
              is_one_line(done, "\\x1b]0;owned\\x07", code=1) and is_clean(done.err.strip()),
              done)
        hostile = json.loads(json.dumps(status()).replace('"alpha"', json.dumps(EVIL))
                             .replace('"etcd"', json.dumps("x" * 100000))
                             .replace('"standby"', json.dumps(EVIL)))
        hostile.update(reason=EVIL, advice="y" * 100000)
        hostile["programs"] = [{"name": EVIL, "running": True, "pid": 1}] * 5000
        server.answers["status"] = hostile
        for words in (("status",), ("status", "--brief"), ("status", "--json"),
                      ("promote", "--force"), ("console",), ("switchover", "--to", "x")):
            done = place.colo(*words)
            check(f"{' '.join(words)}: nothing hostile gets through",
                  is_clean(done.both.replace("\n", "")), ascii(done.both[:2000]))
        done = place.colo("status")
        check("... and the view stays of a size", len(done.out) < 40000, len(done.out))
        server.answers["events"] = page([
            event(1, EVIL, detail=EVIL, node=EVIL, state=EVIL), event(2, "x", detail={"a": EVIL}),
            {"event": "x", EVIL: EVIL, "time": "no", "number": []},
            event(3, "x", time=10 ** 18), event(4, "x", time=-1)])
        for words in (("events",), ("events", "--json")):
            done = place.colo(*words)
            check(f"{' '.join(words)}: nothing hostile gets through",
                  done.code == 0 and is_clean(done.out.replace("\n", ""))
                  and len(done.out.splitlines()) == 5, done)
        terminal = AtTerminal(place, "status", "web", environment={"LANG": "C", "NO_COLOR": "1"})
        terminal.end()
        check("on a terminal without UTF-8 nothing but ASCII is shown",
              all(byte in b"\r\n" or 32 <= byte < 127 for byte in terminal.seen), terminal.seen)


def wrong_types_everywhere():
    def mutations(value):
        """Documents with each member in turn left out, or of another type."""
        if isinstance(value, dict):
            for name in value:
                yield {key: member for key, member in value.items() if key != name}
                for other in (None, 5, -1, 1.5e300, "x", [], {}, True, [[], "x", {"a": []}]):
                    yield dict(value, **{name: other})
                for inner in mutations(value[name]):
                    yield dict(value, **{name: inner})
        elif isinstance(value, list):
            for index, element in enumerate(value):
                for inner in mutations(element):
                    yield value[:index] + [inner] + value[index + 1:]

    documents = list(mutations(status(sync={"percent": 4, "remaining_bytes": 1, "eta_ms": 1})))
    documents = documents if bed.LONG else documents[::9]
    with Place() as place, place.server() as server:
        wrong = []
        for document in documents:
            server.answers["status"] = document
            done = place.colo("status", "web")
            if done.code not in (0, 1, 2, 3) or done.err or not done.out.startswith("web: "):
                wrong.append((document, done))
        check(f"{len(documents)} documents with a member missing or of another type are shown",
              not wrong, wrong[:1])


def acts():
    with Place() as place, place.server(
            stop={}, start={}, discard={}, checkpoint={"epoch": 1300}, stand_down={}, promote={}) as server:
        def does(words, asked, out):
            server.asked.clear()
            done = place.colo(*words)
            check(f"colo {' '.join(words)}",
                  done.code == 0 and out in done.out and not done.err
                  and [one for one in server.asked if one[0] != "status"] == asked,
                  (done, server.asked))
        does(("stop",), [("stop", {"force": False})], "web: protected, primary alpha")
        does(("stop", "-f"), [("stop", {"force": True})], "web: protected, primary alpha")
        does(("start", "--discard"), [("discard", {"force": False})], "web: protected")
        does(("start", "--discard", "--force"), [("discard", {"force": True})], "web: protected")
        does(("start", "web"), [("start", {})], "web: protected")
        does(("checkpoint",), [("checkpoint", {})], "web: checkpoint committed, epoch 1300")
        does(("stand-down",), [("stand-down", {"force": False})], "web: ")
        does(("stand-down", "--force"), [("stand-down", {"force": True})], "web: ")
        does(("promote", "--force", "--yes"), [("promote", {"force": True})], "web: ")
        server.answers["checkpoint"] = {}
        does(("checkpoint",), [("checkpoint", {})], "web: checkpoint committed\n")


def switchover():
    with Place() as place, place.server(switchover={}) as server:
        def asked():
            return [one[0] for one in server.asked].count("switchover")
        done = place.colo("switchover")
        check("switchover tells colod once", done.code == 0 and asked() == 1, done)
        done = place.colo("switchover", "--to", "alpha")
        check("... and nothing where the guest is there already",
              done.code == 0 and asked() == 1 and "alpha runs the guest already" in done.out, done)
        done = place.colo("switchover", "--to", "gamma")
        check("... nor to a node that there is not",
              is_one_line(done, "the nodes are alpha and beta", code=1) and asked() == 1, done)
        server.answers["status"] = status(state="waiting", role="none", protected=False,
                                          peer={"state": "waiting"})
        done = place.colo("switchover")
        check("... nor where nobody runs it",
              is_one_line(done, "no node runs the guest", code=1) and asked() == 1, done)
        after = status(state="standby", role="secondary", peer={"state": "protected"})
        server.answers["status"] = [status(), status(state="handing"),
                                    status(state="joining", role="secondary", protected=False),
                                    after]
        done = place.colo("switchover", "--to", "beta", "--wait")
        check("--wait waits until it is protected there",
              done.code == 0 and "web: standby, primary beta" in done.out and asked() == 2, done)
        server.answers["status"] = status()
        done = place.colo("switchover", "--wait", "--timeout=0.5")
        check("... and says so where it never is",
              is_one_line(done, "beta does not run the guest protected yet", code=1), done)


def promote():
    with Place() as place, place.server(promote={}) as server:
        done = place.colo("promote")
        check("promote without --force explains", is_one_line(done, "--force", code=2), done)
        done = place.colo("promote", "--force", text="web\n")
        check("where nobody can be asked it says --yes",
              done.code == 2 and "--yes" in done.err and "What it costs" in done.out, done)
        check("... and does nothing", "promote" not in [one[0] for one in server.asked])
        terminal = AtTerminal(place, "promote", "--force")
        check("on a terminal it tells what it costs, and asks for the pair's name",
              terminal.read("Type the name of the pair") and "beta" in terminal.text
              and "IT IS HEARD FROM NOW" in terminal.text, terminal.text)
        terminal.type("yes\n")
        check("... another word does nothing", terminal.end() == 1
              and "nothing was changed" in terminal.text
              and "promote" not in [one[0] for one in server.asked], terminal.text)
        terminal = AtTerminal(place, "promote", "--force")
        terminal.read("Type the name of the pair")
        terminal.type("web\n")
        check("... the name does it", terminal.end() == 0
              and ("promote", {"force": True}) in server.asked, terminal.text)


def events():
    past = [event(number, "step", detail=f"step {number}") for number in range(1, 251)]

    def colod(arguments):
        """As colod does: pages of 100."""
        since = min(arguments["since"], 250)
        chosen = [one for one in past if one["number"] > since]
        answer = page(chosen[:100], last=(chosen[:100] or past)[-1]["number"],
                      more=len(chosen) > 100)
        return ([], answer, [event(251, "later")] if arguments["follow"] and not answer["more"]
                else [])
    with Place() as place, place.server(events=colod) as server:
        done = place.colo("events")
        check("events are shown from the first to the last, in pages",
              done.code == 0 and [int(line.split()[2]) for line in done.out.splitlines()]
              == list(range(1, 251)), done)
        check("... asked for one by one", [one[1] for one in server.asked] ==
              [{"follow": False, "since": since} for since in (0, 100, 200)], server.asked)
        check("a line has time, number, node, name, state, generation and detail",
              done.out.splitlines()[0] == "2026-01-01 00:00:00.123  1  alpha  step, state solo, "
              "generation 7: step 1", done.out.splitlines()[0])
        done = place.colo("events", "--json", "--since", "249")
        check("as JSON they are as colod said",
              [json.loads(line) for line in done.out.splitlines()] == past[249:], done)
        for words, first in ((("--follow",), 251), (("-f", "--since", "140"), 141)):
            server.asked.clear()
            follower = subprocess.Popen([COLO, "events", *words, "--timeout=5"], text=True,
                                        env=place.environment, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
            numbers = [int(follower.stdout.readline().split()[2]) for _ in range(first, 252)]
            check(f"events {' '.join(words)}: each once, and the next at once",
                  numbers == list(range(first, 252)), numbers)
            time.sleep(0.2)
            check("... without an end", follower.poll() is None)
            follower.send_signal(signal.SIGINT)
            check("... but by a signal", follower.wait(20) == -signal.SIGINT)
            follower.communicate()
    with Place() as place, place.server(events=page(past[:1], missed=7)):
        done = place.colo("events")
        check("that old events are gone is no news where all are asked for", not done.err, done)
        done = place.colo("events", "--since", "3")
        check("... but where some of them are", done.code == 0
              and "7 events after number 3 are kept no more" in done.err, done)
    with Place() as place, place.server(events=page([], last=0, more=True)) as server:
        done = place.colo("events")
        check("who says that there is more, and goes nowhere, is not asked for good",
              done.code == 0 and len(server.asked) == 1, done)
    with Place() as place, place.server(events=json.dumps(past[0]).encode()
                                        + b'\n{"id":1,"ok":true,"result":{}}\n') as server:
        server.hang_up = True
        done = place.colo("events", "-f")
        check("a colod that goes while it is followed",
              done.code == 3 and "step 1" in done.out and "hung up" in done.err, done)


def colours():
    with Place() as place, place.server(status=status(state="solo", protected=False)):
        check("no colours in a pipe", "\x1b" not in place.colo("status").out)
        for environment, coloured in (({}, True), ({"NO_COLOR": "1"}, False),
                                      ({"TERM": "dumb"}, False)):
            terminal = AtTerminal(place, "status", environment=environment)
            check(f"on a terminal with {environment or 'nothing said'}: "
                  f"{'colours' if coloured else 'none'}",
                  terminal.end() == 1 and ("\x1b[1;33mNOT PROTECTED\x1b[0m" in terminal.text)
                  == coloured, terminal.text)


def watch():
    with Place() as place, place.server() as server:
        for words in (("--watch=0.1", "web"), ("--watch", "0.1", "web"), ("-w", "web"),
                      ("web", "-w", "1")):
            server.asked.clear()
            watcher = subprocess.Popen([COLO, "status", "--brief", *words], text=True,
                                       env=place.environment, stdout=subprocess.PIPE)
            lines = [watcher.stdout.readline() for _ in range(2)]
            watcher.terminate()
            watcher.communicate()
            check(f"status {' '.join(words)} goes on", lines[0] == lines[1] != ""
                  and len(server.asked) >= 2, lines)


def start():
    """With a program "colod" beside a copy of colo, which notes how it was called."""
    with Place() as place:
        os.mkdir(place.path("bin"))
        os.symlink(os.path.join(bed.PROJECT, "tests", "pairs", "scripted.py"),
                   place.path("bin/scripted.py"))
        shutil.copy(COLO, place.path("bin/colo"))
        colo = place.path("bin/colo")

        def colod(script):
            place.write("bin/colod", f"#!{sys.executable}\n{script}", 0o755)
            os.chmod(place.path("bin/colod"), 0o755)
        colod("import sys\nprint('colod: the key is missing: make one', file=sys.stderr)\n"
              "sys.exit(2)")
        done = place.colo("start", colo=colo)
        check("a colod that ends at once is told with its last words",
              is_one_line(done, "status 2", "the key is missing", "colod.log", code=1), done)
        done = place.colo("log", "colod", colo=colo)
        check("... and log has its log", "the key is missing" in done.out, done)
        colod("import time\ntime.sleep(30)")
        done = place.colo("start", "--timeout=1", colo=colo)
        check("one that does not answer is not waited for until it ends",
              done.code == 3 and "does not answer yet" in done.err, done)
        for state, expected in (("stopped", ["start"]), ("solo", [])):
            shutil.rmtree(os.path.join(place.run_dir, "web"), ignore_errors=True)
            colod(f"""
import json, os, sys, time
sys.path.insert(0, {place.path("bin")!r})
import scripted
states = [scripted.status(state={state!r}, protected=False), scripted.status()]
server = scripted.Server(os.environ["COLO_RUN_DIR"], status=states, start={{}})
while not [one for one in server.asked if one[0] == "status"][1:]:
    time.sleep(0.01)
time.sleep(0.1)
json.dump([sys.argv[1:], [one[0] for one in server.asked], os.getsid(0) == os.getpid(),
          os.getcwd(), os.path.realpath("/proc/self/fd/0")],
          open(os.environ["COLO_RUN_DIR"] + "/told.new", "w"))
os.rename(os.environ["COLO_RUN_DIR"] + "/told.new", os.environ["COLO_RUN_DIR"] + "/told")
""")
            done = place.colo("start", "--node", "alpha", colo=colo)
            told = os.path.join(place.run_dir, "told")
            bed.eventually(lambda: os.path.exists(told), 20)
            words, asked, session, directory, stdin = json.load(open(told))
            os.unlink(told)
            check(f"colod is started beside colo, and comes up {state}",
                  done.code == 0 and "web: protected" in done.out
                  and words == [place.path("etc/web.conf"), "--node", "alpha",
                                "--run-dir", place.run_dir], (done, words))
            check("... it is told to start only where it was stopped on purpose",
                  [one for one in asked if one != "status"] == expected, asked)
            check("... in a session of its own, apart from this terminal and directory",
                  session and directory == "/" and stdin == "/dev/null")
        shutil.rmtree(os.path.join(place.run_dir, "web"), ignore_errors=True)
        os.unlink(place.path("bin/colod"))
        done = place.colo("start", colo=colo, environment={"PATH": "/nowhere"})
        check("no colod to start", is_one_line(done, "no program colod", code=1), done)


class Console:
    """The guest's end of a console."""

    def __init__(self, place):
        self.path = place.path("console.sock")
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(self.path)
        self.sock.listen(1)
        self.sock.settimeout(bed.PATIENCE_S)

    def take(self):
        client, _ = self.sock.accept()
        client.settimeout(bed.PATIENCE_S)
        return client


def console():
    with Place() as place:
        guest = Console(place)
        with place.server(status=status(console=guest.path)) as server:
            terminal = AtTerminal(place, "console", "web")
            line = guest.take()
            check("console says who is there",
                  terminal.read("Console of web on alpha, which is protected."), terminal.text)
            check("the terminal is raw", bed.eventually(terminal.raw, 20))
            line.sendall(b"login: \x1b[1mhello\x1b[0m")
            check("what the guest says is shown as it is",
                  terminal.read("login: \x1b[1mhello\x1b[0m"), terminal.text)
            terminal.type("root\x03\x04")
            check("what is typed arrives, Ctrl-C too",
                  line.recv(6, socket.MSG_WAITALL) == b"root\x03\x04")
            terminal.type("bye\x1dmore")
            check("Ctrl-] leaves, and the guest has what came before it",
                  terminal.read("\n", 20) and terminal.end() == 0)
            check("... and no more", line.recv(100) in (b"bye", b""))
            line.close()
            terminal = AtTerminal(place, "console")
            line = guest.take()
            terminal.read("leaves it")
            bed.eventually(terminal.raw, 20)
            os.kill(terminal.pid, signal.SIGTERM)
            check("a signal leaves the terminal as it was",
                  bed.eventually(lambda: not terminal.raw(), 20) and terminal.end() == 0)
            line.close()
            terminal = AtTerminal(place, "console")
            guest.take().close()
            check("a console that is closed from the other end",
                  terminal.end() == 1 and "closed from the other end" in terminal.text,
                  terminal.text)
            piped = subprocess.Popen([COLO, "console"], env=place.environment,
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE)
            line = guest.take()
            piped.stdin.write(b"a\x1db")
            piped.stdin.close()
            line.sendall(b"heard")
            check("through a pipe all of it goes, and the end of input is no end",
                  line.recv(3, socket.MSG_WAITALL) == b"a\x1db"
                  and piped.stdout.read(5) == b"heard")
            line.close()
            check("... but the guest's", piped.wait(20) == 1)
            piped.stdout.close()
            piped.stderr.close()
            piped = subprocess.Popen([COLO, "console"], env=place.environment,
                                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=subprocess.DEVNULL)
            line = guest.take()
            line.settimeout(1)
            with contextlib.suppress(TimeoutError):
                while True:
                    line.sendall(b"x" * 65536)
            piped.terminate()
            check("a pipe that nobody reads holds up no signal", piped.wait(20) == 0)
            piped.stdout.close()
            line.close()
            server.answers["status"] = status(state="standby", role="secondary",
                                              console=guest.path)
            done = place.colo("console")
            check("on a standby it says where the console is",
                  is_one_line(done, "the guest runs on beta", "`colo console web` on beta",
                              code=1), done)
            server.answers["status"] = status(console=None)
            check("no console", is_one_line(place.colo("console"), "no console here", code=1))
            server.answers["status"] = status(console=place.path("nothing.sock"))
            done = place.colo("console")
            check("a console that is not there", is_one_line(done, "nothing.sock", code=1), done)
        guest.sock.close()


def log():
    with Place() as place:
        vm = place.write("vm.log", "".join(f"12:00:00.000 colo-vm notice: {number}\n"
                                           for number in range(100)))
        other = place.write("netcompare.log", EVIL.replace("\n", "\0") + "\nlast, without its end")
        with place.server(status=status(logs={"colo-vm": vm, "colo-netcompare": other,
                                              "colo-heartbeat": 5})) as server:
            done = place.colo("log", "web", "colo-vm", "-n", "3")
            check("log shows the last lines of a program", done.code == 0 and done.out.splitlines()
                  == [f"12:00:00.000 colo-vm notice: {number}" for number in (97, 98, 99)], done)
            check("... named without colo-, and without the only pair",
                  place.colo("log", "vm", "-n3").out == done.out)
            check("20 of them if not told otherwise",
                  len(place.colo("log", "web", "vm").out.splitlines()) == 20)
            check("... or none", place.colo("log", "vm", "-n", "0").out == "")
            check("... or all", len(place.colo("log", "vm", "-n", "1000").out.splitlines()) == 100)
            done = place.colo("log", "-n", "2")
            check("all programs, each with its name",
                  "==> colo-vm <==" in done.out and "==> colo-netcompare <==" in done.out
                  and "last, without its end" in done.out, done)
            check("... and nothing raw", is_clean(done.out.replace("\n", "")), ascii(done.out))
            done = place.colo("log", "colo-nothing")
            check("a program that there is not",
                  is_one_line(done, "no log of \"colo-nothing\"", "colo-vm", code=1), done)
            follower = subprocess.Popen([COLO, "log", "-f", "-n", "1", "web", "vm"], text=True,
                                        env=place.environment, stdout=subprocess.PIPE)
            check("followed, it begins with the last line",
                  "notice: 99" in follower.stdout.readline())
            with open(vm, "a") as file:
                file.write("appended\nand a ha")
            check("... goes on", follower.stdout.readline() == "appended\n")
            with open(vm, "a") as file:
                file.write("lf\n")
            check("... line by line", follower.stdout.readline() == "and a half\n")
            with open(vm, "w") as file:
                file.write("begun anew\n")
            check("... when the file is begun anew", follower.stdout.readline() == "begun anew\n")
            os.rename(vm, vm + ".1")
            place.write("vm.log", "replaced\n")
            check("... or replaced", follower.stdout.readline() == "replaced\n")
            follower.terminate()
            follower.communicate()
            server.answers["status"] = status(logs={"colo-vm": place.path("gone.log"),
                                                    "colo-netcompare": place.dir})
            done = place.colo("log")
            check("logs that cannot be read", is_one_line(done, "not a file", code=1), done)
            done = place.colo("log", "vm")
            check("... or are not begun", is_one_line(done, "gone.log", code=1), done)
            os.mkfifo(place.path("fifo"))
            server.answers["status"] = status(logs={"colo-vm": place.path("fifo")})
            done = place.colo("log")
            check("... and a pipe does not hang it", done.code == 1 and "not a file" in done.err,
                  done)


def keygen():
    with Place() as place:
        path = place.path("new.key")
        done = place.colo("keygen", path)
        key = open(path).read()
        check("keygen makes a key that only its owner can read",
              done.code == 0 and re.fullmatch("[0-9a-f]{64}\n", key)
              and stat.S_IMODE(os.stat(path).st_mode) == 0o600, done)
        check("... and does not say it", key.strip() not in done.both)
        done = place.colo("keygen", path)
        check("... and never replaces one", is_one_line(done, "new.key", code=1)
              and open(path).read() == key, done)


def check_of_a_pair_file():
    with Place() as place:
        done = place.colo("check", "--node", "alpha")
        check("check judges for a node, and has a last line that sums up",
              done.code in (0, 1, 2) and "web: " in done.out.splitlines()[-1], done)
        by_path = place.colo("check", place.path("etc/web.conf"), "--node=alpha")
        check("... by path as by name", by_path.out == done.out, by_path)
        done = place.colo("check", "--node", "gamma")
        check("a node that there is not", is_one_line(done, "alpha", "beta", code=2), done)
        text = open(place.path("etc/web.conf")).read()
        check("warnings and errors are lines with section and key",
              all(re.match("(note|warning|error): [a-z]+( [a-z]+)?/?[a-z.-]*: ", line)
                  for line in done.out.splitlines()[:-1]), done)
        bad = place.write("bad.conf", text.replace("memory", "memmory"))
        done = place.colo("check", bad, "--node=alpha")
        check("a wrong file: file, line and what",
              is_one_line(done, "bad.conf:6:", "memmory", code=2), done)
        os.chmod(place.path("key"), 0o644)
        done = place.colo("check", "--node", "alpha")
        check("a key that others can read is an error", done.code == 2
              and "error: pair/key" in done.out, done)
        place.write("evil.conf", text.replace("memory = 64MiB", "memory = 64MiB\nx\u202ey = 1"))
        done = place.colo("check", place.path("evil.conf"), "--node=alpha")
        check("a file's words cannot reach the terminal raw",
              done.code == 2 and is_clean(done.both.replace("\n", "")), ascii(done.both))


def secrets_are_never_printed():
    with Place() as place, place.server() as server:
        said = ""
        for words in (("status",), ("status", "--json"), ("check", "--node", "alpha"),
                      ("check", place.path("key")), ("status", place.path("key")),
                      ("stop",), ("log",), ("events",), ("start",)):
            said += place.colo(*words).both
        check("the key is in nothing that is said", place.secret not in said, said)
        check("... nor asked or told", place.secret not in repr(server.asked))


if __name__ == "__main__":
    if not os.access(COLO, os.X_OK):
        print(f"SKIPPED: {COLO} is not built")
        sys.exit(bed.SKIP_STATUS)
    bed.stop_on_signals()
    bed.run_tests(bed.chosen([
        the_first_line_says_whether_it_is_protected, the_view_shows_what_there_is,
        brief_is_one_line, json_is_what_colod_said, all_pairs_and_the_worst_of_them, which_pair,
        words_that_make_no_sense, help_and_version, the_completion_knows_what_the_command_knows,
        no_colod, not_permitted, a_server_that_hangs, a_server_that_talks_rubbish,
        a_server_that_hangs_up, colod_says_no, hostile_texts, wrong_types_everywhere, acts,
        switchover, promote, events, colours, watch, start, console, log, keygen,
        check_of_a_pair_file, secrets_are_never_printed]))
    sys.exit(bed.verdict())
