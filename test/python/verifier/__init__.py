"""
The second implementation of doc/format.md.

Nothing here was written from the C code: whoever has only the document can write the
same.  That is the purpose.  Where the two implementations agree on every alteration of a
ledger, the document says what the ledger is, and neither hides a mistake of the other.

coding       the rules of the encoding: a reader that refuses what has two readings
digests      SHA-256, Merkle trees, leaf, block hash, Tid
keys         P-256 keys and signatures
fields       public fields of a transaction and of a template
predicate    what a rule of the chain says must hold
items        items of the contract
transaction  the eight kinds, origin proof, signed transaction
tables       what a replay remembers, and how it forgets what it tried
contract     policies, lists, templates, rules, members: what is in force
history      patients, records, consents, queries: what was before
rules        the verdict
block        header and rows, as stored, and what can be asked of them alone
replay       a whole exported ledger in two passes
proofs       digest, proof of a transaction, proof of consistency
sealed       envelope, inner record, profile, wrapped key: with the keys
"""
