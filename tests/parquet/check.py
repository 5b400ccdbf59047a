#!/usr/bin/env python3
"""Counts rows of 20 simulated hosts in Parquet with DuckDB and with ClickHouse, and holds them against `summary --from`.

usage: sudo tests/parquet/check.py TCPSTATE

Needs the packages duckdb and chdb of PyPI, which are not in Debian, so the gate does not run it: run it after a change of
src/cli/convert. Each host is a network and a UTS namespace of its own with some connections, recorded for three seconds.
"""

import collections
import json
import pathlib
import subprocess
import sys
import tempfile

import chdb
import duckdb

HOSTS = 20

# Some listeners, some connections, some of them half closed; the client has a name of its own.
LOAD = """
import os, socket, sys, time
n = int(sys.argv[1])
listener = socket.socket(); listener.bind(('127.0.0.1', 7000)); listener.listen(200)
held = []
for i in range(n):
    one = socket.create_connection(('127.0.0.1', 7000)); held.append(one)
    if i % 3:
        held.append(listener.accept()[0])
    if i % 4 == 1:
        one.shutdown(socket.SHUT_WR)
print('ready', flush=True)
sys.stdin.read()
"""


def record(tcpstate, folder, n):
    """One host: its sockets, and its recording."""
    name = f"web{n}"
    inside = ("hostname %s && ip link set lo up && exec python3 -c \"$1\" %d" % (name, 3 + n))
    load = subprocess.Popen(["unshare", "--net", "--uts", "sh", "-c", inside, "sh", LOAD], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE)
    assert load.stdout.readline() == b"ready\n"
    path = folder / f"{name}.tcps.zst"
    recorder = subprocess.Popen(["nsenter", "--net", "--uts", "-t", str(load.pid), tcpstate, "record", str(path),
                                 "--duration", "3s", "--no-trace"], stderr=subprocess.DEVNULL)
    return load, recorder


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    tcpstate = str(pathlib.Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        captures, rows = folder / "captures", folder / "rows"
        captures.mkdir()
        for n in range(0, HOSTS, 4):
            hosts = [record(tcpstate, captures, n + i) for i in range(4)]
            for load, recorder in hosts:
                assert recorder.wait() == 0
                load.stdin.close()
                load.wait()
        subprocess.run([tcpstate, "convert", captures, "--to", "parquet", "-o", rows], check=True)
        files = f"{rows}/**/*.parquet"
        # The last snapshot of each host, as `summary` without --at shows it.
        sql = """
            select host, state, coalesce(comms, '') as comm, count(*) as n from {table} as t
            join (select host as h, max(taken_at) as last from {table} group by host) as l
            on t.host = l.h and t.taken_at = l.last group by host, state, comm order by host, state, comm"""
        duck = duckdb.sql(sql.format(table=f"read_parquet('{files}', hive_partitioning=false)")).fetchall()
        house = chdb.query(sql.format(table=f"file('{files}', Parquet)"), "JSONCompact")
        house = [tuple(row[:3]) + (int(row[3]),) for row in json.loads(str(house))["data"]]
        said = json.loads(subprocess.run([tcpstate, "summary", "--from", captures, "--by", "host,state,process", "--json",
                                          "--top", "100000"], check=True, stdout=subprocess.PIPE).stdout)
        counted = collections.Counter()
        for group in said["groups"]["by"]["rows"]:
            process = group["process"]
            comm = " ".join([process["comm"]] * len(process["pids"])) if process["comm"] else ""
            counted[group["host"], group["state"], comm] += group["total"]
        wanted = sorted(key + (n,) for key, n in counted.items())
        assert len(said["hosts"]) == HOSTS and len(wanted) > 3 * HOSTS, wanted
        assert sorted(duck) == wanted, f"duckdb: {set(duck) ^ set(wanted)}"
        assert sorted(house) == wanted, f"chdb: {set(house) ^ set(wanted)}"
        whole = duckdb.sql(f"select count(*), count(distinct taken_at), count(distinct host) from '{files}'").fetchall()
        print(f"{HOSTS} hosts, {len(wanted)} counts by host, state and process: the same in tcpstate, DuckDB {duckdb.__version__} and "
              f"ClickHouse {chdb.engine_version if hasattr(chdb, 'engine_version') else ''}; rows, instants, hosts: {whole[0]}")


main()
