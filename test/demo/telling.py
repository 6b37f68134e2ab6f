"""Sentences, small tables, and checks that are counted."""

import textwrap

WIDTH = 100

failures = []
checks = 0
empty = False		# was the last line


def put(line=""):
	"""A line; of several empty ones, one."""
	global empty
	if line or not empty:
		print(line, flush=True)
	empty = not line


def title(text):
	put()
	put(f"== {text} " + "=" * max(0, WIDTH - len(text) - 4))
	put()


def say(text):
	"""A paragraph, however it is broken in the source."""
	put(textwrap.fill(" ".join(text.split()), WIDTH))


def statement(text):
	"""SQL as somebody types it."""
	put()
	put(textwrap.indent(textwrap.dedent(text).strip(), "  "))
	put()


def show(columns, rows):
	"""A small table; what does not fit into its column goes on below."""
	cells = [[textwrap.wrap(str(c), 68) or [""] for c in row] for row in rows]
	widths = [max([len(name)] + [len(line) for row in cells for line in row[i]])
			  for i, name in enumerate(columns)]
	put()
	put("  " + " | ".join(n.ljust(w) for n, w in zip(columns, widths)).rstrip())
	put("  " + "-+-".join("-" * w for w in widths))
	for row in cells:
		for k in range(max(len(c) for c in row)):
			put("  " + " | ".join((c[k] if k < len(c) else "").ljust(w) for c, w in zip(row, widths)).rstrip())
	put()


def answer(outcome):
	"""What somebody got: the error, or how many rows."""
	if isinstance(outcome, list):
		show(["answer"], [(f"{len(outcome)} row" + "s" * (len(outcome) != 1),)])
	else:
		show(["SQLSTATE", "answer"], [(outcome.sqlstate, outcome.message)])


def sqlstate(outcome):
	"""That of an error, or none."""
	return getattr(outcome, "sqlstate", "none")


def check(what, found, wanted):
	global checks
	checks += 1
	if found != wanted:
		failures.append(f"{what}: {found!r}, and it must be {wanted!r}")
		put(f"  NOT SO: {failures[-1]}")
