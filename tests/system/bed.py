# SPDX-License-Identifier: GPL-2.0-or-later
"""What the system tests share: places to run programs in, machines, clients, results.

A test file calls `run(tests, ...)` with functions that take the testbed's hosts. Each
function makes its claims with `check`, whose sentences are what the reader sees. Whatever
a function started is ended after it, and the testbed goes down whatever happens. Nothing
waits without a limit; limits are generous, because a testbed host is an emulated machine.

Environment: TESTBED_DIR (default: a new temporary directory), COLO_BUILD (build),
LONG=1 (longer variants), COUNT (how often, where a test says so).
"""
import ctypes
import hashlib
import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

sys.dont_write_bytecode = True

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
BUILD = os.path.realpath(os.environ.get("COLO_BUILD") or os.path.join(PROJECT, "build"))
TESTBED = os.path.join(PROJECT, "tests", "testbed", "testbed")
MICROGUEST = os.path.join(BUILD, "guest", "microguest.bin")
LONG = os.environ.get("LONG") == "1"
PATIENCE_S = 60  # for whatever should happen soon
READY = "colo-guest: ready"
BOOTS_MAX = 3  # see Machine.boots
SKIP_STATUS = 77


def count(default, default_long):
    return int(os.environ.get("COUNT") or (default_long if LONG else default))


# Results


class Results:
    passed = failed = skipped = 0
    boots_again = 0


def say(text):
    print(text, flush=True)


def note(text):
    for line in str(text).splitlines():
        say("# " + line)


def check(sentence, truth, detail=None):
    """Reports a claim; `detail` is shown where it does not hold."""
    if truth:
        Results.passed += 1
        say("ok - " + sentence)
    else:
        Results.failed += 1
        say("not ok - " + sentence)
        if detail is not None:
            note(detail)
    return bool(truth)


def skip(sentence, reason):
    Results.skipped += 1
    say(f"skip - {sentence} ({reason})")


def verdict():
    """The closing line, and the exit status that goes with it."""
    line = f"{Results.passed} passed, {Results.failed} failed"
    if Results.boots_again:
        note("guests started again, since they shut down while they booted: "
             f"{Results.boots_again}")
    say(line + (f", {Results.skipped} skipped" if Results.skipped else ""))
    if Results.failed:
        return 1
    return 0 if Results.passed else SKIP_STATUS


def eventually(condition, seconds=PATIENCE_S):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    return condition()


def median(values):
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


# Places


class Result:
    """How a command ended."""

    def __init__(self, status, output, errors):
        self.status, self.output, self.errors = status, output, errors

    def __bool__(self):
        return self.status == 0

    def __str__(self):
        return f"status {self.status}\n{self.output}{self.errors}"


