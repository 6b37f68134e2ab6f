# Points in time, file copies, standbys: whatever is started from what a node once was, no
# height is ever signed twice with different content unless an operator says that he gives a block up.  And the
# failover that doc/operations.md describes, word for word.

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
my $archive = PostgreSQL::Test::Utils::tempdir();
my %signed;    # hashes by height, of every server that there ever was
my $serial = 0;

my $original = apm_node(
	'primary',
	databases => ['hospital'],
	setup => 0,
	settings => { archive_mode => 'on', archive_command => "cp %p $archive/%f", wal_keep_size => '64MB' });
my $keys = key_directory($original);
$original->safe_psql('hospital', qq(SELECT apm_setup(8); CREATE FUNCTION public.patient(text, integer DEFAULT 1, integer DEFAULT 2, text DEFAULT NULL)
	RETURNS uuid AS '$module', 'test_pool_patient' LANGUAGE c));

# What a server has signed is remembered, and compared with what any other has.
sub remember
{
	my ($node, $name) = @_;

	foreach my $row (split /\n/, $node->safe_psql('hospital', q(SELECT height || ' ' || encode(hash, 'hex') FROM apm.block)))
	{
		my ($height, $hash) = split / /, $row;

		$signed{$height}{$hash} //= $name;
	}
	return;
}

sub none_twice
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is_deeply([ grep { keys %{ $signed{$_} } > 1 } sort { $a <=> $b } keys %signed ], [], "$name: no height was signed twice");
	return;
}

sub mines
{
	my ($node, $name) = @_;
	my $apid = 'p' . ++$serial;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql('hospital', "SELECT patient('$apid')");
	wait_for($node, 'hospital', "SELECT count(*) = 1 FROM apm.ledger_patient WHERE apid = '$apid'", "$name: mines");
	remember($node, $name);
	return;
}

# With something to mine, and after a whole turn, there is no new block.
sub refuses
{
	my ($node, $why, $name) = @_;
	my $height = $node->safe_psql('hospital', 'SELECT max(height) FROM apm.block');

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql('hospital', "SELECT patient('r" . ++$serial . "')");
	wait_for($node, 'hospital', "SELECT refusal ~ '$why' FROM apm.status WHERE worker = 'apm miner'", "$name: refuses and says why");
	$node->safe_psql('hospital', 'SELECT apm_run_miner()');
	is($node->safe_psql('hospital', 'SELECT max(height) FROM apm.block'), $height, "$name: signs nothing");
	is($node->safe_psql('hospital', 'SELECT ok, fault FROM apm_verify()'), 't|', "$name: verifies");
	remember($node, $name);
	return;
}

# The word alone is not enough where blocks would be lost.
sub is_not_accepted
{
	my ($node, $pattern, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return fails_with($node, 'hospital', 'SELECT apm_accept_rollback()', 'AP008', $pattern, "$name: is not accepted by the way");
}

# A server from the base backup and the archive, at a restore point.
sub recovered
{
	my ($name, $point) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init_from_backup($original, 'base');
	$node->append_conf('postgresql.conf', qq(archive_mode = off
		restore_command = 'cp $archive/%f %p'
		recovery_target_name = '$point'
		recovery_target_action = 'promote'));
	$node->set_recovery_mode;
	$node->start;
	wait_for($node, 'hospital', 'SELECT NOT pg_is_in_recovery()', "$name: recovery has come to its end");
	return $node;
}

# --- points in time
$original->backup('base');
mines($original, 'the original');
$original->safe_psql('postgres', q(SELECT pg_create_restore_point('earlier')));
mines($original, 'the original') foreach 1 .. 5;
$original->safe_psql('postgres', q(SELECT pg_create_restore_point('one_block_ago')));
mines($original, 'the original');
$original->safe_psql('postgres', 'SELECT pg_switch_wal()');
wait_for($original, 'postgres', q(SELECT last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 16777216) FROM pg_stat_archiver), 'the archive has it all');
$original->stop;
foreach my $point (qw(earlier one_block_ago))
{
	my $node = recovered($point, $point);

	refuses($node, 'another server or timeline', $point);
	is_not_accepted($node, qr/has signed blocks that this ledger does not have.*HINT.*give_up/s, $point);
	refuses($node, 'another server or timeline', "$point, still");
	$node->stop;
}
$original->start;
mines($original, 'the original after its points in time');
none_twice('points in time');

# --- the operator may give blocks up, and has to say so; a digest of them would tell
{
	my $sign_state = (grep { !/lock$/ } glob("$keys/sign-state-*"))[0];
	my $saved = slurp_file($sign_state);
	my $node;

	$original->stop;
	$node = recovered('given_up', 'one_block_ago');
	like($node->safe_psql('hospital', 'SELECT apm_accept_rollback(give_up => true)'),
		qr/gave up what was signed up to height \d+, wrote a new sign-state/, 'blocks are given up by name');
	wait_for($node, 'hospital', q(SELECT count(*) = 1 FROM apm.status WHERE worker = 'apm miner' AND refusal IS NULL), 'then it mines');
	like($node->safe_psql('hospital', 'SELECT apm_accept_rollback()'), qr/nothing to accept/, 'once is enough');
	$node->stop;
	$node->clean_node;

	# as if it had never been
	unlink($sign_state) or die $!;
	append_to_file($sign_state, $saved);
	chmod(0600, $sign_state) or die $!;
	$original->start;
	mines($original, 'the original once more');
}

