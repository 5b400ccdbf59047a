#!/usr/bin/env python3
"""Half an hour of `tcpstate watch --json` beside ten real servers under load, with four faults.

    sudo tests/truth/soak.py target/release/tcpstate             30 minutes
    sudo tests/truth/soak.py --short target/release/tcpstate     6 minutes

Makes two namespaces (clients and servers) joined by veth, watches each, and prints for every fault how long its finding
took to appear and to go, then all other findings at warning or above. Exits with 1 when a fault was not named within
10 s, when its finding was not gone 30 s after the cure, or when anything else was found. Ends whatever it started.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HARMFUL = {"warning", "high", "critical"}
NAME = f"soak{os.getpid()}"
C, S = NAME + "c", NAME + "s"
NAMED_S, GONE_S = 10, 30

NGINX = """
user root; daemon off; worker_processes 2; error_log {w}/nginx.log; pid {w}/nginx.pid;
events {{ worker_connections 512; }}
http {{ access_log off; keepalive_timeout 20; root {w}/www;
server {{ listen 10.77.0.2:80; }} server {{ listen 10.77.0.2:81; }} }}
"""
HAPROXY = """
defaults
  mode http
  timeout connect 2s
  timeout client 20s
  timeout server 10s
  timeout http-keep-alive 10s
listen web
  bind 10.77.0.1:8080
  server a 10.77.0.2:81
