#!/usr/bin/python3
"""
Verifies what apm lets out, without apm: written from doc/format.md alone.

    apm_verifier.py ledger FILE [--digest FILE]
    apm_verifier.py proof FILE --digest FILE
    apm_verifier.py digest FILE
    apm_verifier.py consistency FILE --old FILE --new FILE

`-` is standard input; a ledger is read twice, so it has to be a file.  One line on
standard output says what was found.  The exit status is 0 if all is good, 1 if a fault
was found, and 2 if it cannot be told: usage, a file that cannot be read, another format.
"""
import argparse
import sys

from verifier.block import read_line
from verifier.coding import Malformed
from verifier.proofs import Consistency, Digest, Fault, Proof
from verifier.replay import Replay, Voids

GOOD, FAULT, CANNOT = 0, 1, 2


def read_text(name):
    if name == "-":
        return sys.stdin.read()
    with open(name, encoding="utf-8") as file:
        return file.read()


def read_digest(name):
    return Digest(read_text(name))


def blocks_of(name):
    with open(name, encoding="ascii") as file:
        for line in file:
            yield read_line(line.rstrip("\n"))


def ledger(args):
    digest = read_digest(args.digest) if args.digest else None
    voids = Voids()
    for block in blocks_of(args.file):
        voids.add(block)
    replay = Replay(voids.done())
    at_digest = None
    for block in blocks_of(args.file):
        finding = replay.check(block)
        if finding:
            raise Fault(describe(finding))
        if digest and block.height == digest.height:
            at_digest = block.hash
    if replay.tip is None:
        raise Malformed("no blocks")
    if digest and at_digest != digest.hash:
        raise Fault("height %d, digest" % digest.height)
    return "chain %s, %d blocks, %d transactions; not judged again: %d refused without a body, %d erased" % (
        replay.tip.header.chain.hex(), replay.next_height, replay.transactions, replay.not_rerun, replay.erased)


def describe(finding):
    position = "" if finding.position is None else ", position %d" % finding.position
    return "height %d%s, %s" % (finding.height, position, finding.check)


def proof(args):
    digest, made = read_digest(args.digest), Proof(read_text(args.file))
    made.check(digest)
    rule = "valid" if made.said["rule"] == 0 else "refused by rule %d" % made.said["rule"]
    return "transaction %s of kind %d, %s, stands at height %d, position %d" % (
        made.signed.tid.hex(), made.signed.kind, rule, made.header.height, made.said["position"])


def digest(args):
    made = read_digest(args.file)
    return "height %d of chain %s, hash %s" % (made.height, made.header.chain.hex(), made.hash.hex())


def consistency(args):
    old, new = read_digest(args.old), read_digest(args.new)
    Consistency(read_text(args.file)).check(old, new)
    return "height %d has grown out of height %d" % (new.height, old.height)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for run, options in ((ledger, {"--digest": False}), (proof, {"--digest": True}), (digest, {}),
                         (consistency, {"--old": True, "--new": True})):
        command = commands.add_parser(run.__name__)
        command.add_argument("file")
        for option, required in options.items():
            command.add_argument(option, required=required)
        command.set_defaults(run=run)
    return parser.parse_args()


def main():
    args = parse_arguments()
    try:
        print("ok: %s" % args.run(args))
        return GOOD
    except Fault as fault:
        print("fault: %s" % fault)
        return FAULT
    except (OSError, UnicodeDecodeError, Malformed) as trouble:
        print("apm_verifier: %s" % trouble, file=sys.stderr)
        return CANNOT


if __name__ == "__main__":
    sys.exit(main())
