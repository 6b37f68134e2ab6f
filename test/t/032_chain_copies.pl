# A ledger that is not the one that was signed: restored, dumped and loaded, cloned, set
# back, or with its sign-state lost.  The node refuses to mine and says why, the ledger
# still verifies, and apm_accept_rollback() is all it takes where going on is right.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use File::Copy;
use File::Path qw(rmtree);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::RecursiveCopy;
use PostgreSQL::Test::Utils;
use Test::More;

my $module = "$FindBin::RealBin/../modules/test_chain";
my $patient_sql = qq(CREATE FUNCTION public.patient(text, integer DEFAULT 1, integer DEFAULT 2, text DEFAULT NULL) RETURNS uuid
	AS '$module', 'test_pool_patient' LANGUAGE c);
my $serial = 0;

my $node = apm_node('original', setup => 0, settings => { restart_after_crash => 'on' });
my $keys = key_directory($node);
$node->safe_psql('clinic', 'SELECT apm_setup(8)');
$node->safe_psql('clinic', $patient_sql);

# One more block.
sub mines
{
	my ($node, $database, $name) = @_;
	my $apid = 'p' . ++$serial;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql($database, "SELECT patient('$apid')");
	wait_for($node, $database, "SELECT count(*) = 1 FROM apm.ledger_patient WHERE apid = '$apid'", "$name: the node mines");
	is($node->safe_psql($database, 'SELECT ok, fault FROM apm_verify()'), 't|', "$name: the ledger verifies");
	return;
}

# The node says why it refuses, and leaves the pool alone.
sub refuses
{
	my ($node, $database, $why, $name) = @_;
	my $apid = 'r' . ++$serial;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql($database, "SELECT patient('$apid')");
	wait_for($node, $database, "SELECT refusal ~ '$why' FROM apm.status WHERE worker = 'apm miner'", "$name: the node says why");
	# a turn that was asked for and has come to its end
	$node->safe_psql($database, 'SELECT apm_run_miner()');
	is($node->safe_psql($database, "SELECT (SELECT count(*) FROM apm.ledger_patient WHERE apid = '$apid'), count(*) > 0 FROM apm.pool"),
		'0|t', "$name: it does not mine");
	is($node->safe_psql($database, 'SELECT ok, fault FROM apm_verify()'), 't|', "$name: the ledger verifies");
	return;
}