"""
APACHE = """
ServerRoot {w}
ServerName x
PidFile {w}/apache.pid
ErrorLog {w}/apache.log
Listen 10.77.0.2:8088
User www-data
Group www-data
LoadModule mpm_prefork_module {m}/mod_mpm_prefork.so
LoadModule authz_core_module {m}/mod_authz_core.so
LoadModule dir_module {m}/mod_dir.so
DefaultRuntimeDir {w}
DocumentRoot {w}/www
StartServers 6
KeepAlive On
KeepAliveTimeout 5
"""
MOSQUITTO = "listener 1883 10.77.0.2\nallow_anonymous true\npersistence false\n"
GUNICORN = """
import time
def app(e, start):
    time.sleep(0.005)
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
NODE = """
require("http").createServer((q, r) => setTimeout(() => r.end("ok"), 20)).listen(3000, "10.77.0.2")
"""
NODE_CLIENT = """
const http = require("http"), agent = new http.Agent({ keepAlive: true, maxSockets: 8 });
setInterval(() => http.get({ host: "10.77.0.2", port: 3000, agent }, (r) => r.resume()), 50)
"""
# A pool of connections, each used every 0.2 s or so, and made anew when it breaks.
POOL = """
import random, socket, sys, threading, time
host, port, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
request, answer = (a.encode().decode("unicode_escape").encode() for a in sys.argv[4:6])
def use():
    while True:
        try:
            with socket.create_connection((host, port), timeout=5) as s:
                while True:
                    s.sendall(request)
                    got = b""
                    while answer not in got:
                        more = s.recv(65536)
                        if not more: raise OSError("closed")
                        got += more
                    time.sleep(random.uniform(.1, .3))
        except OSError:
            time.sleep(1)
for _ in range(size): threading.Thread(target=use, daemon=True).start()
threading.Event().wait()
"""
# Clients that open a connection for each request and give up after five seconds.
EACH = """
import random, sys, threading, time, urllib.request
def use():
    while True:
        try: urllib.request.urlopen(sys.argv[1], timeout=5).read()
        except OSError: pass
        time.sleep(random.uniform(.1, .5))
for _ in range(int(sys.argv[2])): threading.Thread(target=use, daemon=True).start()
threading.Event().wait()
"""
# Streams answers, reads none, and keeps them all.
LEAK = """
import time, requests
kept = []
while True:
    kept.append(requests.get("http://10.77.0.2:3000/", stream=True, headers={"Connection": "close"}))
    time.sleep(.1)
"""


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Mix:
    """The namespaces, the servers, their clients."""

    def __init__(self, folder):
        self.w, self.started = folder, []
        self.log = open(folder / "out", "ab")

    def namespaces(self):
        for name in (C, S):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "link", "add", "v" + C, "netns", C, "type", "veth", "peer", "name", "v" + S, "netns", S)
        for name, address in ((C, "10.77.0.1/24"), (S, "10.77.0.2/24")):
            run("ip", "-n", name, "addr", "add", address, "dev", "v" + name)
            run("ip", "-n", name, "link", "set", "v" + name, "up")

    def begin(self, netns, *command):
        command = ["ip", "netns", "exec", netns, *map(str, command)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd=self.w)
        self.started.append(process)
        return process

    def again(self, netns, pause, command):
        """The command again and again, with pauses."""
        return self.begin(netns, "bash", "-c", f"while :; do {command}; sleep {pause}; done")

    def listens(self, netns, port):
        for _ in range(200):
            if run("ip", "netns", "exec", netns, "ss", "-Htln", f"sport = :{port}"):
                return
            time.sleep(0.1)
        sys.exit(f"nothing listens on port {port}: see {self.w}/out")

    def pids(self, netns, comm):
        found = []
        for pid in run("ip", "netns", "pids", netns).split():
            try:
                if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == comm:
                    found.append(int(pid))
            except OSError:
                pass
        return found

    def servers(self):
        w = self.w
        (w / "www").mkdir()
        (w / "www/index.html").write_text("hello\n" * 500)
        files = {"nginx.conf": NGINX, "apache.conf": APACHE}
        for name, text in files.items():
            (w / name).write_text(text.format(w=w, m="/usr/lib/apache2/modules"))
        (w / "haproxy.cfg").write_text(HAPROXY)
        (w / "mosquitto.conf").write_text(MOSQUITTO)
        (w / "app.py").write_text(GUNICORN)
        run("chmod", "-R", "a+rX", str(w))
        run("install", "-d", "-o", "postgres", "-m", "700", str(w / "db"))
        binaries = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        run("runuser", "-u", "postgres", "--", str(binaries / "initdb"), "-D", str(w / "db"), "-A", "trust", "-N")
        with open(w / "db/pg_hba.conf", "a") as file:
            file.write("host all all 10.77.0.0/24 trust\n")
        self.begin(S, "nginx", "-c", w / "nginx.conf")
        self.begin(S, "redis-server", "--bind", "10.77.0.2", "--protected-mode", "no", "--save", "", "--dir", w)
        self.begin(S, "memcached", "-u", "nobody", "-l", "10.77.0.2")
        self.begin(S, "runuser", "-u", "postgres", "--", binaries / "postgres", "-D", w / "db", "-c",
                   "listen_addresses=10.77.0.2", "-c", "unix_socket_directories=", "-c", "fsync=off")
        self.begin(S, "node", "-e", NODE)
        self.begin(S, "env", "-C", w, "gunicorn", "-w", "2", "--backlog", "32", "-b", "10.77.0.2:8000", "app:app")
        self.begin(S, "apache2", "-f", w / "apache.conf", "-DFOREGROUND")
        self.begin(S, "mosquitto", "-c", w / "mosquitto.conf")
        self.begin(S, "smtp-sink", "-u", "nobody", "10.77.0.2:2525", "256")
        for port in (80, 6379, 11211, 5432, 3000, 8000, 8088, 1883, 2525):
            self.listens(S, port)
        self.begin(C, "haproxy", "-db", "-f", w / "haproxy.cfg")
        self.listens(C, 8080)

    def clients(self):
        python, host = sys.executable, "10.77.0.2"
        for address, port in ((host, 80), ("10.77.0.1", 8080)):
            self.begin(C, python, "-c", POOL, address, port, 8, r"GET / HTTP/1.1\r\nHost: x\r\n\r\n", r"hello\nhello\n")
            self.begin(C, "curl", "-s", "--rate", "5/s", "-o", "/dev/null", f"http://{address}:{port}/?[1-100000]")
            self.again(C, 5, f"ab -q -r -s 5 -n 200 -c 4 http://{address}:{port}/")
        for i in range(8):
            self.begin(C, "redis-cli", "-h", host, "-r", "-1", "-i", "0.2", "incr", "x")
        for i in range(2):
            self.begin(C, "redis-cli", "-h", host, "subscribe", "news")
        self.begin(C, "redis-cli", "-h", host, "blpop", "never", "0")
        self.begin(C, python, "-c", POOL, host, 6379, 8, r"PING\r\n", "PONG")
        self.again(C, 1, f"redis-cli -h {host} ping")
        self.begin(C, python, "-c", POOL, host, 11211, 20, r"get x\r\n", "END")
        run("ip", "netns", "exec", C, "pgbench", "-h", host, "-U", "postgres", "-i", "-q", "postgres")
        self.begin(C, "pgbench", "-h", host, "-U", "postgres", "-n", "-c", "6", "-R", "20", "-T", "100000", "postgres")
        for i in range(6):
            self.again(C, 0, "{ while :; do echo 'select 1;'; sleep 1; done; } | psql -h 10.77.0.2 -U postgres -q")
        self.begin(C, "bash", "-c", "{ echo 'listen news;'; exec sleep 100000; } | psql -h 10.77.0.2 -U postgres -q")
        self.begin(C, "node", "-e", NODE_CLIENT)
        self.begin(C, python, "-c", EACH, f"http://{host}:8000/", "12")
        self.again(C, 8, f"wrk -t 1 -c 6 -d 1s http://{host}:8088/")
        self.again(C, 2, f"ab -q -s 5 -n 50 -c 2 http://{host}:8088/")
        for i in range(15):
            self.begin(C, "mosquitto_sub", "-h", host, "-t", "news", "-k", "30")
        self.again(C, 1, f"mosquitto_pub -h {host} -t news -m hello")
        self.again(C, 3, f"smtp-source -s 4 -m 40 -l 2000 {host}:2525")

    def end(self):
        for process in self.started:
            process.kill()
        for name in (C, S):
            found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
            for pid in found.stdout.split():
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except OSError:
                    pass
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        for process in self.started:
            process.wait()


