# apm_verify() by several backends answers what it answers by one: of a good ledger the same counts, of a
# damaged one the same first fault, whoever's block it is in.  force_parallel_mode makes it share out a
# ledger that is small.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTamper;
use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('sharer', setup => 0, settings => { log_min_messages => 'debug1' });
my $module = "$FindBin::RealBin/../modules/test_chain";
my $together = 'SET force_parallel_mode = on;';
my $alone = 'SET max_parallel_maintenance_workers = 0;';

sub sql { return query($node, 'clinic', @_) }

# Counts of what the log says from there on.
sub logged
{
	my ($from, $what) = @_;
	my @times = slurp_file($node->logfile, $from) =~ /$what/g;
	return scalar(@times);
}

sub log_end { return -s $node->logfile }

my $worker = qr/starting background worker process "parallel worker for PID/;
my $gave_up = qr/the ledger did not verify in parallel/;

# Thirteen blocks: a patient who changes from block to block, records of his, one that amends, a change of the contract.
sql(qq(
	CREATE FUNCTION patient(text, integer DEFAULT 1, integer DEFAULT 2, text DEFAULT NULL) RETURNS uuid
		AS '$module', 'test_pool_patient' LANGUAGE c;
	CREATE FUNCTION record(text, uuid, uuid DEFAULT NULL, bytea DEFAULT '\\x01', integer DEFAULT 4, text DEFAULT NULL)
		RETURNS uuid AS '$module', 'test_pool_primary' LANGUAGE c;
	SELECT apm_setup(8);));

my $blocks = 0;

sub mine
{
	my ($call, $role) = @_;

	sql(($role ? "SET ROLE $role;" : '') . "SELECT $call");
	$blocks++;
	poll($node, 'clinic', "SELECT max(height) = $blocks FROM apm.block") or BAIL_OUT("no block $blocks");
	return;
}

sub rid { return sprintf('00000000-0000-7000-8000-%012d', $_[0]) }

mine(q(patient('p1'), patient('p2'), patient('p3')));
foreach my $version (2 .. 9)
{
	mine(sprintf(q(patient('p1', %d), record('p1', '%s'), record('p2', '%s')), $version, rid(2 * $version), rid(2 * $version + 1)));
}
mine(sprintf(q(record('p1', '%s', '%s'), record('p9', '%s')), rid(100), rid(4), rid(101)));
sql('CREATE ROLE officer IN ROLE apm_admin');
mine(q(apm_add_purpose('teaching')), 'officer');
mine(sprintf(q(record('p3', '%s')), rid(102)));
mine(q(patient('p1', 10)));

# --- the same answer
my $log = log_end();
my $good = sql('SELECT * FROM apm_verify()');
like($good, qr/^t\|.*\|1\|0$/, 'the ledger verifies');
is(logged($log, $worker), 0, 'a short one by one backend');
foreach my $part ('', '0, 5', '4, 9', '12, NULL', 'NULL, NULL, true')
{
	my $one = sql("$alone SELECT * FROM apm_verify($part)");

	$log = log_end();
	is(sql("$together SELECT * FROM apm_verify($part)"), $one, "apm_verify($part) by several answers the same");
	cmp_ok(logged($log, $worker), '>=', 1, 'and it was several');
	is(logged($log, $gave_up), 0, 'who did not have to leave it to one');
}
foreach my $i (1 .. 20)
{
	is(sql("$together SELECT * FROM apm_verify()"), $good, "whoever claims what ($i)");
}
is(logged($log, $gave_up), 0, 'and a patient who changed in a block of another is known as he is');
is(sql("$together SELECT ok FROM apm_verify((SELECT apm_digest()))"), 't', 'a digest is looked for by all of them');
is(sql("BEGIN ISOLATION LEVEL SERIALIZABLE; $together SELECT * FROM apm_verify(); COMMIT"), $good, 'in a serializable transaction, too');
is(sql("$together $alone SELECT * FROM apm_verify()"), $good, 'where no workers are allowed it goes without');

# --- in a worker no operator of the caller's stands before PostgreSQL's own
sql(q(CREATE SCHEMA planted; GRANT USAGE ON SCHEMA planted TO PUBLIC;
	CREATE FUNCTION planted.same(bytea, bytea) RETURNS boolean LANGUAGE plpgsql
		AS $$ BEGIN RAISE LOG 'an operator that was planted'; RETURN $1 OPERATOR(pg_catalog.=) $2; END $$;
	CREATE OPERATOR planted.= (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = planted.same)));
$log = log_end();
is(sql("SET search_path = planted, pg_catalog, public; $together SELECT * FROM apm_verify()"), $good, 'with an operator of the caller');
is(logged($log, qr/LOG:  an operator that was planted/), 0, 'which nobody called');
cmp_ok(logged($log, $worker), '>=', 1, 'though workers were asked');
sql(q(DROP SCHEMA planted CASCADE));

# --- the same first fault, wherever it is
my $off = guards_off();

sub found
{
	my ($how, $change) = @_;
	return sql("BEGIN; $off $change; $how SELECT * FROM apm_verify(); ROLLBACK");
}

my %changes = (
	'header' => 'UPDATE apm.block SET header = ' . flip('header', 150) . ' WHERE height = %d',
	'signature' => 'UPDATE apm.block SET signature = ' . flip('signature', 9) . ' WHERE height = %d',
	'block' => 'DELETE FROM apm.block WHERE height = %d',
	'leaf' => 'UPDATE apm.leaf SET leaf = ' . flip('leaf', 3)
	  . ' WHERE position = 0 AND block = (SELECT hash FROM apm.block WHERE height = %d)',
	'body' => 'DELETE FROM apm.body WHERE tid IN (SELECT l.tid FROM apm.leaf AS l JOIN apm.block AS b ON b.hash = l.block'
	  . ' WHERE b.height = %d)',
	'unreadable row' => q(ALTER TABLE apm.leaf DROP CONSTRAINT leaf_leaf; UPDATE apm.leaf SET leaf = '\x01')
	  . ' WHERE position = 0 AND block = (SELECT hash FROM apm.block WHERE height = %d)');

foreach my $what (sort keys %changes)
{
	foreach my $height (0 .. $blocks)
	{
		my $change = sprintf($changes{$what}, $height);
		my $one = found($alone, $change);

		like($one, qr/^f\|/, "$what at height $height: a fault");
		is(found($together, $change), $one, '... by several the same one');
	}
}
my $both = sprintf($changes{body}, 3) . ';' . sprintf($changes{body}, $blocks);
like(found($together, $both), qr/^f\|3\|/, 'of two faults the first');
foreach my $derived ('DELETE FROM apm.ledger_record WHERE height = 7 AND position = 1',
	q(INSERT INTO apm.ledger_record (rid, apid, tid, height, position, leaf)
		SELECT gen_random_uuid(), apid, tid, height, position, leaf FROM apm.ledger_record LIMIT 1),
	'UPDATE apm.tip SET height = height + 1')
{
	my $one = found($alone, $derived);

	like($one, qr/^f\|/, 'a fault in what was derived');
	is(found($together, $derived), $one, '... by several the same one');
}
is(sql("$together SELECT * FROM apm_verify()"), $good, 'and afterwards all is well');

$node->stop;
done_testing();
