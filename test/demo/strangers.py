"""What strangers can check without us, what is left of somebody who is forgotten, and keys that are renewed."""

import base64
import os
import subprocess

from servers import BIN, Refused, quote, wait_for
from telling import answer, check, say, show, sqlstate, statement, title

FORGOTTEN = "VISITOR-001"


class Stick:
	"""A directory outside the server: what somebody took home."""

	def __init__(self, demo):
		self.path = os.path.join(os.path.dirname(demo.hospital.socket), "stick")
		os.makedirs(self.path, exist_ok=True)
		self.server = demo.hospital

	def file(self, name):
		return os.path.join(self.path, name)

	def take(self, name, text, shown=None):
		"""What the auditor is answered, into a file."""
		statement(f"{shown or text}    -> {name}")
		self.server.save(text + ";", "auditor", self.file(name))

	def verify(self, *words):
		"""apm-verify with files of the stick: its verdict and exit status."""
		files = [self.file(word) if "." in word else word for word in words]
		done = subprocess.run([f"{BIN}/apm-verify", *files], capture_output=True, text=True)
		verdict = (done.stdout or done.stderr).strip()
		statement(f"$ apm-verify {' '.join(words)}\n{verdict}")
		return done.returncode


def strangers(demo):
	title("What strangers can check without us")
	stick = Stick(demo)
	rid = demo.hospital.value(f"SELECT rid FROM apm.ledger_record WHERE rid = {quote(demo.rid)}")
	say("""Ahmed takes two small files home: a proof that his record stands in the chain, and a digest, which is the last block as the
		node has signed it. They are checked by a program that knows nothing of PostgreSQL and asks no server:""")
	stick.take("proof.json", f"SELECT apm_prove({quote(rid)})")
	stick.take("digest.json", "SELECT apm_digest()")
	check("his proof is good", stick.verify("proof", "proof.json", "--digest", "digest.json"), 0)

	say("An auditor takes the whole ledger. Every block, signature and verdict of the contract is computed again from the file:")
	stick.take("ledger.txt", "SELECT apm_export_ledger()")
	check("the exported ledger is good", stick.verify("ledger", "ledger.txt", "--digest", "digest.json"), 0)
	check("the server says the same", demo.hospital.value("SELECT ok FROM apm_verify()", "auditor"), "t")

	say("In a copy of the file a single bit is turned round, and in another the last block is missing. Alone, the second is a good chain; the digest knows better:")
	with open(stick.file("ledger.txt"), encoding="ascii") as file:
		lines = file.readlines()
	middle = len(lines) // 2
	block = bytearray(base64.b64decode(lines[middle]))
	block[-100] ^= 1
	altered = lines[:middle] + [base64.b64encode(block).decode() + "\n"] + lines[middle + 1:]
	for name, text in (("altered.txt", altered), ("cut.txt", lines[:-1])):
		with open(stick.file(name), "w", encoding="ascii") as file:
			file.writelines(text)
	check("the bit is found", stick.verify("ledger", "altered.txt"), 1)
	check("a cut chain verifies alone", stick.verify("ledger", "cut.txt"), 0)
	check("and not with the digest", stick.verify("ledger", "cut.txt", "--digest", "digest.json"), 1)


