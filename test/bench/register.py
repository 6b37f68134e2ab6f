"""S9: registrations from parallel sessions against bcrypt on all cores.

A registration makes two pseudonyms, the patient's and his identity's, and is written, sealed, sent, judged and mined: all of
that is to take no more than a twentieth of what the two bcrypts take.
"""

import os

from measuring import alternate, hospital, line, pgbench, scaled, wait_until_quiet, yardstick

ROUNDS_OF_BCRYPT = 12			# the default of apm.salting_rounds
BCRYPTS = 2						# a registration
CORES = os.cpu_count()
SESSIONS = 2 * CORES			# some wait for the disk or the chain while others compute
EACH = scaled(8)				# registrations a session and round
SCRIPT = """SELECT apm_register_patient(gen_random_uuid()::text, '{"Firstname": "Ahmed", "Lastname": "Ali"}');\n"""


def run(root):
	server = hospital(root, {"apm.salting_rounds": str(ROUNDS_OF_BCRYPT)})

	def registrations():
		each_second = pgbench(server, SCRIPT, SESSIONS, "-t", str(EACH), role="clerk")
		wait_until_quiet(server)
		return each_second * BCRYPTS

	try:
		ours, theirs = alternate(registrations, lambda: float(yardstick("register", SESSIONS, ROUNDS_OF_BCRYPT, EACH * BCRYPTS)))
	finally:
		server.stop()
	return {
		"what": "Registration of patients, each in a transaction of its own",
		"settings": {"apm.salting_rounds": ROUNDS_OF_BCRYPT, "sessions": SESSIONS, "registrations a round": SESSIONS * EACH,
					 "bcrypts a registration": BCRYPTS},
		"lines": [line("S9", "registration, bcrypts of parallel sessions", "bcrypts/s", ours, theirs,
					   "crypt_rn in as many processes", at_least=0.95)],
	}
