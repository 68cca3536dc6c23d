# SPDX-License-Identifier: GPL-2.0-or-later
"""A colod that says what a test wants: its control socket, scripted."""
import copy
import json
import os
import socket
import threading

STATUS = {
    "name": "colod", "version": "0.1", "pid": 4711, "pair": "web", "node": "alpha",
    "state": "protected", "role": "primary", "protected": True, "since_ms": 11520000,
    "generation": 7, "epoch": 1234, "reason": None, "advice": None,
    "guest": {"state": "running", "uptime_ms": 183600000}, "sync": None,
    "checkpoints": {
        "total": {"checkpoints": 1234, "reasons": {"age": 1200, "request": 34},
                  "paused_us": 500000},
        "pause_us": {"p50": 410, "p99": 900, "max": 1500},
        "commit_us": {"p50": 2100, "p99": 4000, "max": 9000},
        "apply_us": {"p50": 900, "p99": 1800, "max": 4000},
        "last": {"epoch": 1234, "reason": "age", "pause_us": 400}},
    "peer": {"name": "beta", "reachable": True, "state": "standby", "generation": 7,
             "alive": True},
    "heartbeat": {
        "alive": True,
        "paths": [
            {"path": "10.0.0.1:7702 - 10.0.0.2:7702", "up": True, "hears_us": True,
             "silent_ms": 20, "rtt_us": 180, "jitter_us": 40, "loss_ppm": 0, "malformed": 0,
             "forged": 0, "replayed": 0, "reflected": 0},
            {"path": "192.168.1.1:7702 - 192.168.1.2:7702", "up": False, "hears_us": False,
             "silent_ms": 3100, "rtt_us": None, "jitter_us": None, "loss_ppm": 250000,
             "malformed": 0, "forged": 3, "replayed": 0, "reflected": 0}],
        "clock_offset_us": -12, "clock_error_us": 40, "stalls": 0},
    "arbiter": {"kind": "etcd", "state": "ok", "record": "protected, generation 7",
                "detail": None},
    "comparator": {"gate": "guarded", "mode": "compare", "matched": 90210, "committed": 400,
                   "divergences": {"payload": 10, "late": 2}, "held": 3},
    "programs": [{"name": "colo-vm", "pid": 4712, "running": True, "restarts": 0},
                 {"name": "colo-heartbeat", "pid": 4713, "running": True, "restarts": 1},
                 {"name": "colo-netcompare", "pid": None, "running": False, "restarts": 5}],
    "console": None, "logs": {},
}


def status(**changes):
    """A status with other members; a dictionary changes a member's members."""
    result = copy.deepcopy(STATUS)
    for name, value in changes.items():
        if isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name].update(value)
        else:
            result[name] = value
    return result


def event(number, name, **changes):
    return dict({"event": name, "number": number, "time": 1767225600123, "monotonic": 5,
                 "node": "alpha", "state": "solo", "generation": 7, "detail": None}, **changes)


def page(events, last=None, more=False, missed=0, following=False):
    """The result of the command events."""
    if last is None:
        last = events[-1].get("number", 0) if events else 0
    return {"events": events, "last": last, "more": more, "missed": missed,
            "following": following}


def no(code, message):
    return {"ok": False, "error": {"code": code, "message": message}}


class Server:
    """Answers each command by its row of `answers`: a result, an answer with "ok", a function
    of the arguments that gives either, bytes that are sent as they are, or None for nothing.
    A list is taken one by one, its last for good. Requests are kept in `asked`."""

    def __init__(self, run_dir, pair="web", accept=True, **answers):
        self.directory = os.path.join(run_dir, pair)
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        self.path = os.path.join(self.directory, "control.sock")
        self.answers = dict({"status": status()}, **answers)
        self.asked = []
        self.hang_up = False  # behind each thing said
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(self.path)
        self.sock.listen(8)
        if accept:
            threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()
        try:
            os.unlink(self.path)
        except OSError:
            pass

    def accept(self):
        while True:
            try:
                client, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        try:
            for line in client.makefile("rb"):
                request = json.loads(line)
                self.asked.append((request["command"], request.get("arguments", {})))
                for piece in self.reply(request):
                    client.sendall(piece)
                    if self.hang_up:
                        client.close()
                        return
        except OSError:
            pass

    def reply(self, request):
        answer = self.answers.get(request["command"].replace("-", "_"),
                                  no("unknown-command", "no such command"))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if callable(answer):
            answer = answer(request.get("arguments", {}))
        if answer is None:
            return
        if isinstance(answer, bytes):
            yield answer
            return
        before, behind = [], []
        if isinstance(answer, tuple):
            before, answer, behind = answer
        if "ok" not in answer:
            answer = {"ok": True, "result": answer}
        for thing in (*before, dict(answer, id=request["id"]), *behind):
            yield json.dumps(thing).encode() + b"\n"