sub accepts
{
	my ($node, $database, $said, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like($node->safe_psql($database, 'SELECT apm_accept_rollback()'), $said, "$name: accepted");
	wait_for($node, $database, 'SELECT count(*) = 0 FROM apm.pool', "$name: what had waited is mined");
	mines($node, $database, $name);
	like($node->safe_psql($database, 'SELECT apm_accept_rollback()'), qr/nothing to accept/, "$name: once is enough");
	return;
}

sub sign_state_file
{
	my ($node, $database) = @_;

	return "$keys/sign-state-" . $node->safe_psql($database, q(SELECT left(encode(chain, 'hex'), 16) FROM apm.chain));
}

sub spew
{
	my ($file, $content) = @_;

	open(my $handle, '>:raw', $file) or die "$file: $!";
	print $handle $content;
	close($handle) or die "$file: $!";
	return;
}

mines($node, 'clinic', 'at first');
my $file = sign_state_file($node, 'clinic');

# --- the sign-state alone
my $older = slurp_file($file);
mines($node, 'clinic', 'once more');
my $newer = slurp_file($file);
unlink($file) or die $!;
refuses($node, 'clinic', 'missing or not to be read', 'sign-state lost while running');
accepts($node, 'clinic', qr/wrote a new sign-state/, 'sign-state lost');
spew($file, $older);
refuses($node, 'clinic', 'set back', 'an older sign-state');
accepts($node, 'clinic', qr/wrote a new sign-state/, 'an older sign-state');
spew($file, 'not a sign-state');
refuses($node, 'clinic', 'missing or not to be read', 'a damaged sign-state');
accepts($node, 'clinic', qr/wrote a new sign-state/, 'a damaged sign-state');

# --- a guard that sleeps, a table that was written
$node->safe_psql('clinic', 'ALTER TABLE apm.leaf DISABLE TRIGGER leaf_fits');
refuses($node, 'clinic', 'guards the ledger', 'a guard that is off');
accepts($node, 'clinic', qr/enabled 1 guard/, 'a guard that is off');
$node->safe_psql('clinic', 'ALTER TABLE apm.block ENABLE TRIGGER ALL');
refuses($node, 'clinic', 'guards the ledger', 'guards that are not always on');
accepts($node, 'clinic', qr/enabled 3 guard/, 'guards that are not always on');
$node->safe_psql('clinic', 'UPDATE apm.pool SET received_at = received_at');
refuses($node, 'clinic', 'written by something other', 'a pool that was written');
accepts($node, 'clinic', qr/accepted what was loaded/, 'a pool that was written');
$node->safe_psql('clinic', q(ALTER TABLE apm.ledger_patient DISABLE TRIGGER ALL;
	UPDATE apm.ledger_patient SET version = 2 WHERE apid = 'p1'; ALTER TABLE apm.ledger_patient ENABLE TRIGGER ALL));
fails_with($node, 'clinic', 'SELECT apm_accept_rollback()', 'AP005', qr/does not verify.*ledger_patient/s, 'a ledger that is wrong is not accepted');
$node->safe_psql('clinic', q(ALTER TABLE apm.ledger_patient DISABLE TRIGGER ALL;
	UPDATE apm.ledger_patient SET version = 1 WHERE apid = 'p1'; ALTER TABLE apm.ledger_patient ENABLE TRIGGER ALL));
accepts($node, 'clinic', qr/enabled 2 guard/, 'put right again');
$node->safe_psql('clinic', 'DROP TRIGGER body_fits ON apm.body');
fails_with($node, 'clinic', 'SELECT apm_accept_rollback()', 'AP006', qr/missing or altered/, 'a guard that is gone is not accepted');
$node->safe_psql('clinic', q(CREATE TRIGGER body_fits BEFORE INSERT ON apm.body FOR EACH ROW WHEN (false) EXECUTE FUNCTION apm.guard_body();
	ALTER TABLE apm.body ENABLE ALWAYS TRIGGER body_fits));
refuses($node, 'clinic', 'guards the ledger', 'a guard that never fires');
$node->safe_psql('clinic', q(DROP TRIGGER body_fits ON apm.body;
	CREATE TRIGGER body_fits BEFORE INSERT ON apm.body FOR EACH ROW EXECUTE FUNCTION apm.guard_body();
	ALTER TABLE apm.body ENABLE ALWAYS TRIGGER body_fits));
wait_for($node, 'clinic', q(SELECT refusal IS NULL FROM apm.status WHERE worker = 'apm miner'), 'the guard is as it was');

# --- the data directory set back to a backup
$node->backup('before');
mines($node, 'clinic', 'after the backup');
$node->stop;
my $current = $node->data_dir . '.current';
rename($node->data_dir, $current) or die $!;
PostgreSQL::Test::RecursiveCopy::copypath($node->backup_dir . '/before', $node->data_dir);
chmod(0700, $node->data_dir);
$node->append_conf('postgresql.conf', 'port = ' . $node->port);
$node->start;
refuses($node, 'clinic', 'set back', 'a restored backup');
$node->stop;
rmtree($node->data_dir);
rename($current, $node->data_dir) or die $!;
$node->start;
mines($node, 'clinic', 'the original again');

# --- a clone beside the original, with the same keys
my $clone = PostgreSQL::Test::Cluster->new('clone');
$node->backup('clone');
$clone->init_from_backup($node, 'clone');
$clone->start;
refuses($clone, 'clinic', 'goes on with the same chain|set back', 'a clone');
mines($node, 'clinic', 'the original beside its clone');
refuses($clone, 'clinic', 'set back', 'a clone that fell behind');
fails_with($clone, 'clinic', 'SELECT apm_accept_rollback()', 'AP008', qr/another database goes on/, 'a clone is not accepted while the original runs');
mines($node, 'clinic', 'the original, still');
$clone->stop;

# --- pg_dump into another database of the same server
$node->safe_psql('postgres', "CREATE DATABASE $_") foreach qw(copy parallel bare);
set_and_reload($node, 'apm.databases', 'clinic, copy, parallel, bare');
my $dump = $node->basedir . '/dump';
$node->command_ok([ 'pg_dump', '-f', "$dump.sql", '-d', $node->connstr('clinic') ], 'pg_dump');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.sql", '-d', $node->connstr('copy') ], 'psql');
refuses($node, 'copy', 'written by something other', 'a dump, loaded');
fails_with($node, 'copy', 'SELECT apm_accept_rollback()', 'AP008', qr/another database goes on/, 'not accepted while the original goes on');
mines($node, 'clinic', 'the original of a dump');

$node->command_ok([ 'pg_dump', '-Fd', '-j', '2', '-f', "$dump.dir", '-d', $node->connstr('clinic') ], 'pg_dump in parallel');
$node->command_ok([ 'pg_restore', '-e', '-j', '4', '-d', $node->connstr('parallel'), "$dump.dir" ], 'pg_restore in parallel');
refuses($node, 'parallel', 'written by something other', 'a parallel restore');

# --data-only leaves the guards in the state "O" when it is told to disable triggers
$node->safe_psql('bare', 'CREATE EXTENSION apm CASCADE');
$node->command_ok([ 'pg_restore', '-e', '--data-only', '--disable-triggers', '-d', $node->connstr('bare'), "$dump.dir" ],
	'pg_restore --data-only --disable-triggers');
$node->safe_psql('bare', $patient_sql);
refuses($node, 'bare', 'guards the ledger', 'data only, triggers disabled');
$node->safe_psql('postgres', 'DROP DATABASE bare WITH (FORCE)');
$node->safe_psql('postgres', 'CREATE DATABASE bare');
$node->safe_psql('bare', 'CREATE EXTENSION apm CASCADE');
$node->command_ok([ 'pg_restore', '-e', '--data-only', '-d', $node->connstr('bare'), "$dump.dir" ], 'pg_restore --data-only');
$node->safe_psql('bare', $patient_sql);
refuses($node, 'bare', 'written by something other', 'data only');

# --- and the copy takes over
$node->safe_psql('postgres', 'DROP DATABASE clinic WITH (FORCE)');
refuses($node, 'bare', 'written by something other', 'the original is dropped');
accepts($node, 'bare', qr/accepted what was loaded, wrote a new sign-state/, 'the copy takes over');
refuses($node, 'copy', 'written by something other', 'the other copy');

# --- a promoted standby goes on on another timeline
my $standby = PostgreSQL::Test::Cluster->new('standby');
$node->backup('standby');
$standby->init_from_backup($node, 'standby', has_streaming => 1);
$standby->start;
wait_for($standby, 'bare', q(SELECT pg_is_in_recovery()), 'a standby');
is($standby->safe_psql('bare', 'SELECT ok FROM apm_verify()'), 't', 'a standby verifies its ledger');
$node->wait_for_catchup($standby);
$node->stop;
$standby->promote;
refuses($standby, 'bare', 'another server or timeline', 'a promoted standby');
accepts($standby, 'bare', qr/wrote a new sign-state/, 'a promoted standby');
$standby->stop;

done_testing();