def forgotten(demo):
	title("Somebody is forgotten")
	stick = Stick(demo)
	demo.note_queries(1)
	rids = [row[0] for row in demo.hospital.run(f"SELECT rid FROM apm_fetch({quote(FORGOTTEN)}, 'treatment');", "dr_salma")]
	apid = demo.hospital.value(f"SELECT apid FROM apm.ledger_record WHERE rid = {quote(rids[0])}")
	stick.take("visit.json", f"SELECT apm_prove({quote(rids[0])})")
	stick.take("before.json", "SELECT apm_digest()")
	say(f"{FORGOTTEN}, who has {len(rids)} visits, asks to be forgotten. A registrar enters it:")
	statement(f"SELECT apm_forget('{FORGOTTEN}', 'consent-withdrawn');")
	request = demo.hospital.value(f"SELECT apm_forget('{FORGOTTEN}', 'consent-withdrawn');", "registrar")
	wait_for("the request to be done", lambda: demo.hospital.value(
		f"SELECT state = 'done' FROM apm_erasure_state({quote(request)});", "registrar") == "t")
	demo.wait_until_quiet()
	wait_for("the cloud to have lost the rows", lambda: demo.depth("cloud_removal") == 0)
	demo.erased += len(rids)
	tid, voided = demo.hospital.run("SELECT erased_by, count(*) FROM apm.ledger WHERE erased_by IS NOT NULL GROUP BY 1;")[0]
	say(f"""Transaction {tid} voids {voided} transactions: the registration and the visits. What they said is gone from the
		ledger, the patient's key from the hospital, the rows from the cloud. Who asks now is told what everybody is told of
		somebody who was never here:""")
	outcome = demo.hospital.attempt(f"SELECT * FROM apm_fetch({quote(FORGOTTEN)}, 'treatment');", "dr_salma")
	demo.note_queries(1, refused=1)
	answer(outcome)
	check("the contract knows no such patient", (isinstance(outcome, Refused), sqlstate(outcome)), (True, "AP001"))
	check("the cloud has none of the rows", demo.cloud.value(f"SELECT count(*) FROM health_record WHERE apid = {quote(apid)}"), "0")
	check("nothing leads from the person to the pseudonym",
		  demo.hospital.value(f"SELECT count(*) FROM apm.patient WHERE apid = {quote(apid)}"), "0")
	ok, again = demo.hospital.run("SELECT ok, erased FROM apm_verify();", "auditor")[0]
	check("the ledger verifies, and says what it could not look at", (ok, again), ("t", voided))

	say("Everything else still proves what it proved. The digest from before and the one of now belong to one chain, and what was proved then stays proved:")
	stick.take("after.json", "SELECT apm_digest()")
	with open(stick.file("before.json"), encoding="utf-8") as before:
		stick.take("growth.json", f"SELECT apm_prove_consistency({quote(before.read().strip())})",
				   "SELECT apm_prove_consistency(:before)")
	check("the chain grew", stick.verify("consistency", "growth.json", "--old", "before.json", "--new", "after.json"), 0)
	check("the old proof is good", stick.verify("proof", "visit.json", "--digest", "before.json"), 0)
	stick.take("forgotten.txt", "SELECT apm_export_ledger()")
	check("the ledger without them is good", stick.verify("ledger", "forgotten.txt", "--digest", "after.json"), 0)


def renewed_keys(demo):
	title("A new wrapping key")
	say("""Patients' keys are wrapped by a key of the hospital's. It is renewed; a worker wraps all of them anew, and no record is touched. Backups hold
		what the old one wrapped, also of who is forgotten. So the old one is destroyed, once nothing needs it any more:""")
	statement("SELECT apm_rotate_key('apm-wrapping');")
	generation = int(demo.hospital.value("SELECT apm_rotate_key('apm-wrapping');", "chief"))
	wait_for("all keys to be wrapped anew", lambda: demo.hospital.value(
		f"SELECT finished_at IS NOT NULL FROM apm.rotation WHERE kind = 'apm-wrapping' AND generation = {generation};") == "t")
	show(["kind", "generation", "done", "of"], demo.hospital.run(
		f"SELECT kind, generation, items_done, items_total FROM apm.rotation WHERE generation = {generation};", "chief"))
	statement(f"SELECT apm_retire_key('apm-wrapping', {generation - 1});")
	demo.hospital.run(f"SELECT apm_retire_key('apm-wrapping', {generation - 1});", "chief")
	check("one generation is left", demo.hospital.run("SELECT generation FROM apm.key WHERE kind = 'apm-wrapping';"), [[str(generation)]])
	demo.note_queries(1)
	rows = demo.hospital.run("SELECT rid FROM apm_fetch('VISITOR-002', 'treatment');", "dr_salma")
	check("and everybody can still be read", len(rows) > 0, True)