class Here:
    """The machine that the test itself runs on, in a directory of its own."""

    name = "here"
    colo_vm = os.path.join(BUILD, "colo-vm")

    def __init__(self, directory=None):
        self.dir = directory

    def command(self, words):
        return list(words)

    def popen(self, *words, **options):
        options.setdefault("stderr", subprocess.DEVNULL)
        return subprocess.Popen(self.command(words), start_new_session=True, **options)

    def run(self, *words, input=None, seconds=PATIENCE_S):
        """Runs a command to its end. Status 124 where it takes too long, as timeout(1)."""
        process = self.popen(*words, stdin=subprocess.PIPE if input is not None
                             else subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        try:
            output, errors = process.communicate(input, timeout=seconds)
            status = process.returncode
        except subprocess.TimeoutExpired:
            end_process(process)
            output, errors = process.communicate()
            status, errors = 124, errors + f"no end within {seconds} s\n".encode()
        return Result(status, output.decode(errors="replace"),
                      errors.decode(errors="replace"))

    def shell(self, text, *args, **options):
        return self.run("sh", "-c", text, "sh", *map(str, args), **options)

    def must(self, text, *args, **options):
        """Shell commands that prepare something; what they print."""
        result = self.shell(text, *args, **options)
        if not result:
            raise RuntimeError(f"{self.name}: {text.strip()}: {result}")
        return result.output

    def exists(self, path):
        return bool(self.run("test", "-e", path))

    def put(self, source, target):
        if source != target:
            shutil.copyfile(source, target)

    def path(self, name):
        return os.path.join(self.dir, name)


class Host(Here):
    """A host of the testbed."""

    colo_vm = "colo-vm"

    def __init__(self, number):
        super().__init__("/var/lib/colo")
        self.number = number
        self.name = f"h{number}"
        self.address = f"10.90.1.{number}"

    def command(self, words):
        return [sys.executable, TESTBED, "exec", self.name, "--", *words]

    def put(self, source, target):
        testbed("push", self.name, source, target)

    def set_clock(self):
        """A clock that was read at boot is right to a second only."""
        self.must('date -s "@$1" > /dev/null', f"{time.time() + 0.03:.3f}")

    def make_bridge(self, tap="guest0"):
        """Puts the host's end of `lan` in the bridge `br0`, with a tap for a guest unless
        that is left to others."""
        self.must("""
            set -e
            ip link add br0 address "$(cat /sys/class/net/lan/address)" type bridge \\
                forward_delay 0 stp_state 0 mcast_snooping 0
            ip address flush dev lan
            ip address add "$1/24" dev br0
            ip link set lan master br0
            ip link set br0 up
            [ -n "$2" ] || exit 0
            ip tuntap add dev "$2" mode tap vnet_hdr
            ip link set "$2" master br0 up""", self.address, tap or "")

    def make_disk(self, path, size="64M", content=""):
        """A raw image with ext4; a name without a directory lies in /var/lib/colo."""
        self.must("/guest/make-disk \"$@\"", self.path(path), size, *filter(None, [content]))

    def check_disk(self, disk):
        """Whether the file system of an image is free of faults: what e2fsck says."""
        return self.run("e2fsck", "-fn", self.path(disk))


def testbed(*words):
    done = subprocess.run([sys.executable, TESTBED, *words], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=600)
    if done.returncode != 0:
        raise RuntimeError(f"testbed {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def end_process(process):
    """Ends a process that we started, and its group, by force if need be."""
    for number, patience_s in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        if process.poll() is not None:
            break
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=patience_s)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass


# Machines


class Stream:
    """What a process writes, collected by a thread."""

    def __init__(self, file):
        self.text = ""
        self.changed = threading.Condition()
        self.ended = False
        threading.Thread(target=self.collect, args=[file], daemon=True).start()

    def collect(self, file):
        while True:
            piece = os.read(file.fileno(), 65536)
            with self.changed:
                self.text += piece.decode(errors="replace")
                self.ended = not piece
                self.changed.notify_all()
            if not piece:
                return

    def wait(self, pattern, start=0, seconds=PATIENCE_S):
        """The match of a pattern after position `start`; None if it does not come."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while True:
                found = re.compile(pattern).search(self.text, start)
                left = deadline - time.monotonic()
                if found or left <= 0 or self.ended:
                    return found
                self.changed.wait(left)


class Terminal:
    """A guest's shell on a console, whose two ends are files of ours."""

    def __init__(self, output, stdin):
        self.stream = Stream(output)
        self.stdin = stdin
        self.questions = 0
        self.plain = False

    def type(self, text):
        self.stdin.write(text.encode())
        self.stdin.flush()

    def make_plain(self):
        """No echo and no line editing from here on, so that answers are just answers."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.plain and time.monotonic() < deadline:
            # a shell that starts throws away what was typed before
            self.stream.wait("[#$] ", seconds=10)
            start = len(self.stream.text)
            self.type("stty -echo; echo plain-$((40+2)); sh 2>&1 | cat\n")
            self.plain = bool(self.stream.wait("plain-42", start, seconds=5))
            time.sleep(0.2)

    def ask(self, command, seconds=PATIENCE_S):
        """What a shell command in the guest prints; None without an answer in time."""
        self.make_plain()
        self.questions += 1
        start = len(self.stream.text)
        self.type(f"echo \"<{self.questions}<\"\n{command}\necho \">{self.questions}>\"\n")
        found = self.stream.wait(f"<{self.questions}<\r?\n((?s:.)*?)>{self.questions}>", start,
                                 seconds)
        return found and found.group(1).replace("\r", "").strip()


class Control:
    """A connection to the control socket."""

    def __init__(self, place, path):
        self.process = place.popen("socat", "-t", "600", "-", "UNIX-CONNECT:" + path
                                   + ",retry=600,interval=0.1", stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.answers = queue.Queue()
        self.events = []
        self.changed = threading.Condition()
        self.requests = 0
        threading.Thread(target=self.collect, daemon=True).start()

    def collect(self):
        for line in self.process.stdout:
            message = json.loads(line)
            if "event" not in message:
                self.answers.put(message)
                continue
            with self.changed:
                self.events.append(message)
                self.changed.notify_all()
        self.answers.put(None)

    def send(self, command, seconds=PATIENCE_S, **arguments):
        """The answer; one that is made up where the connection ends or nothing comes."""
        self.requests += 1
        request = {"id": self.requests, "command": command}
        if arguments:
            request["arguments"] = arguments
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            answer = self.answers.get(timeout=seconds)
        except (BrokenPipeError, queue.Empty):
            answer = None
        return answer or {"ok": False, "error": {"code": "gone", "message": "no answer"}}

    def must(self, command, **arguments):
        answer = self.send(command, **arguments)
        if not answer["ok"]:
            raise RuntimeError(f"{command}: {answer['error']['message']}")
        return answer.get("result")

    def event(self, name, seconds=PATIENCE_S):
        """The first event of a name; None if it does not come. Needs command `events`."""
        with self.changed:
            self.changed.wait_for(lambda: any(e["event"] == name for e in self.events),
                                  seconds)
            return next((e for e in self.events if e["event"] == name), None)

    def close(self):
        end_process(self.process)


class Machine:
    """A running colo-vm, its serial port on our side of its standard input and output."""

    all = []  # what `run` ends after each test

    def __init__(self, place, *options, control="vm.sock"):
        self.place = place
        self.options = options
        self.socket = place.path(control)
        self.boots_left = BOOTS_MAX - 1
        self._control = None
        Machine.all.append(self)
        self.start()

    def start(self):
        self.process = self.place.popen(self.place.colo_vm, "--control", self.socket,
                                        *self.options, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.terminal = Terminal(self.process.stdout, self.process.stdin)
        self.errors = Stream(self.process.stderr)

    @property
    def control(self):
        if not self._control:
            self._control = Control(self.place, self.socket)
        return self._control

    def watch(self):
        """Asks for events, from now on."""
        self.control.must("events")
        return self

    def console(self, pattern, start=0, seconds=PATIENCE_S):
        return self.terminal.stream.wait(pattern, start, seconds)

    def shut_down_in_boot(self):
        return (READY not in self.terminal.stream.text
                and "reset detail=triple fault" in self.errors.text)

    def boots(self):
        """Whether the stock kernel gets as far as its first program. In a host that QEMU
        emulates, a guest's processor now and then finds none of its page tables; a guest
        that shuts down while it boots is started again, and that is said and counted. Not
        where somebody is connected to the machine, who may be here to see it reset."""
        while True:
            eventually(lambda: READY in self.terminal.stream.text
                       or self.shut_down_in_boot() or self.errors.ended)
            if not self.boots_left or self._control or not self.shut_down_in_boot():
                return self.console(READY, seconds=1)
            note(f"AGAIN: the guest shut down while it booted: {self.last_words()}")
            self.boots_left -= 1
            Results.boots_again += 1
            end_process(self.process)
            self.start()

    def boots_anew(self, start):
        """The same after a reset; `start`: how much it had said before. One that stands still
        while its host answers is reset once more, and that is said and counted."""
        if self.console(READY, start):
            return True
        if not self.boots_left:
            return False
        note(f"AGAIN: the guest stood still while it booted after a reset: "
             f"{self.control.send('status')} {self.last_words()}")
        self.boots_left -= 1
        Results.boots_again += 1
        start = len(self.terminal.stream.text)
        return self.control.send("reset")["ok"] and self.console(READY, start)

    def ready(self):
        if self.boots():
            return self
        raise RuntimeError(f"the guest is not ready: {self.last_words()}")

    def loaded(self):
        """With --load and --paused: waits until the state is there."""
        if not eventually(lambda: not self.control.must("status")["job"]):
            raise RuntimeError("the load does not end")
        return self

    def last_words(self):
        return (self.errors.text + self.terminal.stream.text[-1500:]).strip()

    def ask(self, command, **options):
        return self.terminal.ask(command, **options)

    def wait(self, seconds=PATIENCE_S):
        """The exit status; None if it does not end."""
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None

    def quit(self):
        self.control.must("quit")
        return self.wait()

    def end(self):
        if self._control:
            self._control.close()
        end_process(self.process)
        if self in Machine.all:
            Machine.all.remove(self)


def linux(append="", kernel="cloud", initrd=None):
    """Options of colo-vm for one of the stock kernels; later words win."""
    return ["--kernel", f"/guest/vmlinuz-{kernel}",
            "--initrd", initrd or f"/guest/initrd-{kernel}.img",
            "--append", ("console=ttyS0 loglevel=4 " + append).strip()]


# Clients


def enter_network():
    with open(os.path.join(os.environ["TESTBED_DIR"], "netns")) as file:
        handle = os.open("/run/netns/" + file.read().strip(), os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(handle, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")
    os.close(handle)


def connect(address, port, seconds=PATIENCE_S):
    """A TCP connection from the testbed's own namespace; a socket stays where it was made,
    so only the thread that makes it goes there."""
    made = queue.Queue()

    def make():
        deadline = time.monotonic() + seconds
        try:
            enter_network()
            while True:
                sock = socket.socket()
                sock.settimeout(10)
                try:
                    sock.connect((address, port))
                    break
                except OSError:
                    sock.close()
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.2)
            sock.settimeout(seconds)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.put(sock)
        except OSError as error:
            made.put(error)

    threading.Thread(target=make, daemon=True).start()
    result = made.get()
    if isinstance(result, OSError):
        raise result
    return result


def retransmit_often(sock):
    """Where the kernel can (Linux 6.15), TCP tries again every second, so that a test does
    not wait for a sender that has waited ever longer; nor does it give up early for that."""
    tcp_rto_max_ms = 44
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 600000)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, tcp_rto_max_ms, 1000)
    except OSError:
        pass


def receive_line(sock, buffer):
    """A line without its end; what came after it stays in `buffer`."""
    while b"\n" not in buffer:
        piece = sock.recv(65536)
        if not piece:
            raise ConnectionError("the connection was closed")
        buffer += piece
    line, _, rest = bytes(buffer).partition(b"\n")
    buffer[:] = rest
    return line


def ask_port(address, port, text=b""):
    """Everything that a TCP service says until it closes."""
    with connect(address, port) as sock:
        if text:
            sock.sendall(text)
        data = b""
        while True:
            piece = sock.recv(65536)
            if not piece:
                return data.decode(errors="replace")
            data += piece


class Talk(threading.Thread):
    """Numbered messages over one TCP connection, each answered before the next is sent."""

    def __init__(self, address, port, pause_s=0.02):
        super().__init__(daemon=True)
        self.sock = connect(address, port)
        retransmit_often(self.sock)
        self.buffer = bytearray()
        self.pause_s = pause_s
        self.good = 0
        self.waited_s = 0.0
        self.error = None
        self.stopping = False
        self.start()

    def message(self, number):
        fill = hashlib.sha256(str(number).encode()).hexdigest()
        return f"message {number} {fill * (number % 50)}".encode()

    def expected(self, number):
        return self.message(number)

    def run(self):
        try:
            while not self.stopping:
                began = time.monotonic()
                self.sock.sendall(self.message(self.good + 1) + b"\n")
                answer = receive_line(self.sock, self.buffer)
                self.waited_s = max(self.waited_s, time.monotonic() - began)
                if answer != self.expected(self.good + 1):
                    raise ValueError(f"message {self.good + 1}: wrong answer "
                                     f"{answer[:80]!r}")
                self.good += 1
                time.sleep(self.pause_s)
        except (OSError, ValueError) as error:
            self.error = error

    def goes_on(self, seconds=PATIENCE_S):
        """Whether two more answers come: the second was asked for after now."""
        want = self.good + 2
        return bool(eventually(lambda: self.error or self.good >= want, seconds)
                    and not self.error)

    def stop(self):
        """Whether all was right to the end."""
        self.stopping = True
        self.join(PATIENCE_S)
        alive = self.is_alive()
        self.sock.close()
        return not alive and self.error is None


class Journal(Talk):
    """Lines that the guest makes durable on its disk before it answers."""

    def message(self, number):
        return f"line {number}".encode()

    def expected(self, number):
        return f"{number} line {number}".encode()


def call_after(enter, function, *args):
    """What a function gives that is called by a thread of its own, after `enter`, which puts that
    thread into a network namespace: sockets stay where they were made."""
    made = []

    def work():
        try:
            enter()
            made.append(function(*args))
        except BaseException as error:  # it is the caller's
            made.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if isinstance(made[0], BaseException):
        raise made[0]
    return made[0]


# The run of a test file


def end_machines():
    for machine in list(Machine.all):
        machine.end()


def registers(host):
    """Where the processors of a host are that does not answer: two looks, a second apart."""
    looks = []
    here = os.getcwd()
    try:
        os.chdir(os.path.join(os.environ["TESTBED_DIR"], host.name))  # paths can be too long
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect("qmp.sock")
            buffer = bytearray()
            receive_line(sock, buffer)
            for request in [{"execute": "qmp_capabilities"}] + 2 * [
                    {"execute": "human-monitor-command",
                     "arguments": {"command-line": "info registers -a"}}]:
                sock.sendall(json.dumps(request).encode() + b"\n")
                answer = {}
                while not {"return", "error"} & answer.keys():
                    answer = json.loads(receive_line(sock, buffer))
                looks.append(" ".join(re.findall(r"RIP=\S+|HLT=\d", str(answer))))
                time.sleep(1)
    except OSError as error:
        looks.append(f"QEMU does not answer: {error}")
    finally:
        os.chdir(here)
    return "\n".join(looks)


def describe(hosts):
    """What a reader wants to know of a test that broke off."""
    for machine in Machine.all:
        note(f"a machine on {machine.place.name}: " + (
            f"ended with status {machine.process.returncode}"
            if machine.process.poll() is not None
            else f"status {machine.control.send('status', seconds=10)}"))
        note(machine.last_words())
    for host in hosts:
        alive = host.run("uptime", seconds=20)
        note(f"{host.name}: {alive}" + ("" if alive else registers(host)))
        path = os.path.join(os.environ["TESTBED_DIR"], host.name, "console.log")
        with open(path, errors="replace") as log:
            note("its console ends with:\n" + "".join(log.readlines()[-15:]))


def run_tests(tests, *args):
    for test in tests:
        began = time.monotonic()
        try:
            test(*args)
        except Exception as error:  # one broken test must not hide the others
            check(f"{test.__name__.replace('_', ' ')}: the test itself runs to its end",
                  False, f"{error}\n{traceback.format_exc(limit=-4)}")
            describe(args)
        finally:
            end_machines()
        note(f"{test.__name__}: {time.monotonic() - began:.1f} s")


def chosen(tests):
    """Those named on the command line, or all; what prepares is never left out."""
    named = sys.argv[1:] and sys.argv[1:] + ["prepare"]
    return [test for test in tests if not named or test.__name__ in named]


def stop_on_signals():
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))


class Up:
    """A testbed for as long as a `with` lasts; gives its hosts."""

    def __init__(self, hosts=1, memory=1536, cpus=1):
        self.options = ["--hosts", str(hosts), "--memory", str(memory), "--cpus", str(cpus)]
        self.count = hosts
        self.scratch = None

    def __enter__(self):
        stop_on_signals()
        if not os.environ.get("TESTBED_DIR"):
            self.scratch = tempfile.mkdtemp(prefix="colo-system-")
            os.environ["TESTBED_DIR"] = os.path.join(self.scratch, "bed")
        try:
            testbed("up", *self.options)
        except BaseException:
            self.remove()
            raise
        hosts = [Host(number) for number in range(1, self.count + 1)]
        for host in hosts:
            host.set_clock()
        return hosts

    def __exit__(self, *_):
        end_machines()
        try:
            testbed("down")
        finally:
            self.remove()

    def remove(self):
        if self.scratch:
            shutil.rmtree(self.scratch, ignore_errors=True)
            del os.environ["TESTBED_DIR"]


def run(tests, **options):
    """The whole of a test file that needs a testbed; exits."""
    began = time.monotonic()
    if os.geteuid() != 0:
        skip("tests in the testbed", "it needs root")
        sys.exit(verdict())
    with Up(**options) as hosts:
        note(f"the testbed is up after {time.monotonic() - began:.1f} s")
        run_tests(chosen(tests), *hosts)
    note(f"all: {time.monotonic() - began:.1f} s")
    sys.exit(verdict())
