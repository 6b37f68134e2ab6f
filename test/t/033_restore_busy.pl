# A restore into a database whose workers do not wait for its end.  At the moment of the
# dump there is a row at every station.  While it is loaded, table by table, every worker
# turns after each statement: none may take what is half there, and once the operator has
# said that the copy goes on, everything arrives exactly once.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('hospital');
my $module = "$FindBin::RealBin/../modules/test_chain";
my @stations = qw(queue pool final_queue outbox waiting);
my %workers = (network => 'apm_run_network_server', miner => 'apm_run_miner', cloud => 'apm_run_cloud_sync',
	reception => 'apm_run_reception');
my $submitted = 0;

sub sql { return query($node, 'clinic', @_) }

sub run_once
{
	sql("SELECT $workers{$_}()") foreach @_;
	return;
}

sub submit
{
	my ($role) = @_;

	for (1 .. 3)
	{
		$submitted++;
		sql("INSERT INTO apm.patient_record (pid, record) VALUES ('AF89XI96FD24', '{\"visit\": $submitted}')", $role);
	}
	return;
}

sub depths
{
	my ($database) = @_;

	return $node->safe_psql($database, 'SELECT ' . join(', ', map { "(SELECT count(*) FROM apm.$_)" } @stations));
}

sql('CREATE ROLE doctor; GRANT apm_clinician TO doctor; CREATE ROLE clerk IN ROLE apm_registrar; CREATE ROLE gateway IN ROLE apm_sensor');
sql(q(SELECT apm_register_patient('AF89XI96FD24', '{"Firstname": "Ahmed", "Lastname": "Ali"}')), 'clerk');
sql(qq(CREATE FUNCTION patient(text, integer DEFAULT 1, integer DEFAULT 2, text DEFAULT NULL) RETURNS uuid
	AS '$module', 'test_pool_patient' LANGUAGE c));
wait_for($node, 'clinic', 'SELECT count(*) = 1 FROM apm.ledger_patient', 'the patient is registered');

# --- three records at every station but the pool, which has a registration
set_and_reload($node, 'apm.databases', 'nowhere');
wait_for($node, 'postgres', q(SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'clinic' AND backend_type ~ '^apm'),
	'the workers have gone');
submit('doctor');
run_once(qw(network miner network cloud));
submit('doctor');
run_once(qw(network miner network));
submit('doctor');
run_once(qw(network miner));
sql(q(SELECT patient('p1')));
submit('doctor');
submit('gateway');
is(depths('clinic'), '3|1|1|3|3', 'something is at every station');

# --- the dumps, with a turn of every worker after each table
my $dump = $node->basedir . '/dump';
my $turns = join('', map { "SELECT public.$workers{$_}();\n" } sort keys %workers);
my %options = (copy => '', inserts => '--inserts', bare => '--data-only', disabled => '--data-only --disable-triggers', backwards => '');

# pg_restore -j loads tables in no order that one could rely on; this is the worst one.
sub backwards
{
	my ($list) = @_;
	my @lines = split(/^/, $list);
	my @data = grep { /TABLE DATA/ } @lines;

	return join('', map { /TABLE DATA/ ? pop @data : $_ } @lines);
}

foreach my $copy (sort keys %options)
{
	my @options = split(/ /, $options{$copy});
	my $text;

	if ($copy eq 'backwards')
	{
		$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dump.archive", '-d', $node->connstr('clinic') ], 'pg_dump -Fc');
		my ($list) = run_command([ 'pg_restore', '-l', "$dump.archive" ]);

		append_to_file("$dump.list", backwards("$list\n"));
		$node->command_ok([ 'pg_restore', '-L', "$dump.list", '-f', "$dump.$copy", "$dump.archive" ], 'pg_restore in another order');
	}
	else
	{
		$node->command_ok([ 'pg_dump', @options, '-f', "$dump.$copy", '-d', $node->connstr('clinic') ], "pg_dump @options");
	}
	$text = slurp_file("$dump.$copy");
	$text =~ s/^(\\\.|INSERT INTO apm\.\w+ .*;|SELECT pg_catalog\.setval\(.*;)$/$1\n\n$turns/mg;
	append_to_file("$dump.$copy.sql", $text);
	$node->safe_psql('postgres', "CREATE DATABASE $copy");
	$node->safe_psql($copy, 'CREATE EXTENSION apm CASCADE') if $options{$copy} =~ /data-only/;
}
sql("SELECT $workers{network}()");    # the original goes on, too
foreach my $copy (sort keys %options)
{
	$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-f', "$dump.$copy.sql", '-d', $node->connstr($copy) ],
		"$copy: loaded while workers turn");
	is(depths($copy), '3|1|1|3|3', "$copy: they took nothing");
	is($node->safe_psql($copy, 'SELECT count(*) FROM apm.quarantine'), '0', "$copy: nothing was put aside");
}

# --- each takes over in its turn
my $before = 'clinic';
foreach my $copy (sort keys %options)
{
	set_and_reload($node, 'apm.databases', $copy);
	wait_for($node, $copy, q(SELECT refusal ~ 'written by something other|guards the ledger' FROM apm.status WHERE worker = 'apm miner'),
		"$copy: says why it refuses");
	fails_with($node, $copy, q(SELECT * FROM apm_fetch('AF89XI96FD24')), $options{$copy} =~ /disable/ ? 'AP006' : 'AP008',
		qr/serves no reads.*(written by something other|guards the ledger)/s, "$copy: a reader is told so", 'doctor');
	$node->safe_psql('postgres', "DROP DATABASE $before WITH (FORCE)");
	like($node->safe_psql($copy, 'SELECT apm_accept_rollback(give_up => true)'), qr/wrote a new sign-state/, "$copy: accepted");
	wait_for($node, $copy, q(SELECT count(*) = 1 FROM apm.status WHERE worker = 'apm miner' AND refusal IS NULL), "$copy: it mines");
	wait_for($node, $copy, 'SELECT ' . join(' AND ', map { "NOT EXISTS (SELECT FROM apm.$_)" } @stations), "$copy: everything moves on");
	is($node->safe_psql($copy, q(SELECT count(*), count(DISTINCT rid), (SELECT count(*) FROM apm.cloud_record) FROM apm.ledger_record)),
		"$submitted|$submitted|$submitted", "$copy: each record arrived once");
	is($node->safe_psql($copy, q(SELECT count(*) FROM apm.final_transaction WHERE kind = 2 AND rule = 0 AND stored_at IS NOT NULL)),
		$submitted, "$copy: and is final once");
	is(query($node, $copy, q(SELECT string_agg(record->>'visit', ',' ORDER BY (record->>'visit')::int) FROM apm_fetch('AF89XI96FD24')), 'doctor'),
		join(',', 1 .. $submitted), "$copy: all are read back");
	is($node->safe_psql($copy, 'SELECT ok, fault FROM apm_verify()'), 't|', "$copy: the ledger verifies");
	$before = $copy;
}

done_testing();
