"""Reading, what is refused, and a cloud that lies."""

import json

from hospital import AHMED
from servers import quote, wait_for
from stations import AHMED_ATTRIBUTES, AHMED_NAME, FEVER
from telling import answer, check, say, show, sqlstate, statement, title

FETCH = f"SELECT rid, record FROM apm_fetch({quote(AHMED)}, 'treatment')"


def queries(demo):
	return int(demo.hospital.value("SELECT count(*) FROM apm.final_transaction WHERE kind = 3"))


def read_back(demo):
	title("A doctor reads")
	say("Dr Salma asks for the paper's patient, and opens the answer as the second iPR: his profile and the record in one.")
	rows = demo.query("dr_salma", "records", FETCH)
	show(["rid", "record"], rows)
	check("one record comes back", [row[0] for row in rows], [demo.rid])
	check("the record is what was put in", json.loads(rows[0][1]), {**AHMED_NAME, **AHMED_ATTRIBUTES, **FEVER})

	say("She reads again, inside a transaction that she takes back afterwards:")
	before = queries(demo)
	rows = demo.query("dr_salma", "records", f"BEGIN; {FETCH}; ROLLBACK;")
	check("the read inside the transaction answers", len(rows), 1)
	statement("BEGIN;\nSELECT * FROM apm_fetch(...);      -- 1 row\nROLLBACK;")
	say("The query is on the ledger all the same, written by the network server in a transaction of its own:")
	wait_for("the query's final transaction", lambda: queries(demo) > before)
	show(["block", "Tid", "kind", "who, resolved by the hospital alone"], demo.hospital.run("""
		SELECT f.height, f.tid, 'query', s.acting
		FROM apm.final_transaction AS f JOIN apm.body AS b USING (tid)
			JOIN apm.staff AS s ON s.pseudonym = substr(b.transaction, 76, 16)
		WHERE f.kind = 3 ORDER BY f.height DESC, f.position DESC LIMIT 2"""))
	check("one more query on the ledger", queries(demo), before + 1)


def refused(demo):
	title("What is refused")
	say("Reception has a login, and no role of apm's:")
	outcome = demo.hospital.attempt(FETCH, "reception")
	answer(outcome)
	check("an outsider is turned away", sqlstate(outcome), "42501")

	say("Dr Salma asks for a patient whom nobody registered. The chain refuses, and her question is on it:")
	outcome = demo.hospital.attempt("SELECT * FROM apm_fetch('NOBODY', 'treatment')", "dr_salma")
	demo.note_queries(1, refused=1)
	answer(outcome)
	check("the query is refused by the contract", sqlstate(outcome), "AP001")

	say("""She enters a correction, and by mistake it names a record of another patient. The database takes it; the contract,
		which alone knows whose record that is, does not:""")
	demo.hospital.run(f"""SELECT apm_submit('VISITOR-001', '{{"Disease": "Cold"}}', amends => {quote(demo.rid)})""",
					  role="dr_salma")
	wait_for("the refusal", lambda: demo.depth("refused") == 2)
	demo.wait_until_quiet()
	demo.refusals += 1
	rows = demo.hospital.run("SELECT kind, rule, meaning, height FROM apm.refused ORDER BY height")
	show(["kind", "rule", "reason", "block"], rows)
	check("what was refused, and why", [row[:2] for row in rows], [["query", "patient"], ["primary", "amends"]])
	say("Both left a leaf in their blocks; of the record there is no body. What was to be amended stands as it was.")
	check("a refused record leaves a leaf and no body", demo.hospital.run("""
		SELECT count(*), count(b.tid) FROM apm.leaf AS l LEFT JOIN apm.body AS b USING (tid)
		WHERE l.rule <> 0 AND l.kind = 2"""), [["1", "0"]])


def tampered(demo):
	title("The cloud changes one row behind our back")
	say("One byte of the paper's record is changed in the cloud's own table:")
	change = f"UPDATE health_record SET apr = set_byte(apr, 400, get_byte(apr, 400) # 1) WHERE rid = {quote(demo.rid)};"
	statement(change)
	demo.cloud.run(change)
	outcome = demo.attempt("dr_salma", "records", FETCH)
	say("The next read:")
	answer(outcome)
	check("the altered record is refused", sqlstate(outcome) in ("AP004", "AP005"), True)
	demo.cloud.run(change)
	say("The byte is put back, and the record opens again.")
	check("the record reads again", len(demo.query("dr_salma", "records", FETCH)), 1)
