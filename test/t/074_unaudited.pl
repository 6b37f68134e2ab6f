# No unaudited read: of a thousand reads that are rolled back, cancelled, timed out, killed or cut
# off by a crash, none gives a record out that the ledger has no allowed query for.
#
# Each patient has one record with a mark of his own and is read once, so a mark in a reader's
# output says whose query must be there.
use strict;
use warnings;

use ApmTest;
use POSIX qw(WNOHANG);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $seed = $ENV{APM_SEED} // time();
srand($seed);
note("APM_SEED=$seed");

my $ways = 8;
my $each = 125;
my $total = $ways * $each;
my $node = apm_node('hospital', settings => { restart_after_crash => 'on', max_connections => 60 });
my $arrived = q{SELECT NOT EXISTS (SELECT FROM apm.queue) AND NOT EXISTS (SELECT FROM apm.pool)
	AND NOT EXISTS (SELECT FROM apm.final_queue)};

$node->safe_psql('clinic', q{
	CREATE ROLE clerk; GRANT apm_registrar TO clerk;
	CREATE ROLE doctor; GRANT apm_clinician TO doctor;});
query($node, 'clinic', qq{SELECT count(apm_register_patient('p' || g, '{"Firstname": "Amina"}')) FROM generate_series(0, $total - 1) AS g}, 'clerk');
query($node, 'clinic', qq{INSERT INTO apm.patient_record (pid, record, rid)
	SELECT 'p' || g, jsonb_build_object('mark', 'mark-' || g || '-'), lpad(g::text, 32, '0')::uuid FROM generate_series(0, $total - 1) AS g}, 'doctor');
# every tenth patient has withdrawn
query($node, 'clinic', qq{SELECT count(apm_revoke_access('p' || g)) FROM generate_series(0, $total - 1, 10) AS g}, 'clerk');
wait_for($node, 'clinic', $arrived, "$total patients are on the chain");

my $next = 0;
my $output = PostgreSQL::Test::Utils::tempdir;

# A read that is nobody else's.
sub read_next
{
	return sprintf(q(SELECT record FROM apm_fetch('p%d')), $next++);
}

# A session in the background: its process.  Its output goes to a file at once.
sub session
{
	my ($sql) = @_;
	my $file = sprintf('%s/session%d', $output, $next);

	append_to_file("$file.sql", "SET ROLE doctor;\n$sql\n");
	my $child = fork() // die "fork: $!";
	return $child if $child;
	open(STDOUT, '>', "$file.out") && open(STDERR, '>', "$file.err") or POSIX::_exit(1);
	exec('psql', '-XAtq', '-d', $node->connstr('clinic'), '-f', "$file.sql") or POSIX::_exit(1);
}

sub finish
{
	waitpid($_, 0) foreach @_;
	return;
}

sub pids_of_readers
{
	return split /\n/, $node->safe_psql('clinic', q{SELECT pid FROM pg_stat_activity WHERE query LIKE '%apm\_fetch(%' AND pid <> pg_backend_pid()});
}

# Waits until no crash is being recovered from, and the node serves.
sub server_is_back
{
	poll($node, 'clinic', q{SELECT count(*) = count(pid) FROM apm.status WHERE refusal IS NULL}) or die 'the server does not come back';
	return;
}

# Many readers at once, something happens to them, and the server comes back.
sub meanwhile
{
	my ($readers, $happens, $before) = @_;
	my @sessions = map { session(($before // '') . read_next() . ';') } 1 .. $readers;

	usleep(int(rand(60_000)));
	$happens->();
	finish(@sessions);
	return;
}

# rolled back, wholly and in part
finish(session(join(' ', map { 'BEGIN; ' . read_next() . '; ROLLBACK;' } 1 .. $each)));
finish(session(join(' ', map { 'BEGIN; SAVEPOINT s; ' . read_next() . '; ROLLBACK TO s; COMMIT;' } 1 .. $each)));

# what an exception block reads leaves it as a notice
finish(session(join(' ', map {
	my $read = read_next();
	qq(DO \$\$ DECLARE r jsonb; BEGIN $read INTO r; RAISE NOTICE '%', r; RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END \$\$;)
} 1 .. $each)));

# timeouts at any moment
finish(session(join(' ', map { sprintf('SET statement_timeout = %d; %s;', 1 + int(rand(60)), read_next()) } 1 .. $each)));

# cancelled at random
{
	my $cancelled = session(join(' ', map { read_next() . ';' } 1 .. $each));

	while (waitpid($cancelled, WNOHANG) == 0)
	{
		usleep(int(rand(25_000)));
		$node->safe_psql('clinic', "SELECT pg_cancel_backend($_)") foreach pids_of_readers();
	}
}

# clients that are killed
foreach (1 .. $each / 5)
{
	my @sessions = map { session(read_next() . ';') } 1 .. 5;

	usleep(int(rand(80_000)));
	kill('KILL', @sessions);
	finish(@sessions);
}

# a reader's backend and each worker killed, which restarts the server
foreach my $victim ('apm network server', 'apm miner', 'apm cloud', 'apm reception', 'client backend')
{
	meanwhile($each / 5, sub {
		my ($pid) = $victim eq 'client backend' ? pids_of_readers() : worker_pid($node, 'clinic', $victim);

		kill('KILL', $pid) if $pid;
	});
	server_is_back();
}

# nothing waits for the disk, and the server is gone
foreach (1 .. 5)
{
	meanwhile($each / 5, sub { $node->stop('immediate') }, 'SET synchronous_commit = off; ');
	$node->start;
	server_is_back();
}

is($next, $total, "$total reads were tried");
my %released;
foreach my $file (glob("$output/*.out"), glob("$output/*.err"))
{
	my $text = slurp_file($file);

	$released{$1} = 1 while $text =~ /mark-(\d+)-/g;
}
my @released = sort { $a <=> $b } keys %released;
cmp_ok(scalar(@released), '>', $total / 4, scalar(@released) . ' records came out');
is(scalar(grep { $_ % 10 == 0 } @released), 0, 'none of a patient who withdrew');
wait_for($node, 'clinic', $arrived, 'the ledger has what was asked');
is(query($node, 'clinic', sprintf(q{
	SELECT count(*) FROM unnest(ARRAY[%s]::integer[]) AS released (g)
		LEFT JOIN apm.ledger_record AS r ON r.rid = lpad(g::text, 32, '0')::uuid
	WHERE NOT EXISTS (SELECT FROM apm.ledger_query AS q WHERE q.apid = r.apid AND q.scope = 1 AND q.rule = 0)}, join(', ', @released))),
	0, 'none without an allowed query in the ledger');
is(query($node, 'clinic', 'SELECT ok FROM apm_verify()'), 't', 'which verifies');
$node->stop;
done_testing();
