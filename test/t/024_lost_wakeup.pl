# A wake-up that comes while a worker waits inside its turn is not lost.
#
# Waiting for another server resets the latch by which a worker is woken.
# A reader whose letter arrives then must not wait for the net deadline of ten seconds: his
# statement_timeout is shorter than that, and far longer than a read.

use strict;
use warnings;

use lib 'test/perl';
use ApmTest;
use PostgreSQL::Test::Cluster;
use Test::More;

my $cloud = PostgreSQL::Test::Cluster->new('cloud');
$cloud->init;
$cloud->start;
$cloud->safe_psql('postgres', 'CREATE TABLE ehr (rid uuid PRIMARY KEY, apid text NOT NULL, apr bytea NOT NULL, tokens bytea[] NOT NULL)');

my $node = apm_node('hospital');
attach_cloud($node, $cloud);

$node->safe_psql('clinic', 'CREATE ROLE app LOGIN; GRANT apm_clinician TO app; CREATE ROLE clerk IN ROLE apm_registrar');
query($node, 'clinic', q(SELECT apm_register_patient('p', '{"Firstname": "F", "Lastname": "L"}')), 'clerk');
query($node, 'clinic', q(INSERT INTO apm.patient_record (pid, record) VALUES ('p', '{"visit": 1}')), 'app');
wait_for($node, 'clinic', 'SELECT count(*) = 1 FROM apm.final_transaction WHERE stored_at IS NOT NULL', 'a record is stored');

my $lock = $cloud->background_psql('postgres', on_error_die => 1);
my @readers = map { $node->background_psql('clinic', on_error_die => 1) } 1 .. 2;

$_->query_safe(q(SET ROLE app; SET statement_timeout = '8s')) foreach @readers;

foreach my $round (1 .. 3)
{
	# the cloud's worker stops in the first reader's request; the second reader's comes then
	$lock->query_safe('BEGIN; LOCK TABLE ehr IN ACCESS EXCLUSIVE MODE');
	$readers[0]->query_until(qr/asked/, "\\echo asked\nSELECT count(*) AS n FROM apm_fetch('p', 'treatment');\n");
	wait_for($cloud, 'postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'),
		'the worker waits for the cloud');
	$readers[1]->query_until(qr/asked/, "\\echo asked\nSELECT count(*) AS n FROM apm_fetch('p', 'treatment');\n");
	# its query is final and the network server has nothing left to do: it has been answered, and asks the cloud
	wait_for($node, 'clinic', "SELECT count(*) = 2 * $round FROM apm.final_transaction WHERE kind = 3", 'the second query is final');
	wait_for($node, 'clinic', q(SELECT bool_and(state = 'idle') FROM apm_worker_status() WHERE worker <> 'apm cloud'), 'and answered')
	  foreach 1 .. 3;
	$lock->query_safe('COMMIT');
	foreach my $reader (@readers)
	{
		is($reader->query('SELECT 1'), "1\n1", 'a reader has his answer');
	}
}

$_->quit foreach @readers, $lock;
$node->stop;
$cloud->stop;
done_testing();
