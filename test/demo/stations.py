"""The paper's patient and his record, at every station of the way in."""

import base64
import json
import os

from Cryptodome.Cipher import PKCS1_v1_5
from Cryptodome.PublicKey import RSA

from hospital import AHMED
from servers import quote, wait_for
from telling import check, say, show, statement, title

PAPER_SALT = "$2b$12$zlVOnTr81y64OCPYOTbpHu"
PAPER_DIGESTS = {"aPid": "2fSGG/kwlHwlfGwgLKxYmh0cZyLYy9a", "Firstname": "piaiFDa8unHHtGVeL8qNR0wXWyBRhFG",
				 "Lastname": "Tq1L/gFJimlN60Xy5FiN1luFLtqeOAu"}
AHMED_NAME = {"Firstname": "Ahmed", "Lastname": "Ali"}
AHMED_ATTRIBUTES = {"Age": 22, "Gender": "Male"}
FEVER = {"Disease": "Fever", "Description": "Seasonal fever associated with a cold"}


def short(expression, length=44):
	"""SQL for the beginning of a bytea and its size."""
	return f"left(encode({expression}, 'hex'), {length}) || '... (' || octet_length({expression}) || ' bytes)'"


def register_ahmed(demo):
	title("A patient")
	say(f"""The registrar enters the paper's patient, {AHMED}: Ahmed Ali, 22, Male. SR is
		{demo.hospital.value("SELECT current_setting('apm.salting_rounds')")}, so his pseudonym costs a moment; once,
		at registration, and never again.""")
	demo.hospital.run(f"SELECT apm_register_patient({quote(AHMED)}, {quote(AHMED_NAME)}, {quote(AHMED_ATTRIBUTES)});",
					  role="registrar")
	wait_for("the chain to know the patient", lambda: demo.depth("ledger_patient") == 1)
	show(["column", "what the hospital's database holds of him"], demo.hospital.run(f"""
		SELECT v.* FROM apm.patient AS p JOIN apm.profile AS f USING (apid), LATERAL (VALUES
			('index key, keyed hash of the pid', {short("p.index_key")}),
			('aPid, his pseudonym', p.apid),
			('his key, wrapped', {short("p.wrapped_key")}),
			('profile (PP), sealed', {short("f.sealed")})) AS v"""))


