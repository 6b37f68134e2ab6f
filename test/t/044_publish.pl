# Digests of the ledger leave the server by themselves: into a directory and through a command,
# whatever fails on the way, and without anybody else waiting for it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use POSIX qw(mkfifo);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('hospital', settings => { restart_after_crash => 'on' });
my $directory = $node->basedir . '/digests';
my $given = $node->basedir . '/given';
mkdir($_) or die "$_: $!" foreach $directory, $given;
$node->safe_psql('clinic', q(CREATE ROLE app LOGIN; GRANT apm_clinician TO app; CREATE ROLE clerk IN ROLE apm_registrar));
query($node, 'clinic', q(SELECT apm_register_patient('p1', '{"Firstname": "First", "Lastname": "Last"}')), 'clerk');

# --- into a directory, every so many blocks, the first at once
block();
is(query($node, 'clinic', 'SELECT count(*) FROM apm.digest_published'), '0', 'nothing is given out that nobody asked for');
set_and_reload($node, 'apm.digest_interval', '3');
set_and_reload($node, 'apm.digest_directory', $directory);
wake();
wait_for($node, 'clinic', 'SELECT count(*) = 1 FROM apm.digest_published', 'the first digest is given out');
my ($first) = files();
ok(defined $first, 'its file is there');
block() foreach 1 .. 8;
wait_for($node, 'clinic', 'SELECT t.height - p.height < 3 FROM apm.tip AS t, apm.digest_published AS p', 'more are');
my @heights = files();
cmp_ok(scalar(@heights), '>', 1, 'each is a file of its own');
ok(!(grep { $heights[$_] - $heights[ $_ - 1 ] < 3 } 1 .. $#heights), 'and so many blocks younger') or diag("@heights");
foreach my $height (@heights)
{
	my $digest = slurp_file("$directory/apm-digest-$height.json");

	like($digest, qr/^\{.*\}\n$/, "the digest of height $height is a line");
	is( query($node, 'clinic', "SELECT d ->> 'hash' = i.hash AND (d ->> 'height')::bigint = i.height AND apm_prove_consistency(d) IS NOT NULL "
			. "FROM apm.block_info AS i, jsonb('$digest') AS d WHERE i.height = $height"),
		't', 'and that of the block, as the ledger has it');
}
is((stat("$directory/apm-digest-$heights[-1].json"))[2] & 07777, 0644, 'everybody may read it');
is(query($node, 'clinic', q(SELECT digest_height FROM apm.status WHERE worker = 'apm cloud')), $heights[-1], 'the status tells the last one');
is(query($node, 'clinic', q(SELECT count(*) FROM apm.status WHERE digest_height IS NOT NULL)), '1', 'of the worker that gives them out');
opendir(my $dir, $directory) or die $!;
is(scalar(grep { !/^(\.\.?|apm-digest-\d+\.json)$/ } readdir($dir)), 0, 'nothing else is left there');
closedir($dir);

# --- through a command
set_and_reload($node, 'apm.digest_interval', '1');
set_and_reload($node, 'apm.digest_command', "cat >$given/%h && echo 100%% >>$given/%h");
block();
wait_for($node, 'clinic', 'SELECT t.height = p.height FROM apm.tip AS t, apm.digest_published AS p', 'the command ended well');
my $last = published();
is(slurp_file("$given/$last"), slurp_file("$directory/apm-digest-$last.json") . "100%\n", 'it got the digest, its height, and a percent sign');

# --- a command that fails
set_and_reload($node, 'apm.digest_command', "echo . >>$given/tried; exit 3");
block();
wait_for($node, 'clinic', failure('its command ended with exit code 3'), 'the status tells of a command that fails');
is(published(), $last, 'its digest does not count as given out');
ok(PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ /LOG:  a digest of the ledger was not given out: its command ended with exit code 3/,
	'so does the log');
my $waiting = (files())[-1];
block();
wait_for($node, 'clinic', 'SELECT count(*) = 0 FROM apm.outbox', 'records go on to the cloud');
ok(poll($node, 'clinic', "SELECT count(*) > 2 FROM regexp_split_to_table(pg_read_file('$given/tried'), E'\\n')"), 'it is tried again');
set_and_reload($node, 'apm.digest_command', "kill -9 \$\$");
wait_for($node, 'clinic', failure('its command was ended from outside'), 'one that is killed has failed');
set_and_reload($node, 'apm.digest_command', "cat >$given/%h");
wait_for($node, 'clinic', 'SELECT t.height = p.height FROM apm.tip AS t, apm.digest_published AS p', 'until it ends well');
ok(-s "$given/$waiting", 'the digest that waited was given out');

# --- a command that does not end
my $hangs = "echo \$\$ >$given/pid; exec sleep 1000000";
set_and_reload($node, 'apm.digest_command', $hangs);
block();
wait_for($node, 'clinic', q(SELECT activity = 'waiting for the command that takes a digest' FROM apm.status WHERE worker = 'apm cloud'), 'a command hangs');
block();
wait_for($node, 'clinic', 'SELECT count(*) = 0 FROM apm.outbox', 'records go to the cloud');
cmp_ok(query($node, 'clinic', q(SELECT count(*) FROM apm_fetch('p1')), 'app'), '>', 10, 'and are read from it');
my $pid = slurp_file("$given/pid");
chomp($pid);
ok(kill(0, $pid), 'meanwhile');
is(query($node, 'postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'apm cloud'"), 't', 'the worker is ended');
ok(gone($pid), 'and the command with it');
wait_for($node, 'clinic', failure('its command did not end in time'), 'the next one is given up after a while');
$pid = slurp_file("$given/pid");
chomp($pid);
ok(gone($pid), 'and ended');
is(published() < query($node, 'clinic', 'SELECT height FROM apm.tip'), 1, 'nothing was recorded');

# --- a crash in the middle: it begins again
wait_for($node, 'clinic', q(SELECT activity = 'waiting for the command that takes a digest' FROM apm.status WHERE worker = 'apm cloud'), 'it hangs again');
my $worker = worker_pid($node, 'clinic', 'apm cloud');
kill('KILL', $worker);
wait_for($node, 'clinic', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'apm cloud' AND pid <> ) . $worker, 'another worker comes');
set_and_reload($node, 'apm.digest_command', "cat >$given/%h");
wait_for($node, 'clinic', 'SELECT t.height = p.height FROM apm.tip AS t, apm.digest_published AS p', 'after a crash the digest is given out');
ok(-s "$given/" . published(), 'to the command');
kill('KILL', slurp_file("$given/pid") =~ /(\d+)/);

# --- a directory that does not answer: whoever opens a file there waits
my $taken = published() + 1;
my @pipes = map { "$directory/apm-digest-" . ($taken + $_) . '.json' } 0 .. 9;
mkfifo($_, 0600) or die "$_: $!" foreach @pipes;
block();
wait_for($node, 'clinic', q(SELECT activity = 'writing a digest' FROM apm.status WHERE worker = 'apm cloud'), 'a file hangs');
block();
wait_for($node, 'clinic', 'SELECT count(*) = 0 FROM apm.outbox', 'records go to the cloud meanwhile');
cmp_ok(query($node, 'clinic', q(SELECT count(*) FROM apm_fetch('p1')), 'app'), '>', 10, 'and are read from it');
wait_for($node, 'clinic', failure('its file was not written in time'), 'it is given up after a while');
unlink(@pipes);
wait_for($node, 'clinic', 'SELECT t.height = p.height FROM apm.tip AS t, apm.digest_published AS p', 'until the directory answers');

# --- a directory that is not there, and a name that is taken
rename($directory, "$directory.away") or die $!;
block();
wait_for($node, 'clinic', failure('its file was not written: No such file or directory'), 'a directory that is gone');
rename("$directory.away", $directory) or die $!;
wait_for($node, 'clinic', 'SELECT t.height = p.height FROM apm.tip AS t, apm.digest_published AS p', 'and is back');
my $next = published() + 1;
append_to_file("$directory/apm-digest-" . ($next + $_) . '.json', "evidence\n") foreach 0 .. 9;
block();
wait_for($node, 'clinic', failure('the directory has another file of its name'), 'what stands under a name is not replaced');
is(slurp_file("$directory/apm-digest-$next.json"), "evidence\n", 'it stays');
block() foreach 1 .. 10;
wait_for($node, 'clinic', "SELECT p.height >= $next + 10 FROM apm.digest_published AS p", 'a later digest goes out under its own');
set_and_reload($node, 'apm.digest_directory', 'digests');
block();
wait_for($node, 'clinic', failure('apm.digest_directory is not an absolute path'), 'a path that depends on where the server runs');
set_and_reload($node, 'apm.digest_directory', '');
wait_for($node, 'clinic', 'SELECT t.height = p.height FROM apm.tip AS t, apm.digest_published AS p', 'the command alone');

# --- what is not given out: a ledger that somebody else wrote, and an end that its node did not sign
query($node, 'clinic', q(INSERT INTO apm.load_notice VALUES ('pool')));
$last = published();
query($node, 'clinic', 'UPDATE apm.digest_published SET height = height - 1');
wait_for($node, 'clinic', q(SELECT refusal ~ 'was written by something other' FROM apm.status WHERE worker = 'apm cloud'), 'the node refuses');
query($node, 'clinic', 'SELECT apm_run_cloud_sync()');
is(published(), $last - 1, 'nothing is given out of it');
query($node, 'clinic', 'SELECT apm_accept_rollback()');
wait_for($node, 'clinic', "SELECT height = $last FROM apm.digest_published", 'until it is accepted');
query($node, 'clinic', 'CREATE TABLE kept AS SELECT signature FROM apm.block ORDER BY height DESC LIMIT 1');
end_with(q(sha256('a') || sha256('b')));
fails_with($node, 'clinic', 'SELECT apm_digest()', 'AP005', qr/does not end with a block of its node/, 'a signature that is not the node\'s');
wait_for($node, 'clinic', failure('the ledger does not end with a block of its node'), 'is not given out either');

# --- nobody's worker: the function that does once what the worker does waits for the command
set_and_reload($node, 'apm.databases', '');
wait_for($node, 'postgres', q(SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'apm cloud'), 'no worker runs');
end_with('(SELECT signature FROM kept)');
set_and_reload($node, 'apm.digest_command', "cat >$given/once");
query($node, 'clinic', 'SELECT apm_run_cloud_sync()');
is(query($node, 'clinic', q(SELECT p.height = t.height FROM apm.digest_published AS p, apm.tip AS t)), 't', 'apm_run_cloud_sync() gives it out');
is(query($node, 'clinic', "SELECT pg_read_file('$given/once')::jsonb = apm_digest()"), 't', 'to the command');

$node->stop;
done_testing();

# One more block at least; its record wakes the cloud worker.
sub block
{
	my $tip = query($node, 'clinic', 'SELECT height FROM apm.tip');

	query($node, 'clinic', q(SELECT apm_submit('p1', '{"n": 1}')), 'app');
	return poll($node, 'clinic', "SELECT height > $tip FROM apm.tip");
}

# The worker looks again at once.
sub wake
{
	return query($node, 'clinic', q(SELECT count(*) FROM apm_fetch('p1')), 'app');
}

# Gives the last block another signature, behind the guards' back, and makes its digest due.
sub end_with
{
	my ($signature) = @_;
	my ($blocks, $notices) = map { query($node, 'clinic', qq(SELECT string_agg(format('ENABLE ALWAYS TRIGGER %I', tgname), ', ')
		FROM pg_trigger WHERE tgrelid = 'apm.$_'::regclass AND NOT tgisinternal)) } qw(block load_notice);

	return query($node, 'clinic', qq(BEGIN; ALTER TABLE apm.block DISABLE TRIGGER ALL; ALTER TABLE apm.load_notice DISABLE TRIGGER ALL;
		UPDATE apm.block SET signature = $signature WHERE height = (SELECT height FROM apm.tip);
		UPDATE apm.digest_published SET height = height - 1;
		DELETE FROM apm.load_notice;
		ALTER TABLE apm.block $blocks; ALTER TABLE apm.load_notice $notices; COMMIT));
}

sub published { return query($node, 'clinic', 'SELECT height FROM apm.digest_published') }

# Heights of the files in the directory.
sub files
{
	opendir(my $handle, $directory) or die $!;
	my @found = sort { $a <=> $b } map { /^apm-digest-(\d+)\.json$/ ? $1 : () } readdir($handle);
	closedir($handle);
	return @found;
}

# That the worker's last error is this one.
sub failure
{
	my ($why) = @_;
	return qq(SELECT last_error_code = 'AP017' AND last_error = 'a digest of the ledger was not given out: $why'
		FROM apm.status WHERE worker = 'apm cloud');
}

# Waits until there is no such process.
sub gone
{
	my ($process) = @_;
	my $deadline = time() + $PostgreSQL::Test::Utils::timeout_default;

	while (time() < $deadline)
	{
		return 1 unless kill(0, $process);
		select(undef, undef, undef, 0.05);
	}
	return 0;
}
