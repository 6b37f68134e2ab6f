# A kill -9 at each step of making a block: what was in the pool ends in exactly one block,
# and no operator is needed.  The miner is held at a step by a lock that the next statement
# of it needs, or by a difficulty that keeps it mining.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use List::Util qw(max);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('miner', setup => 0, settings => { restart_after_crash => 'on' });
my $module = "$FindBin::RealBin/../modules/test_chain";
my $patients = 0;

sub sql { return query($node, 'clinic', @_) }

sql(qq(CREATE FUNCTION patient(text, integer DEFAULT 1, integer DEFAULT 2, text DEFAULT NULL) RETURNS uuid
		AS '$module', 'test_pool_patient' LANGUAGE c;));

# A session that holds a lock until it is told, or until the server dies.
sub hold
{
	my ($table) = @_;
	my $session = $node->background_psql('clinic', on_error_stop => 0);

	$session->query_safe("BEGIN; LOCK TABLE apm.$table IN SHARE MODE");
	return $session;
}

# Everything that was put into the pool is in the ledger once, the node mines, nothing is left over.
sub all_is_well
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_for($node, 'clinic', "SELECT count(*) = $patients FROM apm.ledger_patient", "$name: everything is in the ledger");
	wait_for($node, 'clinic', q(SELECT count(*) = 1 FROM apm.status WHERE worker = 'apm miner' AND refusal IS NULL),
		"$name: the node mines");
	is( sql(q(SELECT (SELECT count(*) FROM apm.pool), (SELECT count(*) FROM apm.verdict), (SELECT count(*) FROM apm.candidate),
			(SELECT count(*) FROM (SELECT FROM apm.leaf GROUP BY tid HAVING count(*) > 1) AS twice),
			(SELECT count(*) FROM apm.leaf WHERE rule <> 0))),
		'0|0|0|0|0', "$name: nothing is left over, nothing is there twice");
	is(sql('SELECT ok, fault FROM apm_verify()'), 't|', "$name: the ledger verifies");
	like(sql('SELECT apm_accept_rollback()'), qr/nothing to accept/, "$name: nothing had to be accepted");
	return;
}

sub put
{
	# in one transaction, so that one block takes them all
	sql(join('', 'BEGIN;', (map { $patients++; "SELECT patient('p$patients');" } 1 .. 3), 'COMMIT'));
	return;
}

# Waits until the miner waits for a lock while it does that.
sub wait_until_held
{
	my ($activity) = @_;

	return wait_for($node, 'clinic', qq(SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'apm miner'
		AND wait_event_type = 'Lock' AND query <> '' AND datname = 'clinic'), "held while $activity");
}