def paper_keys(directory):
	"""The two keys of the paper's profile, which are put into the key directory by hand."""
	rsa = RSA.generate(2048)
	for name, content in (("paper-aes.key", os.urandom(32)), ("paper-rsa.pem", rsa.export_key(pkcs=8))):
		with open(os.open(os.path.join(directory, name), os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
			file.write(content)
	return rsa


def unsealed(rsa, value):
	"""What lies under the RSA layer, opened with Python's library and not with ours."""
	if not isinstance(value, dict):
		return value
	return PKCS1_v1_5.new(rsa).decrypt(base64.b64decode(value["value"]), b"(does not open)").decode()


def paper_stations(demo):
	title("One record as the paper shows it (its Tables 5 to 8)")
	say("""The paper's own methods, switched on for this chapter only: they are weak, and apm uses others. First the record
		as the doctor has it, the iPR (Table 5), and the second iPR, with the patient's profile (Table 6):""")
	show(["attribute", "iPR"], list({"Pid": AHMED, **FEVER}.items()))
	show(["attribute", "iPR with profile"], list({"Pid": AHMED, **AHMED_NAME, **AHMED_ATTRIBUTES, **FEVER}.items()))

	rsa = paper_keys(demo.keys)
	demo.setting("apm.allow_paper_profile", "on")
	sealed = demo.hospital.value(f"""SELECT convert_from(apm_anonymize({quote(AHMED)}, {quote(FEVER)},
		profile => 'paper', salt => {quote(PAPER_SALT)}), 'UTF8')""", role="dr_salma")
	record = json.loads(sealed)
	say("""Table 7. What identifies is hashed with bcrypt, SR 12, here with the very salt that the paper prints, so that the
		digests are the paper's; everything else is encrypted with AES-256:""")
	show(["attribute", "hashed or encrypted"], [(name, unsealed(rsa, value)) for name, value in record.items()])
	for name, digest in PAPER_DIGESTS.items():
		check(f"the digest of {name} is the paper's", record[name], PAPER_SALT + digest)
	say("Table 8. What is encrypted is sealed with RSA-2048, each attribute by itself (shortened):")
	show(["attribute", "sealed"], [(name, f"iv {value['iv']}  value {value['value'][:32]}...")
								   for name, value in record.items() if isinstance(value, dict)])
	opened = json.loads(demo.query("dr_salma", "records",
		f"SELECT apm_deanonymize(convert_to({quote(sealed)}, 'UTF8'), 'treatment')")[0][0])
	check("Method 2 gives back what Method 1 was given",
		  {name: str(value) for name, value in opened.items()},
		  {name: str(value) for name, value in {**AHMED_NAME, **AHMED_ATTRIBUTES, **FEVER}.items()})
	demo.setting("apm.allow_paper_profile", "off")


def our_stations(demo):
	title("The same record on apm's way")
	hospital = demo.hospital
	say("""The workers are stopped for this chapter, and each does one turn when it is its turn. The doctor stores the
		record with plain SQL:""")
	statement(f"INSERT INTO apm.patient_record (pid, record)\n  VALUES ('{AHMED}', '{json.dumps(FEVER)}');")
	demo.stop_workers()
	hospital.run(f"INSERT INTO apm.patient_record (pid, record) VALUES ({quote(AHMED)}, {quote(FEVER)});",
				 role="dr_salma")
	demo.rid = hospital.value("SELECT rid FROM apm.submission")
	say("COMMIT is answered: from here on the record cannot be lost. It stands in the queue, sealed for the network server:")
	show(["queue", "value"], hospital.run(f"""
		SELECT v.* FROM apm.queue AS q JOIN apm.submission AS s USING (tid), LATERAL (VALUES
			('Rid', s.rid::text), ('Tid', q.tid::text),
			('aPR, sealed: PKE for PK_NS, PK_APM', {short('q.sealed')})) AS v"""))
	check("the queue holds one row", demo.depth("queue"), 1)

	hospital.run("SELECT apm_run_network_server();")
	say("The network server has opened it and filled the transaction template. PT = PKE([Tid, aPR], PK_PB), in the pool:")
	show(["pool", "value"], hospital.run(f"""
		SELECT v.* FROM apm.pool, LATERAL (VALUES ('Tid', tid::text), ('PT', {short('pt')})) AS v"""))
	check("the pool holds one row", demo.depth("pool"), 1)

	height = int(hospital.value("SELECT height FROM apm.tip"))
	hospital.run("SELECT apm_run_miner();")
	say("The contract has judged it, and the block that holds it is mined, signed and appended:")
	show(["block", "value"], hospital.run(f"""
		SELECT v.* FROM apm.block AS b, LATERAL (VALUES
			('height', b.height::text),
			('hash', encode(b.hash, 'hex')),
			('previous', encode(substr(b.header, 43, 32), 'hex')),
			('Merkle root', encode(substr(b.header, 75, 32), 'hex')),
			('difficulty', ('x' || encode(substr(b.header, 183, 4), 'hex'))::bit(32)::int || ' bits'),
			('nonce', encode(substr(b.header, 219, 8), 'hex')),
			('signature', {short("b.signature")})) AS v WHERE b.height = {height + 1}"""))
	say("FT, what became of each transaction of the block, sealed for the network server:")
	show(["block", "FT"], hospital.run(f"SELECT height, {short('sealed')} FROM apm.final_queue"))
	check("one block was made", int(hospital.value("SELECT height FROM apm.tip")), height + 1)

	hospital.run("SELECT apm_run_network_server();")
	say("The validator has opened the FT: VR is true (rule 0), and the aPR goes to the outbox, sealed for the APM alone.")
	show(["Tid", "rule", "block", "position"], hospital.run(
		f"SELECT tid, rule, height, position FROM apm.final_transaction WHERE height = {height + 1}"))
	check("the outbox holds one row", demo.depth("outbox"), 1)

	hospital.run("SELECT apm_run_cloud_sync();")
	say("The cloud's operator looks at his table. This is all that he has:")
	show(["column", "value"], demo.cloud.run(f"""
		SELECT v.* FROM health_record, LATERAL (VALUES
			('rid', rid::text), ('apid', apid), ('apr', {short('apr')})) AS v"""))
	demo.records += 1
	check("the cloud holds one row", demo.cloud.value("SELECT count(*) FROM health_record"), "1")
	for word in ("Ahmed", "Fever", AHMED):
		check(f"the cloud's row does not contain {word}",
			  demo.cloud.value(f"SELECT position({quote(word)}::bytea IN apr) FROM health_record"), "0")
	say("And what the hospital's operator sees when he asks where the record is:")
	show(["station", "time", "detail"], hospital.run(
		f"SELECT station, to_char(at, 'HH24:MI:SS.MS'), detail FROM apm_trace({quote(demo.rid)})"))
	demo.start_workers()
