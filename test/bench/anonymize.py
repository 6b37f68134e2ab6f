"""S3: apm_anonymize() of known patients in one backend against the paper's prototype, and against its cryptography alone.

The prototype is test/paper/method.py, Method 1 of the paper as published: three bcrypts and twelve RSA operations a record. All
is processor time of one process.
"""

import os
import random
import string
import subprocess
import sys
import time

from measuring import BIN, HERE, RECORD_BYTES, alternate, hospital, line, register, scaled, yardstick

sys.path.insert(0, os.path.join(HERE, "..", "paper"))

import method			# noqa: E402

PATIENTS = 100
RECORDS = scaled(20000)
PROTOTYPE_RECORDS = scaled(3)
STATEMENTS = min(RECORDS, scaled(5000))		# of one record each
ATTRIBUTES = 12
SALT = "$2b$12$zlVOnTr81y64OCPYOTbpHu"
TOGETHER = "SELECT count(apm_anonymize(pid, record)) FROM given;"
SINGLY = f"""DO $$ DECLARE r record; BEGIN
	FOR r IN SELECT * FROM given LIMIT {STATEMENTS} LOOP PERFORM apm_anonymize(r.pid, r.record); END LOOP; END $$;
	SELECT {STATEMENTS};"""


def value_length():
	"""How long a value must be for ATTRIBUTES of them to make RECORD_BYTES bytes of JSON."""
	around = len('"Value 01": "", ')
	return RECORD_BYTES // ATTRIBUTES - around


class Backend:
	"""A session whose processor time is looked at."""

	def __init__(self, server, role):
		self.psql = subprocess.Popen([f"{BIN}/psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", server.socket, "-U", role, "-d", server.name],
									 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
		self.pid = int(self.value("SELECT pg_backend_pid();"))

	def value(self, statement):
		self.psql.stdin.write(statement + "\n")
		self.psql.stdin.flush()
		answer = self.psql.stdout.readline()
		if answer == "":
			raise RuntimeError("a statement failed")
		return answer.strip()

	def seconds(self):
		with open(f"/proc/{self.pid}/stat", encoding="utf-8") as stat:
			fields = stat.read().rpartition(")")[2].split()
		return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

	def close(self):
		self.psql.stdin.close()
		self.psql.wait()


def prepare(session, server):
	"""Records to anonymize, in the session's own table, and how long texts and signed forms are."""
	session.value(f"""
		CREATE TEMPORARY TABLE given AS SELECT 'P' || (1 + i % {PATIENTS}) AS pid, v.record FROM generate_series(1, {RECORDS}) AS i,
			LATERAL (SELECT jsonb_object_agg('Value ' || lpad(k::text, 2, '0'), left(md5(i::text) || md5(k::text), {value_length()}))
				AS record FROM generate_series(1, {ATTRIBUTES}) AS k) AS v;
		ANALYZE given; SELECT 'made';""")
	apr = session.value("SELECT apm_anonymize(pid, record) FROM given LIMIT 1;")
	# a JWE's last but one part is what was sealed, in base64
	return [int(session.value("SELECT octet_length(record::text) FROM given LIMIT 1;")),
			int(server.value(f"SELECT length(split_part(apm_jwe('{apr}'), '.', 4)) * 3 / 4"))]


def anonymized(session, records, statement):
	"""Records a second of a statement that answers how many it anonymized."""
	started = session.seconds()
	if session.value(statement) != str(records):
		raise RuntimeError("records were not anonymized")
	return records / (session.seconds() - started)


def prototype(directory):
	"""Records a second of the paper's Method 1."""
	aes, private = method.read_keys(directory)
	public = method.rsa.PublicKey(private.n, private.e)
	texts = random.Random(1)
	record = {"pid": "AF89XI96FD24", "identifying": {"Firstname": "Ahmed", "Lastname": "Ali"}, "attributes": {
		f"Value {k:02}": "".join(texts.choices(string.hexdigits, k=value_length())) for k in range(1, ATTRIBUTES + 1)}}
	started = time.process_time()
	for _ in range(PROTOTYPE_RECORDS):
		method.anonymized(record, SALT, aes, public)
	return PROTOTYPE_RECORDS / (time.process_time() - started)


def run(root):
	method.make_keys(root)
	server = hospital(root)
	try:
		register(server, PATIENTS)
		session = Backend(server, "doctor")
		text, signed = prepare(session, server)
		shares = []

		def primitives():
			each_second, *rest = yardstick("anonymize", RECORDS, text, signed).splitlines()
			shares.append(dict(row.split("\t") for row in rest))
			return float(each_second)

		ours, alone, papers, singly = alternate(
			lambda: anonymized(session, RECORDS, TOGETHER), primitives, lambda: prototype(root),
			lambda: anonymized(session, STATEMENTS, SINGLY))
		session.close()
	finally:
		server.stop()
	return {
		"what": "apm_anonymize() of known patients in one backend",
		"settings": {"patients": PATIENTS, "attributes a record": ATTRIBUTES, "bytes of text": text, "bytes signed": signed,
					 "records a round": RECORDS, "records of the prototype a round": PROTOTYPE_RECORDS,
					 "time": "processor time of the process"},
		"lines": [
			line("S3", "apm_anonymize, one statement", "records/s", ours, papers, "the paper's prototype", at_least=10000),
			line("S3", "apm_anonymize, one statement", "records/s", ours, alone, "its cryptography alone", aim=0.6),
			line("S3", "apm_anonymize, a statement a record", "records/s", singly, papers, "the paper's prototype")],
		"notes": [f"Microseconds of the cryptography: {', '.join(f'{name} {share}' for name, share in shares[-1].items())}."],
	}