sub kill_miner
{
	my $pid = worker_pid($node, 'clinic', 'apm miner');

	kill('KILL', $pid) or die "no miner to kill";
	# the crash takes every session along; wait until the server is up without that process
	ok(poll($node, 'postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"), 'the server is back');
	return;
}

# How often the sign-state was written.
sub serial
{
	my ($file) = grep { !/\.lock$/ } glob(key_directory($node) . '/sign-state-*');
	return max(map { unpack('x2 Q>', substr(slurp_file($file), 4096 * $_)) } 0, 1);
}

sub stop_and_start
{
	$node->stop('immediate');
	$node->start;
	return;
}

sql('SELECT apm_setup(8)');

# --- judged, nothing committed; and before the candidate is committed; and after it was signed
my %steps = (verdict => 'judging', candidate => 'proposing a block', block => 'appending a block');
foreach my $table (qw(verdict candidate block))
{
	foreach my $how (\&kill_miner, \&stop_and_start)
	{
		my $session = hold($table);
		my $name = ($how == \&kill_miner ? 'kill -9' : 'immediate stop') . " while $steps{$table}";
		my $candidate;
		my $written;

		put();
		wait_until_held($steps{$table});
		$written = serial();
		$candidate = sql(q(SELECT encode(hash, 'hex') FROM apm.candidate));
		is($candidate ne '', $table eq 'block', "$name: " . ($table eq 'block' ? 'the' : 'no') . ' candidate is committed');
		$how->();
		eval { $session->quit };
		all_is_well($name);
		is(sql("SELECT count(*) FROM apm.block WHERE hash = decode('$candidate', 'hex')"),
			$table eq 'block' ? 1 : 0, "$name: exactly the signed block was completed");
		is(serial(), $written + 1, "$name: " . ($table eq 'block' ? 'after the sign-state was written once more, for nobody knew if it was on disk' : 'with one sign-state'));
	}
}

# --- the candidate is committed, the sign-state is not written yet
my $keys = key_directory($node);
my ($state) = grep { !/\.lock$/ } glob("$keys/sign-state-*");
chmod(0400, $state) or die $!;
put();
wait_for($node, 'clinic', q(SELECT count(*) > 0 FROM apm.status WHERE worker = 'apm miner' AND errors > 0),
	'the sign-state cannot be written');
$node->stop('immediate');
chmod(0600, $state) or die $!;
$node->start;
all_is_well('stopped between candidate and sign-state');

# --- a block that was appended, killed before anybody heard of it
put();
wait_for($node, 'clinic', "SELECT count(*) = $patients FROM apm.ledger_patient", 'appended');
kill_miner();
all_is_well('killed after a block');

# --- the operator's word waits for the end of a turn, within which ledger and sign-state differ
my $blocker = hold('block');
put();
wait_until_held('appending a block');
fails_with($node, 'clinic', q(SET lock_timeout = '100ms'; SELECT apm_accept_rollback()), '55P03', qr/lock timeout/, 'nothing is accepted in mid-turn');
$blocker->query_safe('COMMIT');
$blocker->quit;
all_is_well('the turn came to its end');
fails_with($node, 'clinic', q(BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT apm_accept_rollback()), '25001', qr/isolation level/,
	'nor under a snapshot that is older than the sign-state may be');

# --- a signed block one of whose transactions is gone is given up by the operator's word
$blocker = hold('block');
put();
wait_until_held('appending a block');
$node->safe_psql('postgres', q(ALTER SYSTEM SET apm.databases = 'nowhere'));
stop_and_start();
eval { $blocker->quit };
sql(q(DELETE FROM apm.pool WHERE seq = (SELECT min(seq) FROM apm.pool)));
set_and_reload($node, 'apm.databases', 'clinic');
wait_for($node, 'clinic', q(SELECT refusal ~ 'written by something other' FROM apm.status WHERE worker = 'apm miner'), 'the pool was written: it refuses');
like(sql('SELECT apm_accept_rollback(give_up => true)'), qr/accepted what was loaded, gave up what was signed up to height \d+, wrote a new sign-state/, 'a block that cannot be completed is given up');
sql("SELECT patient('p" . ($patients - 2) . "')");    # the one that is gone
all_is_well('what is left of it is mined');

# --- the machine stopped while the sign-state was being written: one of its pages is not whole
my $whole = slurp_file($state);
my $newest = (sort { substr($whole, $b * 4096 + 2, 8) cmp substr($whole, $a * 4096 + 2, 8) } 0, 1)[0];
$blocker = hold('candidate');
put();
wait_until_held('proposing a block');
$node->stop('immediate');
eval { $blocker->quit };
{
	# the page that would be written next
	open(my $file, '+<:raw', $state) or die $!;
	seek($file, (1 - $newest) * 4096, 0) or die $!;
	print $file ("\xff" x 100) or die $!;
	close($file) or die $!;
}
$node->start;
all_is_well('torn sign-state');

# --- the sign-state is changed behind the miner's back while it makes a block
my $saved = slurp_file($state);
$blocker = hold('candidate');
put();
wait_until_held('proposing a block');
unlink(glob("$keys/sign-state-*")) == 2 or die $!;
$blocker->query_safe('COMMIT');
$blocker->quit;
wait_for($node, 'clinic', q(SELECT refusal ~ 'missing or not to be read' FROM apm.status WHERE worker = 'apm miner'),
	'a sign-state that has gone meanwhile is not written over');
ok(!-e $state, 'nothing was signed');
append_to_file($state, $saved);
chmod(0600, $state) or die $!;
sql('SELECT apm_run_miner()');
all_is_well('the sign-state is back');

# --- the sign-state cannot be written for a while
chmod(0400, $state) or die $!;
put();
wait_for($node, 'clinic', q(SELECT last_error_code IS NOT NULL AND (SELECT count(*) = 1 FROM apm.candidate) FROM apm.status WHERE worker = 'apm miner'),
	'the new sign-state cannot be written: an error, and the block is not signed');
chmod(0600, $state) or die $!;
all_is_well('it can be written again');

# --- while mining
$node->safe_psql('postgres', 'CREATE DATABASE slow');
set_and_reload($node, 'apm.databases', 'clinic, slow');
$node->safe_psql('slow', 'CREATE EXTENSION apm CASCADE');
$node->safe_psql('slow', qq(SELECT apm_setup(20);
	CREATE FUNCTION patient(text, integer DEFAULT 1, integer DEFAULT 2, text DEFAULT NULL) RETURNS uuid
		AS '$module', 'test_pool_patient' LANGUAGE c;));
my $caught = 0;
for my $try (1 .. 20)
{
	$node->safe_psql('slow', "SELECT patient('s$try')");
	# a block takes some tenths of a second: most of the time the miner is seen at it
	if (poll($node, 'slow', qq(SELECT count(*) > 0 OR (SELECT count(*) = $try FROM apm.ledger_patient)
		FROM pg_stat_activity WHERE backend_type = 'apm miner' AND datname = 'slow' AND query = 'mining')))
	{
		my $pid = $node->safe_psql('slow', q(SELECT pid FROM pg_stat_activity
			WHERE backend_type = 'apm miner' AND datname = 'slow' AND query = 'mining'));
		next if $pid eq '';
		kill('KILL', $pid);
		poll($node, 'postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid");
		$caught++;
	}
	wait_for($node, 'slow', "SELECT count(*) = $try FROM apm.ledger_patient", "mined once more ($try)");
	last if $caught == 2;
}
is($caught, 2, 'the miner was killed while it mined');
is($node->safe_psql('slow', 'SELECT ok, fault FROM apm_verify()'), 't|', 'and the ledger verifies');
all_is_well('the other database all the while');

# --- poison does not block
sql(q(SELECT patient('x', 1, 2, s) FROM unnest(ARRAY['garbage', 'envelope', 'tid']) AS s));
put();
wait_for($node, 'clinic', q(SELECT count(*) = 3 FROM apm.quarantine WHERE stage = 'pool' AND reason <> ''), 'poison goes to the quarantine');
all_is_well('the others went on');

# --- nor does a row on which judging fails: with others around it, it is found and put aside
sql(q(CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN RAISE EXCEPTION 'a planted fault' USING ERRCODE = 'data_corrupted'; END $$));
foreach my $readable (1, 0)
{
	my $session = hold('verdict');
	my $name = $readable ? 'a row that fails' : 'a row whose content cannot even be kept';
	my $tid;

	put();
	$tid = sql(q(SELECT patient('bad')));
	put();
	$session->query_safe("CREATE TRIGGER z BEFORE INSERT ON apm.verdict FOR EACH ROW WHEN (NEW.tid = '$tid')"
		. ' EXECUTE FUNCTION fails()');
	$session->query_safe("CREATE TRIGGER z BEFORE INSERT ON apm.quarantine FOR EACH ROW WHEN (NEW.content <> '')"
		. ' EXECUTE FUNCTION fails()') unless $readable;
	$session->query_safe('COMMIT');
	$session->quit;
	wait_for($node, 'clinic', "SELECT (content <> '') = ($readable = 1) FROM apm.quarantine WHERE stage = 'pool' AND tid = '$tid'",
		"$name is put aside");
	all_is_well("$name: the others went on");
	sql('DROP TRIGGER z ON apm.verdict; DROP TRIGGER IF EXISTS z ON apm.quarantine');
}

done_testing();
