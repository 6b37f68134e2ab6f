"""S11: write-ahead log and disk per record, beside CHAIN, and where the bytes go.

The log of both servers counts, from a checkpoint on.  Disk is what tables and their indexes have grown by, after a
VACUUM on both sides of the round: what stays, and not what a queue needed for a moment.
"""

import os
import re
import subprocess
from collections import Counter

import plain
from bulk import BATCH, CLIENTS, PATIENTS, source, submit_in_bulk
from measuring import BIN, RECORDS, alternate, cloud, hospital, line, register

LEAST_SHOWN = 20			# bytes a record
WAL_RECORD = re.compile(r"rmgr: (\w+).* len \(rec/tot\): *\d+/ *(\d+),.* desc: (\S+)")
WAL_RELATION = re.compile(r"blkref #\d+: rel \d+/(\d+)/(\d+)")
SIZE = """SELECT coalesce(sum(pg_table_size(c.oid) + pg_indexes_size(c.oid)), 0) FROM pg_class AS c
	JOIN pg_namespace AS n ON n.oid = c.relnamespace
	WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname IN ('apm', 'public');"""
NAMES = """SELECT d.oid, pg_relation_filenode(c.oid), coalesce(owner.relname, c.relname), c.relname
	FROM pg_class AS c JOIN pg_database AS d ON d.datname = current_database()
	LEFT JOIN pg_index AS i ON i.indexrelid = c.oid OR i.indrelid = (SELECT p.oid FROM pg_class AS p WHERE p.reltoastrelid = c.oid)
	LEFT JOIN pg_class AS owner ON owner.oid = i.indrelid
	WHERE pg_relation_filenode(c.oid) IS NOT NULL;"""


class Meter:
	"""What places, each a server and its database, write from now on."""

	def __init__(self, places):
		self.places = places
		self.size = self.disk()
		self.starts = [self.position(server, "CHECKPOINT;") for server, _ in places]

	@staticmethod
	def position(server, before=""):
		return server.run(f"{before} SELECT pg_current_wal_insert_lsn();", database="postgres")[0][0]

	def disk(self):
		"""Bytes of all permanent tables of users, vacuumed."""
		total = 0
		for server, database in self.places:
			server.psql("VACUUM;", None, database)
			total += int(server.run(SIZE, database=database)[0][0])
		return total

	def read(self, records):
		"""Bytes a record since the start: log, disk, and where in each server's log the round stands."""
		spans = [(server, start, self.position(server)) for (server, _), start in zip(self.places, self.starts)]
		log = sum(int(server.run(f"SELECT pg_wal_lsn_diff('{end}', '{start}');", database="postgres")[0][0].split(".")[0])
				  for server, start, end in spans)
		return {"log": log / records, "disk": (self.disk() - self.size) / records, "spans": spans}


def names(places):
	"""{(database, file): (table, relation)} of all that log records can be about."""
	found = {}
	for server, database in places:
		for oid, file, table, relation in server.run(NAMES, database=database):
			found[(server.name, oid, file)] = (f"{server.name}: {table}", relation)
	return found


def where(spans, known, records):
	"""Two counters of log bytes a record: by table, and by relation and what was done to it."""
	by_table, by_deed = Counter(), Counter()
	for server, start, end in spans:
		dump = subprocess.run([f"{BIN}/pg_waldump", "-p", os.path.join(server.data, "pg_wal"), "-s", start, "-e", end],
							  capture_output=True, text=True)
		for text in dump.stdout.splitlines():
			record = WAL_RECORD.match(text)
			about = WAL_RELATION.search(text)
			if not record:
				continue
			rmgr, total, deed = record.groups()
			table, relation = known.get((server.name, *about.groups()), ("other", rmgr)) if about else ("other", rmgr)
			by_table[table] += int(total) / records
			by_deed[f"{relation} {deed.rstrip(':')}{' with page' if ' FPW' in text else ''}"] += int(total) / records
	return by_table, by_deed


def run(root):
	server = hospital(root)
	other = None
	try:
		other = cloud(root, server)
		plain.prepare(server)
		register(server, PATIENTS)
		source(server)
		submit_in_bulk(server, BATCH * CLIENTS)
		ours_places = [(server, "hospital"), (other, "cloud")]

		def measured(places, work):
			meter = Meter(places)
			work()
			return meter.read(RECORDS)

		ours, theirs = alternate(lambda: measured(ours_places, lambda: submit_in_bulk(server, RECORDS)),
								 lambda: measured([(server, plain.DATABASE)], lambda: plain.chain(server, RECORDS)))
		last = measured(ours_places, lambda: submit_in_bulk(server, RECORDS))
		by_table, by_deed = where(last["spans"], names(ours_places), RECORDS)
	finally:
		server.stop()
		if other:
			other.stop()
	return {
		"what": "write-ahead log and disk per record",
		"settings": {"records": RECORDS, "patients": PATIENTS, "rows a statement": BATCH},
		"lines": [
			line("S11", "write-ahead log", "bytes/record", [each["log"] for each in ours], [each["log"] for each in theirs], "CHAIN",
				 at_most=2.5, aim=1.5),
			line("S11", "disk", "bytes/record", [each["disk"] for each in ours], [each["disk"] for each in theirs], "CHAIN",
				 at_most=2.5, aim=1.5)]
			+ [line("", f"log, {table}", "bytes/record", [size]) for table, size in by_table.most_common() if size >= LEAST_SHOWN],
		"notes": ["log of the last round, in bytes a record: "
				  + ", ".join(f"{deed} {size:.0f}" for deed, size in by_deed.most_common() if size >= LEAST_SHOWN)],
	}
