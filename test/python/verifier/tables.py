"""
What a replay remembers, in tables that can forget.

Verdicts of one block are tried on the state itself; where a finding ends the try, or the
try was one of many alterations, undo() takes the state back to the mark.  Cheaper than a
copy: an alteration costs what it changes.
"""

MISSING = object()


class Tables:
    """Dictionaries and lists whose changes are written down."""

    def __init__(self):
        self.log = []

    def put(self, table, key, value):
        self.log.append((table, key, table.get(key, MISSING)))
        table[key] = value

    def drop(self, table, key):
        self.log.append((table, key, table.pop(key)))

    def append(self, table, key, value):
        """Adds to a list that a table has under a key."""
        if key not in table:
            self.put(table, key, [])
        table[key].append(value)
        self.log.append((table[key], None, MISSING))

    def mark(self):
        return len(self.log)

    def undo(self, mark):
        while len(self.log) > mark:
            table, key, old = self.log.pop()
            if isinstance(table, list):
                table.pop()
            elif old is MISSING:
                del table[key]
            else:
                table[key] = old

    def keep(self):
        """What was tried is so: nothing of it can be undone any more."""
        self.log.clear()