class Faults:
    """How each is made and cured, and which findings name it."""

    def __init__(self, mix):
        self.mix, self.leak = mix, None
        self.all = [
            ("redis is stopped", self.stop_redis, self.go_on,
             lambda f: "redis-server" in f["who"] and f["rule"] in ("accept-queue-stalled", "recv-queue-stuck")),
            ("packets to haproxy's backend are dropped", self.drop, self.undrop,
             lambda f: "10.77.0.2:81" in f["id"]
             and f["rule"] in ("dead-peer-retransmit", "syn-sent-pileup", "connect-failures")),
            ("a client keeps what its server closed", self.start_leak, self.end_leak,
             lambda f: f["rule"] == "close-wait-leak" and "10.77.0.2:3000" in f["id"]),
            ("gunicorn is stopped and its queue overflows", self.stop_gunicorn, self.go_on,
             lambda f: "10.77.0.2:8000" in f["id"] and f["rule"].startswith("accept-queue")),
        ]

    def stop(self, comm):
        self.stopped = self.mix.pids(S, comm)
        for pid in self.stopped:
            os.kill(pid, signal.SIGSTOP)

    def stop_redis(self):
        self.stop("redis-server")

    def stop_gunicorn(self):
        self.stop("gunicorn")

    def go_on(self):
        for pid in self.stopped:
            os.kill(pid, signal.SIGCONT)

    def drop(self):
        run("ip", "netns", "exec", S, "nft", "add table inet f; add chain inet f i { type filter hook input priority 0; };"
            " add rule inet f i tcp dport 81 drop")

    def undrop(self):
        run("ip", "netns", "exec", S, "nft", "delete table inet f")

    def start_leak(self):
        self.leak = self.mix.begin(C, sys.executable, "-c", LEAK)

    def end_leak(self):
        self.leak.terminate()


class Watch:
    """One `watch --json`: what it found, and when its lines came."""

    def __init__(self, program, netns, name, folder):
        command = [program, "watch", "--json", "--netns", netns]
        self.name, self.news, self.samples, self.longest_us, self.skipped = name, [], 0, 0, 0
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                                        stderr=open(folder / f"{name}.err", "ab"))
        self.kept = open(folder / f"{name}.jsonl", "w")
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            at, record = time.time(), json.loads(line)
            if record["type"] == "snapshot":
                self.samples += 1
                self.skipped += record["skipped"]
                self.longest_us = max(self.longest_us, record["sample_us"])
            elif record["type"] in ("finding", "gap", "end"):
                record["read_at"] = at
                self.kept.write(json.dumps(record) + "\n")
                self.kept.flush()
            if record["type"] == "finding":
                subject = record["subject"]
                self.news.append({
                    "at": at, "watch": self.name, "id": record["id"], "rule": record["rule"],
                    "harmful": record["event"] == "seen" and record["severity"] in HARMFUL,
                    "severity": record["severity"], "who": str(subject["comm"]),
                    "summary": record["summary"]})

    def end(self):
        times = os.times()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        self.reader.join(20)
        after = os.times()
        self.cpu_s = after.children_user + after.children_system - times.children_user - times.children_system


