# Databases that are not in UTF-8: what is sealed is UTF-8 all the same, so that it means
# the same after a move to another encoding.
use strict;
use warnings;

use ApmTest;
use PostgreSQL::Test::Utils;
use Test::More;

# the workers watch databases that are made below
my $node = apm_node('hospital', databases => [], settings => { 'apm.databases' => 'latin1, ascii' });
my $arrived = q{SELECT NOT EXISTS (SELECT FROM apm.queue) AND NOT EXISTS (SELECT FROM apm.pool)
	AND NOT EXISTS (SELECT FROM apm.final_queue)};

$node->safe_psql('postgres', q{CREATE ROLE app; CREATE ROLE clerk; GRANT USAGE ON SCHEMA public TO app, clerk});
foreach my $case ([ 'latin1', 'LATIN1' ], [ 'ascii', 'SQL_ASCII' ])
{
	my ($database, $encoding) = @$case;

	$node->safe_psql('postgres',
		"CREATE DATABASE $database ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
	$node->safe_psql($database, q{CREATE EXTENSION apm CASCADE});
	$node->safe_psql($database, q{SELECT apm_keygen()});
	$node->safe_psql($database, q{SELECT apm_setup()});
	$node->safe_psql($database, q{GRANT apm_clinician TO app; GRANT apm_registrar TO clerk});

	# clients speak UTF-8; SQL_ASCII passes it on, LATIN1 has it converted
	my $client = $encoding eq 'LATIN1' ? q{SET client_encoding = 'UTF8'; } : '';
	my $reads = sub { return query($node, $database, "$client$_[0]", $_[1] // 'app') };

	$reads->(q{SELECT apm_register_patient('René', '{"Firstname": "Zoë"}')}, 'clerk');
	$reads->(q{SELECT apm_submit('René', jsonb_build_object('größe', 'äöü', 'long', repeat('é', 200000)))});
	wait_for($node, $database, $arrived, "$encoding: the record arrived");
	is($reads->(q{SELECT record - 'long', record ->> 'long' = repeat('é', 200000) FROM apm_fetch('René')}),
		'{"größe": "äöü", "Firstname": "Zoë"}|t', "$encoding: it came back");
	is($reads->(q{SELECT apm_deanonymize(apm_anonymize('René', '{"größe": "ç"}'))}), '{"größe": "ç", "Firstname": "Zoë"}',
		"$encoding: Method 1 and Method 2");
	if ($encoding eq 'LATIN1')
	{
		# one pid, whatever the client speaks
		fails_with($node, $database, qq{SET client_encoding = 'LATIN1'; SELECT apm_register_patient(E'Ren\xe9', '{"Firstname": "Z"}')},
			'AP014', qr/registered already/, 'LATIN1: the same pid in another client encoding', 'clerk');
	}
	else
	{
		# bytes that are no UTF-8 cannot be sealed as such, and the message does not show them
		fails_with($node, $database, q{SELECT apm_submit(E'Ren\xe9', '{"a": 1}')}, '22021', qr/^the pid is not valid as UTF-8$/m,
			'SQL_ASCII: a pid in another encoding', 'app');
		fails_with($node, $database, q{SELECT apm_submit('René', to_jsonb(E'Ren\xe9'::text))}, '22021',
			qr/^the record is not valid as UTF-8$/m, 'SQL_ASCII: a record in another encoding', 'app');
		fails_with($node, $database, q{SELECT apm_submit('René', jsonb_build_object('Firstname', E'Zo\xeb'))}, '22021',
			qr/ is not valid as UTF-8$/m, 'SQL_ASCII: a name in another encoding', 'app');
	}
}

# a profile with characters that the database cannot hold, as after a move: refused, not mangled
$node->safe_psql('ascii', q{GRANT apm_admin TO app});
query($node, 'ascii', q{SELECT apm_register_patient('moved', '{"Firstname": "حمى"}')}, 'clerk');
$node->safe_psql('postgres', q{ALTER SYSTEM SET apm.databases = ''});
$node->reload;
poll($node, 'postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE datname IN ('ascii', 'latin1')})
  or die 'the workers did not leave';
my $dump = $node->basedir . '/patients.sql';
$node->command_ok([ 'pg_dump', '--data-only', '-t', 'apm.patient', '-t', 'apm.profile', '-f', $dump, $node->connstr('ascii') ],
	'patients dumped');
$node->safe_psql('latin1', q{DELETE FROM apm.patient; DELETE FROM apm.profile});
$node->command_ok([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('latin1') ], 'and restored');
fails_with($node, 'latin1', q{SET client_encoding = 'UTF8'; SELECT apm_submit('moved', '{"a": 1}')}, '22P05',
	qr/characters that this database's encoding does not have$/m, 'a profile from another encoding', 'app');

done_testing();
