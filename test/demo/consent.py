"""Who may read: policy, a patient's word, and an emergency."""

from hospital import AHMED
from servers import quote
from telling import answer, check, say, show, statement, title

FETCH = f"SELECT rid FROM apm_fetch({quote(AHMED)}, 'treatment')"
NOTE = "brought in by ambulance, nobody with him"


def withdrawal(demo):
	title("A patient withdraws")
	say("""Who may read is decided by the contract, which is on the chain. An administrator changes a policy with a transaction,
		and it is in force when its block is final; this one lets emergencies read also who withdrew:""")
	demo.enter("chief", "SELECT apm_set_policy('emergency', 'always');")
	show(["policy", "value", "since block"], demo.hospital.run("""
		SELECT name, detail, coalesce(since::text, 'default') FROM apm.contract
		WHERE item = 'policy' AND name IN ('access', 'emergency', 'export') ORDER BY name""", role="auditor"))

	say("By the policy `access` a clinician reads, as long as the patient does not object. Dr Salma asks, and gets:")
	outcome = demo.attempt("dr_salma", "records", FETCH)
	answer(outcome)
	check("a clinician reads", outcome, [[demo.rid]])
	say("Ahmed withdraws; the registrar enters it. Dr Salma asks again:")
	demo.enter("registrar", f"SELECT apm_revoke_access({quote(AHMED)});")
	outcome = demo.attempt("dr_salma", "records", FETCH)
	answer(outcome)
	check("after the withdrawal she is refused, by the rule of consent", getattr(outcome, "rule", ""), "consent")

	say("""The way back is a later grant, here to a ward, which is a role of the database like any other. Dr Nadia belongs to it,
		Dr Salma does not:""")
	demo.enter("registrar", f"SELECT apm_grant_access({quote(AHMED)}, 'cardiology');")
	nadia = demo.attempt("dr_nadia", "records", FETCH)
	salma = demo.attempt("dr_salma", "records", FETCH)
	show(["who", "answer"], [("dr_nadia", f"{len(nadia)} row" if isinstance(nadia, list) else nadia.message),
							 ("dr_salma", getattr(salma, "message", "rows"))])
	check("who belongs to the ward reads", nadia, [[demo.rid]])
	check("who does not is still refused", getattr(salma, "rule", ""), "consent")


def emergency(demo):
	title("An emergency")
	say("""At night Ahmed is brought in unconscious, and only Dr Salma is there. She breaks the glass, and reads without being
		allowed to:""")
	call = f"SELECT rid, record FROM apm_break_glass({quote(AHMED)}, 'unconscious', {quote(NOTE)})"
	statement(call + ";")
	rows = demo.query("dr_salma", "emergency", call)
	show(["rid", "record"], rows)
	check("an emergency is answered", [row[0] for row in rows], [demo.rid])

	say("""Reason and reader are on the chain, the note is sealed and its digest on the chain. The emergency stands on a list until
		somebody else has looked at it. The auditor does:""")
	rows = demo.hospital.run("SELECT tid, acting, reason, height FROM apm.break_glass_review", role="auditor")
	show(["Tid", "who", "reason", "block"], rows)
	check("one emergency is to be reviewed", [row[1:3] for row in rows], [["dr_salma", "unconscious"]])
	tid = rows[0][0]
	note = demo.query("auditor", "note", f"SELECT apm_break_glass_note({quote(tid)})")
	show(["note"], note)
	check("the note is the one she wrote", note, [[NOTE]])
	demo.enter("auditor", f"SELECT apm_review_break_glass({quote(tid)}, justified => true);")
	check("none is left to be reviewed", demo.hospital.run("SELECT tid FROM apm.break_glass_review", role="auditor"), [])
	say("The finding is on the chain, beside what the registrar entered. No column says which patient:")
	rows = demo.hospital.run("""SELECT action,
		CASE action WHEN 'review' THEN '' ELSE coalesce(grantee, 'everybody') END, acting, coalesce(justified::text, ''), height
		FROM apm.consent_log ORDER BY height""", role="auditor")
	show(["action", "from or to", "entered by", "justified", "block"], rows)
	check("the log has all three", [row[0] for row in rows], ["revoke", "grant", "review"])
