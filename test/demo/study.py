"""A dataset that leaves the house, and what the patient can be told in the end."""

import json
import os
import subprocess

from hospital import AHMED
from servers import quote
from telling import check, say, show, statement, title
from visits import INFLUENZA, PATIENTS


def release(demo, study, arguments, asked):
	"""
	Exports for a study into a file, as psql writes it.  Its rows, and what sha256sum says of it.

	So many patients are asked for, Ahmed among them, who has withdrawn.
	"""
	path = os.path.join(demo.hospital.socket, study + ".jsonl")
	demo.hospital.save(f"SELECT * FROM apm_export({quote(study)}{arguments});", "scholar", path)
	demo.note("scholar", "export", "consent")
	demo.note_queries(asked - 1)
	with open(path, encoding="utf-8") as file:
		rows = [json.loads(line) for line in file]
	digest = subprocess.run(["sha256sum", path], check=True, capture_output=True, text=True).stdout.split()[0]
	statement(f"SELECT * FROM apm_export({quote(study)}{arguments});")
	say(f"{len(rows)} rows, of which the first are:")
	show(["patient", "period", "attributes"],
		 [(row["patient"], row["period"], json.dumps(row["attributes"])) for row in rows[:3]])
	return rows, digest


def dataset(demo):
	title("A dataset for a study")
	say("""A researcher exports what was declared exportable. The contract decides patient by patient; who is left has
		another pseudonym than in the hospital, and a month in place of a time:""")
	of_others = int(demo.hospital.value(f"""SELECT count(*) FROM apm.ledger_record
		WHERE apid <> (SELECT apid FROM apm.ledger_record WHERE rid = {quote(demo.rid)})"""))
	visits, digest = release(demo, "visits-2021", "", PATIENTS + 1)
	check("the dataset has every record but those of Ahmed, who withdrew", len(visits), of_others)

	say("A second study, with a selection:")
	influenza, second = release(
		demo, "influenza", f""", ARRAY['Disease', 'Age'], '{{"Disease": "{INFLUENZA}"}}', 'year'""", len(demo.influenza) + 1)
	demo.note_queries(1)		# the search
	check("the second study has those who had it", len({row["patient"] for row in influenza}), len(demo.influenza))
	shared = {row["patient"] for row in visits} & {row["patient"] for row in influenza}
	check("the two studies share no pseudonym", shared, set())
	say(f"Pseudonyms that are in both files: {len(shared)}. The chain knows both releases, and sha256sum confirms the files:")
	rows = demo.hospital.run("""SELECT study, release, rows, acting, height, digest
		FROM apm.export_release ORDER BY height""", role="scholar")
	found = {"visits-2021": digest, "influenza": second}
	show(["study", "release", "rows", "by", "block", "digest on the chain", "sha256sum"],
		 [(*row[:5], row[5][:16] + "...", found[row[0]][:16] + "...") for row in rows])
	check("sha256sum says what the chain says", {row[0]: row[5] for row in rows}, found)


def history(demo):
	title("What the patient can be told")
	say("Everybody who asked for Ahmed in this story, allowed or not, to this very question, with the block that proves it:")
	rows = demo.query("auditor", "history", f"""
		SELECT h.acting, h.access, h.rule, h.purpose, h.study, h.height, h.leaf, h.block
		FROM apm_access_history({quote(AHMED)}, 'audit') AS h""")
	show(["who", "access", "purpose", "answer", "study", "block", "its hash"],
		 [(who, access, purpose, "refused: " + rule if rule else "allowed", study, height, block[:16] + "...")
		  for who, access, rule, purpose, study, height, _, block in rows])
	check("the history is what happened, in its order", [row[:3] for row in rows], demo.accesses)
	blocks = {tuple(row) for row in demo.hospital.run("SELECT height, leaf, block FROM apm.ledger", role="auditor")}
	check("each row's leaf stands in its block", [row for row in rows if tuple(row[5:]) not in blocks], [])