def spells(news):
    """When each finding was at warning or above: (first line of it, begin, end or None)."""
    open_now, found = {}, []
    for event in news:
        key = (event["watch"], event["id"])
        if event["harmful"] and key not in open_now:
            open_now[key] = event
        elif not event["harmful"] and key in open_now:
            begun = open_now.pop(key)
            found.append((begun, begun["at"], event["at"]))
    found += [(begun, begun["at"], None) for begun in open_now.values()]
    return sorted(found, key=lambda spell: spell[1])


def what(event):
    return f"{event['watch']} {event['severity']} {event['id']}: {event['summary']}"


def report(watches, times, begun, ended):
    """Prints the tables. Returns whether everything was as it should be."""
    good, rest = True, spells([event for watch in watches for event in watch.news])
    print("\n| fault | named after | by | gone after its cure |\n| --- | --- | --- | --- |")
    windows = []
    for (title, _, _, names), (injected, cured) in times:
        own = [s for s in rest if injected <= s[1] <= cured + GONE_S and names(s[0])]
        rest = [s for s in rest if s not in own]
        windows.append((title, injected, cured, own))
        last = max((s[2] or ended for s in own), default=None)
        named = own[0][1] - injected if own else None
        good &= named is not None and named <= NAMED_S and last - cured <= GONE_S and all(s[2] for s in own)
        rules = ", ".join(sorted({f"{s[0]['rule']} ({s[0]['watch']})" for s in own}))
        print(f"| {title} | {f'{named:.1f} s' if own else 'never'} | {rules} | {f'{last - cured:.1f} s' if own else ''} |")
    print("\nEvery spell at warning or above (seconds from the fault, from its cure):")
    for title, injected, cured, own in windows:
        beside = [s for s in rest if injected <= s[1] <= cured + GONE_S]
        rest = [s for s in rest if s not in beside]
        print(f"- {title}")
        for kind, these in (("names it", own), ("beside", beside)):
            for event, since, until in these:
                gone = f"{until - cured:+.1f} s from the cure" if until else "never gone"
                print(f"    {kind}: {since - injected:5.1f} s, {gone}: {what(event)}")
                good &= until is not None and until - cured <= GONE_S
        again = [(s[0]["watch"], s[0]["id"]) for s in own + beside]
        for flapping in sorted({one for one in again if again.count(one) > 1}):
            good = False
            print(f"    flaps: {' '.join(flapping)} ({again.count(flapping)} spells)")
    print("- outside the faults" + ("" if rest else ": none"))
    for event, since, until in rest:
        lasted = f"{until - since:.1f} s" if until else "to the end"
        print(f"    at {since - begun:.1f} s for {lasted}: {what(event)}")
    for watch in watches:
        print(f"watch {watch.name}: {watch.samples} samples, {watch.skipped} skipped, the longest "
              f"{watch.longest_us / 1e6:.2f} s, CPU {watch.cpu_s:.1f} s")
    return good and not rest


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--short", action="store_true", help="seven minutes")
    parser.add_argument("--keep", help="a folder for the findings as JSON lines")
    options = parser.parse_args()
    settle, fault, pause, tail = (50, 45, 45, 0) if options.short else (240, 90, 270, 120)
    folder = pathlib.Path(tempfile.mkdtemp(prefix=NAME))
    mix = Mix(folder)
    watches, times = [], []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(1))
    try:
        mix.namespaces()
        mix.servers()
        mix.clients()
        time.sleep(5)
        begun = time.time()
        watches = [Watch(options.program, netns, name, folder) for netns, name in ((C, "clients"), (S, "servers"))]
        until = lambda at: time.sleep(max(0, begun + at - time.time()))
        for i, one in enumerate(Faults(mix).all):
            until(settle + i * (fault + pause))
            injected = time.time()
            one[1]()
            print(f"{injected - begun:7.1f} s: {one[0]}, load {os.getloadavg()[0]:.1f}", flush=True)
            until(settle + i * (fault + pause) + fault)
            cured = time.time()
            one[2]()
            times.append((one, (injected, cured)))
        until(settle + 4 * (fault + pause) + tail)
        for watch in watches:
            watch.end()
        good = report(watches, times, begun, time.time())
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for watch in watches:
            watch.process.kill()
        mix.end()
        if options.keep:
            pathlib.Path(options.keep).mkdir(parents=True, exist_ok=True)
            for name in ("clients.jsonl", "servers.jsonl", "clients.err", "servers.err", "out"):
                if (folder / name).exists():
                    shutil.copy(folder / name, options.keep)
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
