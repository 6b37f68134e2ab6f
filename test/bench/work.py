"""S8: the proof of work of one core against SHA256_Transform() with the midstate kept."""

from measuring import alternate, line, scaled, yardstick

TRIES = scaled(20_000_000)


def run(_root):
	ours, transform = alternate(*(lambda side=side: float(yardstick("work", side, TRIES)) for side in ("ours", "transform")))
	return {
		"what": "The search for a nonce, as the miner calls it",
		"settings": {"tries a round": TRIES, "time": "processor time of the process"},
		"lines": [line("S8", "proof of work, one core", "tries/s", ours, transform, "SHA256_Transform with kept midstate",
					   at_least=0.95, aim=1.5)],
	}
