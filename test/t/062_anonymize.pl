# What calls of apm_anonymize() share is of now: not of before our own transaction changed something or took it back, not
# of before another role, and in a statement that lasts not of before another session's doing.
#
# anonymize() below is one place that calls, for all calls of a transaction.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('hospital');
my $given = q('{"Firstname": "Amina", "diagnosis": "flu"}');

$node->safe_psql(
	'clinic', q(
	CREATE ROLE doctor LOGIN IN ROLE apm_clinician, apm_registrar, apm_admin; CREATE ROLE clerk IN ROLE apm_registrar; GRANT clerk TO doctor;
	CREATE FUNCTION anonymize(pid text, record jsonb) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN RETURN apm_anonymize(pid, record); END $$;
	-- anonymizes until that fails
	CREATE PROCEDURE go_on(pid text, record jsonb) LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(1); LOOP PERFORM length(anonymize(pid, record)); END LOOP; END $$;));

sub as { my ($sql) = @_; return in_session($node, 'clinic', 'doctor', $sql) }
sub fails_as { my ($sql, $state, $pattern, $name) = @_; return fails_in_session($node, 'clinic', 'doctor', $sql, $state, $pattern, $name) }
sub register { my ($pid) = @_; return "SELECT apm_register_patient('$pid', '{\"Firstname\": \"Amina\"}');" }
sub anonymize { my ($pid) = @_; return "SELECT length(anonymize('$pid', $given)) > 0;" }

as(register($_)) foreach qw(p r);
wait_for($node, 'clinic', 'SELECT count(*) = 2 FROM apm.ledger_patient', 'the patients are on the chain');

is(as('BEGIN;' . anonymize('p') . anonymize('p') . 'COMMIT;'), "t\nt", 'a transaction anonymizes twice');
is(as(q(SELECT count(DISTINCT a) FROM (SELECT apm_anonymize('p', '{"a": 1}') AS a FROM generate_series(1, 50)) AS s)), '50', 'no two are alike');

as(q(SELECT apm_register_patient('many' || i, '{"Firstname": "A"}') FROM generate_series(1, 60) AS i));
is(as(q(SELECT count(DISTINCT apm_anonymize('many' || 1 + i % 60, '{"a": 1}')) FROM generate_series(1, 300) AS i)), '300', 'nor of many patients');

# our own transaction
fails_as('BEGIN;' . anonymize('p') . q(SELECT apm_update_patient('p', '{"Firstname": "Leila"}');) . anonymize('p'),
	'AP015', qr/identifying attributes are not the patient's/, 'a change of the profile is seen');
fails_as('BEGIN; SAVEPOINT s;' . register('q') . anonymize('q') . 'ROLLBACK TO s;' . anonymize('q'),
	'AP009', qr/no such patient/, 'so is a registration that was taken back');
is(as('BEGIN;' . anonymize('p') . register('q') . anonymize('q') . 'COMMIT;'), "t\n\nt", 'and one that was not');
fails_as('BEGIN;' . anonymize('p') . q(SELECT apm_declare_attribute('diagnosis', 'identifying');) . anonymize('p'),
	'AP015', qr/identifying attributes are not the patient's/, 'and a declaration');
fails_as('BEGIN;' . anonymize('p') . 'SET LOCAL ROLE clerk;' . anonymize('p'),
	'42501', qr/permission denied to anonymize records/, 'and another role');
fails_as('BEGIN;' . anonymize('r') . q(SELECT apm_forget('r', 'consent-withdrawn');) . anonymize('r'),
	'AP009', qr/no such patient/, 'and that he is forgotten');

# another session's
my ($out, $err) = ('', '');
my $loop = IPC::Run::start([ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('clinic') . ' user=doctor', '-c', "CALL go_on('r', $given)" ],
	'<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
wait_for($node, 'clinic', q(SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory'), 'a statement anonymizes on and on');
as(q(SELECT apm_forget('r', 'consent-withdrawn')));
$loop->finish;
like($err, qr/AP009: no such patient/, 'it ends when the patient is forgotten');

$node->stop;
done_testing();