# --- a file copy, made while the server was down, and started beside the original
$original->stop;
my $copy = PostgreSQL::Test::Cluster->new('copy');
PostgreSQL::Test::RecursiveCopy::copypath($original->data_dir, $copy->data_dir);
chmod(0700, $copy->data_dir);
$copy->append_conf('postgresql.conf', join("\n", 'port = ' . $copy->port, 'archive_mode = off', ''));
$original->start;
mines($original, 'the original of a copy');
$copy->start;
refuses($copy, 'goes on with the same chain|set back', 'a file copy beside the original');
is_not_accepted($copy, qr/another database goes on with this chain/, 'a file copy beside the original');
mines($original, 'the original beside its copy');
$original->stop('immediate');
refuses($copy, 'set back', 'a file copy whose original was killed');
is_not_accepted($copy, qr/has signed blocks that this ledger does not have/, 'a file copy that is behind');
$original->start;
mines($original, 'the original, back');
$copy->stop;
$original->stop;

# --- a copy that is up to date takes the original's place, and the original, back, finds that out
rmtree($copy->data_dir);
PostgreSQL::Test::RecursiveCopy::copypath($original->data_dir, $copy->data_dir);
chmod(0700, $copy->data_dir);
$copy->append_conf('postgresql.conf', join("\n", 'port = ' . $copy->port, 'archive_mode = off', ''));
$copy->start;
mines($copy, 'a copy in the place of the original');
$original->start;
refuses($original, 'goes on with the same chain|set back', 'the original beside what took its place');
$copy->stop('immediate');
refuses($original, 'set back', 'the original, alone again');
is_not_accepted($original, qr/has signed blocks that this ledger does not have/, 'the original, alone again');
none_twice('copies');
$original->stop;

# --- the failover of doc/operations.md: two key directories, one sign-state
my $primary = $copy;
my $standby = PostgreSQL::Test::Cluster->new('standby');
my $standby_keys = key_directory($standby);
my @commands = slurp_file("$FindBin::RealBin/../../doc/operations.md") =~ /^### Failover\n.*?^```sh\n(.*?)^```\n.*?^```sh\n(.*?)^```\n/ms;
is(scalar @commands, 2, 'the document has the commands');
$primary->append_conf('postgresql.conf', 'max_wal_senders = 5');
$primary->start;
$primary->backup('standby');
$standby->init_from_backup($primary, 'standby', has_streaming => 1);
mkdir($standby_keys, 0700) or die $!;
foreach my $file (grep { !/sign-state/ } glob("$keys/*"))
{
	copy($file, $standby_keys) or die "$file: $!";
	chmod((stat($file))[2] & 07777, $standby_keys . substr($file, length($keys))) or die $!;
}
$standby->append_conf('postgresql.conf', "apm.key_directory = '$standby_keys'");
$standby->start;
mines($primary, 'the primary');
$primary->wait_for_catchup($standby);
is($standby->safe_psql('hospital', 'SELECT ok FROM apm_verify()'), 't', 'a standby verifies its ledger');

sub run_documented
{
	my ($commands, $at, $name) = @_;
	my ($out, $err);

	local %ENV = (
		%ENV,
		PRIMARY_DATA => $primary->data_dir,
		STANDBY_DATA => $standby->data_dir,
		PRIMARY_KEYS => $keys,
		STANDBY_KEYS => $standby_keys,
		STANDBY_CONNINFO => $standby->connstr =~ tr/'//dr,
		PGHOST => $at->host,
		PGPORT => $at->port);
	# the servers must not keep our pipes open
	my $script = "$archive/$name.sh";
	append_to_file($script, $commands);
	ok(IPC::Run::run([ 'sh', '-e', $script ], '<', '/dev/null', '>', "$script.out", '2>', "$script.err"), "$name: as documented")
	  or diag(slurp_file("$script.out"), slurp_file("$script.err"));
	return slurp_file("$script.out");
}

my $said = run_documented($commands[0], $standby, 'failover');
$primary->_update_pid(0);
like($said, qr/verified \d+ blocks with \d+ transactions, wrote a new sign-state/, 'nothing was lost, and the word is enough');
mines($standby, 'the promoted standby');
none_twice('after the failover');

# started as it is, by mistake, it finds no sign-state
$primary->start;
refuses($primary, 'missing or not to be read', 'the former primary, started as it was');
is_deeply([ map { $signed{$_} } grep { keys %{ $signed{$_} } > 1 } keys %signed ], [], 'and signs nothing');
$primary->stop;

# and as documented it is the new one's standby.  What it queued by that mistake is only there, so it is copied anew.
rmtree($primary->data_dir);
$standby->backup('return');
PostgreSQL::Test::RecursiveCopy::copypath($standby->backup_dir . '/return', $primary->data_dir);
chmod(0700, $primary->data_dir);
$primary->append_conf('postgresql.conf', join("\n", 'port = ' . $primary->port, "apm.key_directory = '$keys'", ''));
run_documented($commands[1], $primary, 'return');
$primary->_update_pid(1);
mines($standby, 'the new primary');
wait_for($primary, 'hospital', "SELECT count(*) = 1 FROM apm.ledger_patient WHERE apid = 'p$serial'", 'the former primary follows');
is($primary->safe_psql('hospital', 'SELECT ok, pg_is_in_recovery() FROM apm_verify()'), 't|t', 'and verifies');
remember($primary, 'the former primary');
none_twice('at the end');

done_testing();
